package consumer

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadme runs the code of README.md as its reader would: the app and its
// test in one folder, first with -update, then without.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	// In this module, whose go.mod has what the code needs.
	dir, err := os.MkdirTemp(".", "readme")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	blocks := 0
	for _, part := range strings.Split(string(readme), "```go\n")[1:] {
		code, _, closed := strings.Cut(part, "\n```")
		if !closed || !strings.HasPrefix(code, "package main") {
			t.Fatalf("a block of Go is no file:\n%s", code)
		}
		name := "main.go"
		if strings.Contains(code, "func Test") {
			name = "main_test.go"
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		blocks++
	}
	if blocks != 2 {
		t.Fatalf("README has %d blocks of Go, want the app and its test", blocks)
	}
	for _, args := range [][]string{{"vet", "."}, {"test", ".", "-update"}, {"test", ".", "-count=1"}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CDK_VALIDATION=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
