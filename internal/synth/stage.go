package synth

import (
	_ "embed" // for direct.js
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// folder is a folder that is removed in the end, whatever happens.
type folder struct {
	mutex sync.Mutex
	path  string
}

func (f *folder) set(path string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.path = path
}

func (f *folder) remove() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.path != "" {
		_ = os.RemoveAll(f.path)
		f.path = ""
	}
}

// temp holds the temporary files of jsii and CDK, and staged what is not yet
// published of an assembly.
var temp, staged folder

//go:embed direct.js
var direct []byte

// open returns the folder, and makes it if there is none.
func (f *folder) open() (string, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.path != "" {
		return f.path, nil
	}
	dir, err := os.MkdirTemp("", "ekskms-")
	if err != nil {
		return "", err
	}
	f.path = dir
	return dir, os.WriteFile(filepath.Join(dir, "direct.js"), direct, 0o600)
}

// stageName is the folder, within that of the assembly, in which a synthesis
// works. Only what is complete is moved out of it.
const stageName = ".ekskms-synth"

// stage is a synthesis in progress.
type stage struct {
	outdir  string
	dir     string
	created bool // outdir was not there before
}

// openStage checks that the folder may be written, which it may if it is empty
// or a cloud assembly, and makes the stage in it.
func openStage(outdir string) (*stage, error) {
	const hint = "choose another folder with --out"
	fail := func(what string, err error) error {
		return &Error{What: fmt.Sprintf("can't %s the output folder: %v", what, err), Hint: hint}
	}
	s := &stage{outdir: outdir, dir: filepath.Join(outdir, stageName)}
	if _, err := os.Stat(outdir); errors.Is(err, fs.ErrNotExist) {
		s.created = true
	}
	if err := os.MkdirAll(outdir, 0o755); err != nil {
		return nil, fail("make", err)
	}
	entries, err := os.ReadDir(outdir)
	if err != nil {
		return nil, fail("read", err)
	}
	for _, entry := range entries {
		if entry.Name() != stageName && !isAssembly(outdir) {
			return nil, &Error{
				What: fmt.Sprintf("the output folder %s has files in it, such as %s, and is no cloud assembly", outdir, entry.Name()),
				Hint: "choose an empty folder with --out",
			}
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return nil, fail("write to", err)
	}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		return nil, fail("write to", err)
	}
	staged.set(s.dir)
	if s.created {
		staged.set(outdir)
	}
	return s, nil
}

// isAssembly tells whether CDK wrote the folder: it leaves a file cdk.out there.
func isAssembly(dir string) bool {
	for _, name := range []string{"cdk.out", "manifest.json"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.Mode().IsRegular() {
			return false
		}
	}
	return true
}

// publish moves the finished assembly to its place, over an older one.
func (s *stage) publish() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		to := filepath.Join(s.outdir, entry.Name())
		if entry.IsDir() {
			if err := os.RemoveAll(to); err != nil {
				return err
			}
		}
		if err := os.Rename(filepath.Join(s.dir, entry.Name()), to); err != nil {
			return err
		}
	}
	staged.set(s.dir)
	return nil
}

// close removes the stage, and the output folder if it was made for nothing.
func (s *stage) close() { staged.remove() }
