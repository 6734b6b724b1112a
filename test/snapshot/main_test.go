//go:build !race

// Package snapshot holds the templates of the default and of every example
// against what they must say, against their goldens, and against judges that
// did not write them.
//
// It is kept out of race runs, in which jsii reports its own Close.
package snapshot

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/scratch"
	"github.com/ekskms/ekskms/internal/synth"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// templates holds the synthesized template of the default and of each example,
// by name. Tests must not change them: see clone.
var templates = map[string]template{}

// assembly is the folder of the default's cloud assembly.
var assembly string

func TestMain(m *testing.M) {
	// Support of Kubernetes versions is judged as of 2026-11-27.
	_ = os.Setenv("SOURCE_DATE_EPOCH", "1795737600")
	flag.Parse()
	code := 1
	if err := synthesizeAll(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	synth.Close()
	_ = os.RemoveAll(assembly)
	os.Exit(code)
}

func synthesizeAll() error {
	files, err := configurations()
	if err != nil {
		return err
	}
	for name, file := range files {
		dir, err := scratch.Dir("")
		if err != nil {
			return err
		}
		t, _, err := synthesize(dir, file, false)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		templates[name] = t
		if name == "default" {
			assembly = dir
		} else if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// configurations returns the default and the examples.
func configurations() (map[string]*config.File, error) {
	files := map[string]*config.File{"default": config.Default()}
	paths, err := filepath.Glob("../../examples/*/ekskms.yaml")
	if err != nil {
		return nil, err
	}
	if len(paths) < 3 {
		return nil, fmt.Errorf("found %d examples, want at least 3", len(paths))
	}
	for _, path := range paths {
		file, err := config.Load(path)
		if err != nil {
			return nil, err
		}
		files[filepath.Base(filepath.Dir(path))] = file
	}
	return files, nil
}

func synthesize(dir string, file *config.File, validate bool) (template, *synth.Report, error) {
	report, err := synth.Run(context.Background(), file, synth.Options{Outdir: dir, Validate: validate})
	if err != nil {
		return nil, nil, err
	}
	if len(report.Stacks) != 1 {
		return nil, nil, fmt.Errorf("got %d stacks, want 1", len(report.Stacks))
	}
	data, err := os.ReadFile(report.Stacks[0].Template)
	if err != nil {
		return nil, nil, err
	}
	var t template
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, nil, err
	}
	return t, report, nil
}

// mustSynthesize synthesizes a configuration that a test makes up.
func mustSynthesize(t *testing.T, yaml string) template {
	t.Helper()
	file, err := config.Parse(config.Source{Name: "ekskms.yaml", Data: []byte(yaml)})
	if err != nil {
		t.Fatal(err)
	}
	result, _, err := synthesize(t.TempDir(), file, false)
	if err != nil {
		t.Fatal(err)
	}
	return result
}
