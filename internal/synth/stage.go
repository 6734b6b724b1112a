package synth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/files"
	"github.com/ekskms/ekskms/internal/hint"
)

// stagePrefix begins the name of the folder, within that of the assembly, in
// which a synthesis works. Only what is complete is moved out of it.
const stagePrefix = ".ekskms-synth-"

// stage is a synthesis in progress.
type stage struct {
	outdir  string
	dir     string
	created bool // outdir was not there before
	work    *files.Work
}

// openStage checks that the folder may be written, which it may if it is empty
// or a cloud assembly, and makes the stage in it.
func openStage(outdir string) (*stage, error) {
	const advice = "choose another folder with --out"
	fail := func(what string, err error) error {
		return &hint.Error{What: fmt.Sprintf("can't %s the output folder: %v", what, err), Hint: advice}
	}
	s := &stage{outdir: outdir}
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
	assembly := isAssembly(outdir)
	for _, entry := range entries {
		if !assembly && !strings.HasPrefix(entry.Name(), stagePrefix) {
			return nil, &hint.Error{
				What: fmt.Sprintf("the output folder %s has files in it, such as %s, and is no cloud assembly", outdir, entry.Name()),
				Hint: "choose an empty folder with --out",
			}
		}
	}
	if s.dir, err = os.MkdirTemp(outdir, stagePrefix); err != nil {
		return nil, fail("write to", err)
	}
	s.work = files.Begin(s.discard)
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

// written tells what CDK writes into the folder of an assembly. Whatever else lies there
// was put there by somebody, and stays.
func written(name string) bool {
	begins := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	ends := func(suffix string) bool { return strings.HasSuffix(name, suffix) }
	return slices.Contains([]string{"cdk.out", "manifest.json", "tree.json", "validation-report.json"}, name) ||
		slices.ContainsFunc([]string{"asset.", "assembly-"}, begins) ||
		slices.ContainsFunc([]string{".template.json", ".template.yaml", ".assets.json", ".metadata.json"}, ends)
}

// publish moves the finished assembly to its place, and removes what is left of an older
// one: stacks that are gone, and a report of validation that was not asked for now.
func (s *stage) publish() error {
	made, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	fresh := map[string]bool{}
	for _, entry := range made {
		fresh[entry.Name()] = true
		to := filepath.Join(s.outdir, entry.Name())
		if entry.IsDir() {
			// An asset is named by the hash of what is in it.
			if _, err := os.Stat(to); err == nil && strings.HasPrefix(entry.Name(), "asset.") {
				continue
			}
			if err := os.RemoveAll(to); err != nil {
				return err
			}
		}
		if err := os.Rename(filepath.Join(s.dir, entry.Name()), to); err != nil {
			return err
		}
	}
	there, err := os.ReadDir(s.outdir)
	if err != nil {
		return err
	}
	for _, entry := range there {
		if name := entry.Name(); written(name) && !fresh[name] {
			if err := os.RemoveAll(filepath.Join(s.outdir, name)); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(s.dir)
}

// discard removes the stage, and the output folder if it was made for nothing.
func (s *stage) discard() {
	_ = os.RemoveAll(s.dir)
	if s.created {
		_ = os.Remove(s.outdir) // which leaves a folder with files in it alone
	}
}
