package scratch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestDir(t *testing.T) {
	parent := t.TempDir()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	made := map[string]bool{ // and whether it must stay
		fmt.Sprintf("%s-%d-1", name, gone.Process.Pid): false,
		fmt.Sprintf("%s-%d-1", name, os.Getpid()):      true,
		name + "-x-1":  true,
		name + "-0-1":  true,
		name + "--1-1": true,
		"other-1-1":    true,
	}
	for dir := range made {
		if err := os.MkdirAll(filepath.Join(parent, dir, "within"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(parent, fmt.Sprintf("%s-%d-2", name, gone.Process.Pid))
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	made[filepath.Base(file)] = true
	for range 2 {
		dir, err := Dir(parent)
		if err != nil {
			t.Fatal(err)
		}
		made[filepath.Base(dir)] = true
	}
	for dir, stays := range made {
		if _, err := os.Lstat(filepath.Join(parent, dir)); (err == nil) != stays {
			t.Errorf("%s: %v, must stay: %t", dir, err, stays)
		}
	}
	if len(made) != 9 {
		t.Errorf("%d folders", len(made))
	}
}
