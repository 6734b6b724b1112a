// Package buildcontext holds the sources from which the image of the KMS plugin
// is built, so that an app that uses the constructs, from a module cache or an
// installed binary, can build it with `cdk deploy`.
package buildcontext

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Sources are set by the package in the module's root, the only one whose folder has
// all of them below it.
var Sources embed.FS

// Write puts the build context into the folder dir: the Dockerfile and the Go
// sources of the plugin, without its tests.
func Write(dir string) error {
	if _, err := fs.Stat(Sources, "Dockerfile"); err != nil {
		return errors.New("the build context of the plugin's image is not in this program: import the root package of the module")
	}
	err := fs.WalkDir(Sources, ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "testdata":
			return fs.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(dir, filepath.FromSlash(path)), 0o755)
		case strings.HasSuffix(path, "_test.go"):
			return nil
		}
		data, err := Sources.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, filepath.FromSlash(path)), data, 0o644)
	})
	if err != nil {
		return fmt.Errorf("write the build context of the plugin's image: %w", err)
	}
	return nil
}

// Require returns the version of a module that this one is built with, or "" if it
// does not require it.
func Require(module string) string {
	data, err := Sources.ReadFile("go.mod")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == module {
			return words[1]
		}
	}
	return ""
}
