//go:build !race

package synth

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/config"
)

// inParts has fleets of a few clusters built by several processes.
func inParts(t *testing.T) {
	above, size := partsAbove, partSize
	partsAbove, partSize = 1, 7
	t.Cleanup(func() { partsAbove, partSize = above, size })
}

// texts are the files of an assembly. Those that processes merge are there as what they say.
func texts(t *testing.T, dir string) map[string]any {
	t.Helper()
	all := map[string]any{}
	for name, text := range contents(t, dir) {
		all[name] = text
		if slices.Contains([]string{manifestName, treeName, validationName}, name) {
			var said any
			if err := json.Unmarshal([]byte(text), &said); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			all[name] = said
		}
	}
	return all
}

// TestParts: a fleet that several processes build is the one that one process builds, with
// waves, keys in another account and VPCs that are shared.
func TestParts(t *testing.T) {
	for _, path := range []string{"../../examples/06_fleet/fleet.yaml", "../../examples/10_key_account/fleet.yaml", "testdata/network.yaml"} {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			file, err := config.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			one, several := t.TempDir(), t.TempDir()
			if _, err := Run(t.Context(), file, Options{Outdir: one}); err != nil {
				t.Fatal(err)
			}
			inParts(t)
			if n := len(parts(file, "", nil, false)); n < 2 {
				t.Fatalf("%d parts", n)
			}
			if _, err := Run(t.Context(), file, Options{Outdir: several}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(texts(t, one), texts(t, several)); diff != "" {
				t.Errorf("(-one process +several):\n%s", diff[:min(len(diff), 4000)])
			}
		})
	}
}

// TestPartFails: what one process says is the error of all, and nothing is left.
func TestPartFails(t *testing.T) {
	file, err := config.Load("../../examples/06_fleet/fleet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	inParts(t)
	file.Clusters[len(file.Clusters)-1].Overrides = map[string]string{"EncryptionConfig": "[]"}
	file.Clusters[2].KubernetesVersion = ""
	file.Clusters[2].VPC.AvailabilityZones = []string{"eu-central-1a"} // of which a construct wants two
	outdir := filepath.Join(t.TempDir(), "out")
	_, err = Run(t.Context(), file, Options{Outdir: outdir})
	if err == nil || !strings.Contains(err.Error(), "AvailabilityZones has 1 elements, EKS needs at least 2") || strings.Contains(err.Error(), "goroutine") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(outdir); !os.IsNotExist(err) {
		t.Errorf("the output folder is there: %v", err)
	}
	if len(running.all) > 0 {
		t.Errorf("%d processes are left", len(running.all))
	}
}

// TestPartsEnd: who is interrupted leaves neither processes nor files.
func TestPartsEnd(t *testing.T) {
	file, err := config.Load("../../examples/06_fleet/fleet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	inParts(t)
	ctx, cancel := context.WithCancel(t.Context())
	outdir, done := filepath.Join(t.TempDir(), "out"), make(chan error)
	go func() {
		_, err := Run(ctx, file, Options{Outdir: outdir})
		done <- err
	}()
	for started := false; !started; time.Sleep(5 * time.Millisecond) {
		running.Lock()
		started = len(running.all) > 0
		running.Unlock()
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("there is no error")
	}
	if len(running.all) > 0 {
		t.Errorf("%d processes are left", len(running.all))
	}
	if _, err := os.Stat(outdir); !os.IsNotExist(err) {
		t.Errorf("the output folder is there: %v", err)
	}
}

// TestMergeValidation: what is found in any part is found in the whole.
func TestMergeValidation(t *testing.T) {
	parse := func(text string) (v map[string]any) {
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	var all map[string]any
	for _, part := range []string{
		`{"title": "a", "pluginReports": [{"pluginName": "x", "conclusion": "success", "violations": [{"ruleName": "1"}]}]}`,
		`{"title": "a", "pluginReports": [{"pluginName": "x", "conclusion": "failure", "violations": [{"ruleName": "2"}]}, {"pluginName": "y", "conclusion": "success"}]}`,
		`{"title": "a", "pluginReports": [{"pluginName": "x", "conclusion": "success", "violations": []}]}`,
	} {
		all = mergeValidation(all, parse(part))
	}
	want := parse(`{"title": "a", "pluginReports": [
		{"pluginName": "x", "conclusion": "failure", "violations": [{"ruleName": "1"}, {"ruleName": "2"}]}, {"pluginName": "y", "conclusion": "success"}]}`)
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
