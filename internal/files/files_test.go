package files_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/files"
)

func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if err == nil && path != dir {
				all[path+"/"] = ""
			}
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = string(data)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

// TestWrite: all of the files or none, and nothing lost.
func TestWrite(t *testing.T) {
	written := []files.File{{Path: "a", Content: []byte("new a")}, {Path: "b/c/d", Content: []byte("new d")}, {Path: "e", Content: []byte("new e")}}
	dir := filepath.Join(t.TempDir(), "x", "y")
	if err := files.Write(dir, written, false); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, dir); len(got) != 5 || got[filepath.Join(dir, "b", "c", "d")] != "new d" {
		t.Errorf("wrote %v", got)
	}

	// Nothing is replaced, unless it is asked for.
	before := tree(t, dir)
	written[0].Content = []byte("newer")
	var exists *files.ExistsError
	if err := files.Write(dir, append(written, files.File{Path: "f"}), false); !errors.As(err, &exists) || exists.Path != filepath.Join(dir, "a") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if err := files.Write(dir, written, true); err != nil || tree(t, dir)[filepath.Join(dir, "a")] != "newer" {
		t.Errorf("%v: %v", err, tree(t, dir))
	}

	// A file where a folder must be: what was there before is there after.
	before = tree(t, dir)
	bad := []files.File{{Path: "a", Content: []byte("lost")}, {Path: "g/h", Content: []byte("half")}, {Path: "e/f", Content: []byte("no")}}
	if err := files.Write(dir, bad, true); err == nil || !strings.Contains(err.Error(), "is a file") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}

	// A folder that was made for nothing is gone.
	fresh := filepath.Join(t.TempDir(), "p", "q")
	if err := files.Write(fresh, []files.File{{Path: "a"}, {Path: "a/b"}}, false); err == nil {
		t.Error("a file is a folder too")
	}
	if _, err := os.Stat(filepath.Dir(fresh)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", tree(t, filepath.Dir(fresh)))
	}
}

// TestAbandon: an interrupt discards what is not in its place, and leaves alone
// what is.
func TestAbandon(t *testing.T) {
	discarded, stopped := 0, 0
	work := func() *files.Work { return files.Begin(func() { discarded++ }) }
	stop := func() { stopped++ }

	a, b := work(), work()
	if err := b.Publish(func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if files.Abandon(stop) || stopped+discarded != 0 {
		t.Errorf("one is in its place: stopped %d, discarded %d", stopped, discarded)
	}
	b.End()
	if !files.Abandon(stop) || stopped != 1 || discarded != 1 {
		t.Errorf("stopped %d, discarded %d, want 1 and 1", stopped, discarded)
	}
	if err := a.Publish(func() error { t.Error("published what was abandoned"); return nil }); err == nil {
		t.Error("no error")
	}
	a.End()
	if discarded != 1 {
		t.Errorf("discarded %d times", discarded)
	}

	failed := work()
	if err := failed.Publish(func() error { return os.ErrPermission }); !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v", err)
	}
	failed.End()
	if discarded != 2 {
		t.Errorf("what could not be published is not discarded")
	}
}

// TestHeld: what is held ends by itself, and an interrupt waits for it.
func TestHeld(t *testing.T) {
	stopped := 0
	stop := func() { stopped++ }
	discarded := 0
	w := files.Begin(func() { discarded++ })
	defer w.End()
	release := files.Hold()
	if files.Abandon(stop) || stopped+discarded > 0 {
		t.Errorf("abandoned while held: stopped %d, discarded %d", stopped, discarded)
	}
	release()
	if !files.Abandon(stop) || stopped != 1 || discarded != 1 {
		t.Errorf("not abandoned after that: stopped %d, discarded %d", stopped, discarded)
	}
}
