//go:build aws

package aws

import (
	"context"
	"io"
	"os"
	"testing"

	"github.com/ekskms/ekskms/internal/cli"
	"github.com/ekskms/ekskms/internal/terraform/terraformtest"
)

// module writes the default module of 'ekskms generate terraform'.
func module(t *testing.T, dir string) {
	t.Helper()
	t.Chdir(t.TempDir())
	if code := cli.Run(context.Background(), []string{"generate", "terraform", "--out", dir, "--quiet"}, nil, io.Discard, os.Stderr); code != 0 {
		t.Fatalf("generate terraform ended with %d", code)
	}
}

// fromMirror has Terraform take its providers from a mirror on this machine, if there is one.
// Else it downloads them.
func fromMirror() []string {
	if mirror := terraformtest.Mirror(); mirror != "" {
		return []string{"-plugin-dir=" + mirror}
	}
	return nil
}
