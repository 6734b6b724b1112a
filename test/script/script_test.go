//go:build !race

// Package script runs the command line as a user types it: one file of
// testdata for each thing that users do, or get wrong.
package script

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ekskms/ekskms/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ekskms": cli.Main})
}

func TestScripts(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("REPO", root)
			// Support of Kubernetes versions is judged as of 2026-11-27.
			env.Setenv("SOURCE_DATE_EPOCH", "1795737600")
			// Libraries stay unpacked there; without it every command would
			// unpack them again.
			env.Setenv("XDG_CACHE_HOME", filepath.Join(os.TempDir(), "ekskms-script-cache"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits wants a command to end with an exit code: exits 2 ekskms --nonsense.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program [args]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("the exit code is %d, want %d", got, want)
	}
}
