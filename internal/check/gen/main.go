// Command gen writes docs/reference/checks.md. Run it with go generate ./internal/check.
package main

import (
	"fmt"
	"os"

	"github.com/ekskms/ekskms/internal/check/internal/docgen"
)

func main() {
	err := write()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// write is run in the folder of package check.
func write() error {
	foreign, err := os.ReadFile("testdata/foreign/expected.yaml")
	if err != nil {
		return err
	}
	out, err := docgen.Generate(foreign)
	if err != nil {
		return err
	}
	return os.WriteFile("../../docs/reference/checks.md", out, 0o644) //nolint:gosec // the path is a constant: only the text comes from a file
}
