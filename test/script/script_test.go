//go:build !race

// Package script runs the command line as a user types it: one file of
// testdata for each thing that users do, or get wrong.
package script

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/cli"
	"github.com/ekskms/ekskms/internal/evidence/evidencetest"
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
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "aws": aws, "aws-set": awsSet, "aws-key": awsKey, "trail": trail, "trail-tamper": trailChanged, "trail-other": trailOther},
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

// trail writes the log files of two days into a folder, with the public keys beside it.
func trail(ts *testscript.TestScript, neg bool, args []string) {
	const (
		key    = "arn:aws:kms:eu-central-1:111122223333:key/c639a1da-c5a7-4742-2265-e05a310e579d"
		plugin = "arn:aws:iam::111122223333:role/ekskms-payments-EncryptedClusterKmsPluginRoleC6DF9AF0-ABCDEFGHIJKL"
		role   = "arn:aws:iam::111122223333:role/"
	)
	if neg || len(args) != 1 {
		ts.Fatalf("usage: trail folder")
	}
	dir := ts.MkAbs(args[0])
	ts.Setenv("KEY", key)
	noon := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	t := evidencetest.New("111122223333", "eu-central-1")
	t.BucketName = "audit-logs"
	for i := range 48 {
		at := noon.Add(time.Duration(i) * time.Hour)
		t.Deliver(at.Add(20*time.Minute),
			evidencetest.Event(at, "Decrypt", key, "eks.amazonaws.com", evidencetest.Material("aaaa1111", evidencetest.Context("aws:eks:context", "not-to-be-shown"))),
			evidencetest.Event(at, "Decrypt", key, plugin, evidencetest.Context("ekskms:cluster-arn", "not-to-be-shown")),
			evidencetest.Event(at, "Decrypt", key, role+"SomebodyElse", nil))
		t.Digest(at.Add(time.Hour))
	}
	t.Deliver(noon.Add(49*time.Hour), evidencetest.Rotation(noon.Add(49*time.Hour), key, "AUTOMATIC", "aaaa1111", "bbbb2222"), evidencetest.Event(noon.Add(48*time.Hour), "PutKeyPolicy", key, role+"Admin", nil))
	if of, _ := fakes.Load(ts.Getenv("WORK")); of != nil { // as a bucket, too
		fake := of.(*livetest.AWS)
		fake.Objects, fake.SigningKeys = map[string]livetest.Object{}, map[string][]byte{t.Fingerprint(): t.DER()}
		fake.Rotations = map[string][]any{key: {map[string]any{"KeyId": key, "RotationDate": float64(noon.Add(49 * time.Hour).Unix()), "RotationType": "AUTOMATIC", "KeyMaterialId": "bbbb2222"}}}
		for name, o := range t.Objects {
			fake.Objects[t.BucketName+"/"+name] = livetest.Object(o)
		}
	}
	ts.Check(os.RemoveAll(dir))
	ts.Check(t.WriteTo(dir, true))
	ts.Check(os.WriteFile(ts.MkAbs("keys.json"), t.PublicKeys(), 0o644))
}

// trailChanged changes a file of a trail.
func trailChanged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: trail-tamper folder")
	}
	files, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "AWSLogs/*/CloudTrail/*/*/*/*/*.json.gz"))
	ts.Check(err)
	data, err := os.ReadFile(files[0])
	ts.Check(err)
	text := bytes.Replace(evidencetest.Unpack(data), []byte("SomebodyElse"), []byte("SomebodyElze"), 1)
	ts.Check(os.WriteFile(files[0], evidencetest.Pack(text), 0o644))
}

// trailOther adds a use of another key.
func trailOther(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: trail-other folder")
	}
	at := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	t := evidencetest.New("111122223333", "eu-central-1")
	t.Deliver(at, evidencetest.Event(at, "Decrypt", "arn:aws:kms:eu-central-1:111122223333:key/99999999-aaaa-4bbb-8ccc-dddddddddddd", "arn:aws:iam::111122223333:role/Other", nil))
	ts.Check(t.WriteTo(ts.MkAbs(args[0]), false))
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
