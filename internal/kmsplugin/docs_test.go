package kmsplugin

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)\(`)
)

// docs/reference/plugin.md names the test that holds each of its promises: they must exist.
func TestPromisesNameTests(t *testing.T) {
	docs, err := os.ReadFile("../../docs/reference/plugin.md")
	mustf(t, err, "read")
	there := map[string]bool{}
	for _, dir := range []string{".", "../../cmd/kms-plugin", "../../test/e2e"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, m := range testFunc.FindAllStringSubmatch(string(source), -1) {
				there[m[1]] = true
			}
			return err
		})
		mustf(t, err, "look for tests in %s", dir)
	}
	named := map[string]bool{}
	for _, m := range testName.FindAllStringSubmatch(string(docs), -1) {
		named[m[1]] = true
		if !there[m[1]] {
			t.Errorf("docs/reference/plugin.md names %s, which does not exist", m[1])
		}
	}
	if len(named) < 60 {
		t.Errorf("docs/reference/plugin.md names %d tests only", len(named))
	}
}
