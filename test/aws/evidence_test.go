//go:build aws

package aws_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ekskms/ekskms/internal/evidence"
	"github.com/ekskms/ekskms/internal/evidence/evidencetest"
)

// TestIntegrity: what is found of the record is what the classes of 'aws cloudtrail
// validate-logs' find, of each way to change it, and what they don't look for.
func TestIntegrity(t *testing.T) {
	const key = "arn:aws:kms:eu-central-1:111122223333:key/c639a1da-c5a7-4742-2265-e05a310e579d"
	noon := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	logOf := func(trail *evidencetest.Trail, digest string) string {
		return trail.ReadDigest(digest).LogFiles[0].Object
	}
	for name, tt := range map[string]struct {
		tamper func(*evidencetest.Trail, []string)
		// sees tells whether theirs finds it.
		sees bool
	}{
		"nothing": {nil, false},
		"a byte of a log file": {func(trail *evidencetest.Trail, d []string) {
			name := logOf(trail, d[3])
			trail.Objects[name] = evidencetest.Object{Data: evidencetest.Pack(bytes.Replace(evidencetest.Unpack(trail.Objects[name].Data), []byte("plugin"), []byte("plugim"), 1))}
		}, true},
		"a log file removed":    {func(trail *evidencetest.Trail, d []string) { delete(trail.Objects, logOf(trail, d[3])) }, true},
		"a digest file removed": {func(trail *evidencetest.Trail, d []string) { delete(trail.Objects, d[3]) }, true},
		"a digest file changed": {func(trail *evidencetest.Trail, d []string) {
			o := trail.Objects[d[3]]
			o.Data = evidencetest.Pack(bytes.Replace(evidencetest.Unpack(o.Data), []byte("SHA-256"), []byte("SHA-257"), 1))
			trail.Objects[d[3]] = o
		}, true},
		"signed again": {func(trail *evidencetest.Trail, d []string) {
			forger := evidencetest.New("111122223333", "eu-central-1")
			forger.Store = trail.Store
			digest := trail.ReadDigest(d[3])
			forger.Sign(digest)
		}, true},
		"two exchanged": {func(trail *evidencetest.Trail, d []string) {
			trail.Objects[d[3]], trail.Objects[d[4]] = trail.Objects[d[4]], trail.Objects[d[3]]
		}, true},
		"a log file added": {func(trail *evidencetest.Trail, _ []string) {
			at := noon.Add(3*time.Hour + 10*time.Minute)
			trail.Deliver(at, evidencetest.Event(at, "Decrypt", key, "arn:aws:iam::111122223333:role/Framed", nil))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			trail := evidencetest.New("111122223333", "eu-central-1")
			var digests []string
			for i := range 8 {
				at := noon.Add(time.Duration(i) * time.Hour)
				trail.Deliver(at.Add(20*time.Minute), evidencetest.Event(at.Add(15*time.Minute), "Decrypt", key, "arn:aws:iam::111122223333:role/plugin", nil))
				digests = append(digests, trail.Digest(at.Add(time.Hour)))
			}
			if tt.tamper != nil {
				tt.tamper(trail, digests)
			}
			dir := t.TempDir()
			keys := filepath.Join(t.TempDir(), "keys.json")
			if err := trail.WriteTo(dir, true); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(keys, trail.PublicKeys(), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(filepath.Join(os.Getenv("EKSKMS_AWS_VENV"), "bin", "python"), "validate.py", dir, keys, trail.BucketName, "111122223333", "eu-central-1", trail.Name, noon.Format("2006-01-02T15:04:05+00:00"), noon.Add(9*time.Hour).Format("2006-01-02T15:04:05+00:00"))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, stderr.Bytes())
			}
			var theirs struct {
				Digests, Logs int
				Found         []struct{ Kind, Message string }
			}
			if err := json.Unmarshal(out, &theirs); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			logs, err := evidence.Read(t.Context(), evidence.Folder(dir), evidence.Options{Key: key, Sums: true})
			if err != nil {
				t.Fatal(err)
			}
			public, err := evidence.ParsePublicKeys(trail.PublicKeys())
			if err != nil {
				t.Fatal(err)
			}
			ours, err := evidence.Validate(t.Context(), evidence.Folder(dir), logs, public)
			if err != nil {
				t.Fatal(err)
			}
			if (len(theirs.Found) > 0) != tt.sees || (len(ours.Faults) > 0) != (tt.tamper != nil) {
				t.Errorf("theirs %+v, ours %+v", theirs.Found, ours.Faults)
			}
			if of := ours.Trails[0]; of.Digests != theirs.Digests || of.LogFiles != theirs.Logs {
				t.Errorf("verified %d digest files and %d log files, theirs %d and %d: theirs %+v, ours %+v", of.Digests, of.LogFiles, theirs.Digests, theirs.Logs, theirs.Found, ours.Faults)
			}
		})
	}
}
