//go:build !race

// Package script runs the command line as a user types it: one file of
// testdata for each thing that users do, or get wrong.
package script

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/cli"
	"github.com/ekskms/ekskms/internal/live/livetest"
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
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "aws": aws, "aws-set": awsSet, "aws-key": awsKey},
	})
}

// fakes are those of the scripts that run.
var fakes sync.Map

// aws starts a fake AWS with an account, in which the credentials of the script are, and
// another. What a cloud assembly has is deployed there.
func aws(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: aws [assembly]")
	}
	const sets = ":role/aws-reserved/sso.amazonaws.com/eu-central-1/"
	fake := &livetest.AWS{
		Account: "111122223333",
		AddOns: map[string]map[string]map[string][]string{"eu-central-1": {"coredns": {
			"1.35": {"v1.13.2-eksbuild.9", "v1.13.2-eksbuild.10", "v1.12.4-eksbuild.1"}, "1.36": {"v1.14.0-eksbuild.1"},
		}}},
		Roles: []string{
			"arn:aws:iam::111122223333" + sets + "AWSReservedSSO_Admin_0123456789abcdef",
			"arn:aws:iam::444455556666" + sets + "AWSReservedSSO_Admin_fedcba9876543210",
		},
		Assumable: []string{"arn:aws:iam::444455556666:role/Reader"},
	}
	for _, dir := range args {
		assembly, err := cfn.Load(ts.MkAbs(dir), cfn.Environment{ElseAccount: fake.Account, ElseRegion: "eu-central-1"})
		ts.Check(err)
		fake.Deploy(assembly)
	}
	fakes.Store(ts.Getenv("WORK"), fake)
	server := fake.Start()
	ts.Defer(server.Close)
	for _, v := range livetest.Environment(server.URL) {
		name, value, _ := strings.Cut(v, "=")
		ts.Setenv(name, value)
	}
}

// awsSet changes a property of something in the fake AWS: its type, a text that is in its
// name or its properties, the property, and its value in JSON. As a property, "-" takes it
// away, and "refuse" refuses an action, which stands in place of the type.
func awsSet(ts *testscript.TestScript, neg bool, args []string) {
	defer func() {
		if r := recover(); r != nil {
			ts.Fatalf("%v", r)
		}
	}()
	of, _ := fakes.Load(ts.Getenv("WORK"))
	fake, ok := of.(*livetest.AWS)
	switch {
	case neg || !ok || len(args) < 2:
		ts.Fatalf("usage: aws-set type text property JSON | type text - | action refuse")
	case args[1] == "refuse":
		fake.Refused = append(fake.Refused, args[0])
	case args[2] == "-":
		fake.Remove(fake.Find(args[0], args[1]))
	default:
		var v any
		ts.Check(json.Unmarshal([]byte(args[3]), &v))
		fake.Find(args[0], args[1]).Properties[args[2]] = v
	}
}

// awsKey sets $KEY to the ARN of a key in the fake AWS.
func awsKey(ts *testscript.TestScript, neg bool, args []string) {
	of, _ := fakes.Load(ts.Getenv("WORK"))
	fake, ok := of.(*livetest.AWS)
	if neg || !ok || len(args) != 1 {
		ts.Fatalf("usage: aws-key logical-ID")
	}
	ts.Setenv("KEY", fake.Find("AWS::KMS::Key", args[0]).ARN)
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
