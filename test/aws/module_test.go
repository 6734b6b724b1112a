//go:build aws

package aws

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ekskms/ekskms/internal/cli"
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
	for _, pattern := range []string{"/*/registry.terraform.io", "/*/*/registry.terraform.io", "/*/*/*/registry.terraform.io"} {
		mirrors, _ := filepath.Glob(filepath.FromSlash(pattern))
		for _, mirror := range mirrors {
			if _, err := os.Stat(filepath.Join(mirror, "hashicorp", "aws")); err == nil {
				return []string{"-plugin-dir=" + filepath.Dir(mirror)}
			}
		}
	}
	return nil
}
