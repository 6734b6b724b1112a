//go:build !race

package cdkcli

import (
	"strings"
	"testing"
)

// TestChecks: somebody's `cdk synth` fails on what AddChecks finds, says where and
// what to do, and goes through when it is accepted.
func TestChecks(t *testing.T) {
	synth := func(command string) (string, error) {
		// Without the pattern the CLI looks at no stack of a stage.
		return cdk(t, t.TempDir(), "synth", "**", "--quiet", "--no-notices", "--output", t.TempDir(), "--app", command)
	}
	stderr, err := synth(built.checked)
	if err == nil {
		t.Errorf("cdk synth goes through\n%s", stderr)
	}
	for _, want := range []string{"EncryptionConfig is not set", "Prod/Platform/Cluster", "Suggested fix: Add EncryptionConfig", "ekskms::secrets-not-encrypted", "ekskms::endpoint-public"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("nothing says %q:\n%s", want, stderr)
		}
	}
	if stderr, err := synth(built.checked + " accepted"); err != nil {
		t.Errorf("%v\n%s", err, stderr)
	}
}
