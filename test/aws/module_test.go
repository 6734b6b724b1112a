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

// plugins is the parent of a folder with the providers, which Terraform can't download where
// tests run.
func plugins(t *testing.T) string {
	t.Helper()
	for _, root := range []string{"/opt", "/usr/share", "/usr/local/share", os.Getenv("HOME")} {
		found, _ := filepath.Glob(filepath.Join(root, "*", "registry.terraform.io"))
		deeper, _ := filepath.Glob(filepath.Join(root, "*", "*", "registry.terraform.io"))
		for _, path := range append(found, deeper...) {
			return filepath.Dir(path)
		}
	}
	t.Fatal("there is no mirror of Terraform's providers")
	return ""
}
