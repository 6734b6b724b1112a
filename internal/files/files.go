// Package files writes several files as one: all of them, or none. It is the one
// place that writes what a command makes, so that an interrupted command can say
// truly that nothing was written.
package files

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// File is a file, by its path with slashes from the folder in which it is written.
type File struct {
	Path    string
	Content []byte
}

// ExistsError names a file that would be replaced.
type ExistsError struct{ Path string }

func (e *ExistsError) Error() string { return e.Path + " exists, and nothing was written" }

// Existing returns an [*ExistsError] for the first of the paths that is there, and
// nil if none is.
func Existing(dir string, paths ...string) error {
	for _, p := range paths {
		path := filepath.Join(dir, filepath.FromSlash(p))
		if _, err := os.Lstat(path); err == nil {
			return &ExistsError{path}
		}
	}
	return nil
}

// Write puts files into a folder, which is made if need be. Unless force is set, it
// returns an [*ExistsError] if one of them is there with another content. It writes
// all of them or none: they are written to a folder beside their places first, and
// what was moved is moved back if one can't be.
func Write(dir string, files []File, force bool) error {
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		old, err := os.ReadFile(path)
		switch {
		case force || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		case err != nil:
			return err
		case !bytes.Equal(old, f.Content):
			return &ExistsError{path}
		}
	}
	var undo []func()
	work := Begin(func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	})
	defer work.End()
	mkdir := func(path string) error {
		made, err := missingFolders(path)
		if err != nil {
			return err
		}
		for _, folder := range made {
			undo = append(undo, func() { _ = os.Remove(folder) })
		}
		return os.MkdirAll(path, 0o755)
	}
	return work.Publish(func() error {
		if err := mkdir(dir); err != nil {
			return err
		}
		stage, err := os.MkdirTemp(dir, ".ekskms-")
		if err != nil {
			return err
		}
		// Before the folders are undone: a stage in them would keep them.
		undo = append(undo, func() { _ = os.RemoveAll(stage) })
		for i, f := range files {
			if err := os.WriteFile(filepath.Join(stage, strconv.Itoa(i)), f.Content, 0o644); err != nil {
				return err
			}
		}
		for i, f := range files {
			path, old := filepath.Join(dir, filepath.FromSlash(f.Path)), filepath.Join(stage, "old-"+strconv.Itoa(i))
			if err := mkdir(filepath.Dir(path)); err != nil {
				return err
			}
			restore := func() { _ = os.Remove(path) }
			if _, err := os.Lstat(path); err == nil {
				if err := os.Rename(path, old); err != nil {
					return err
				}
				restore = func() { _ = os.Rename(old, path) }
			}
			undo = append(undo, restore)
			if err := os.Rename(filepath.Join(stage, strconv.Itoa(i)), path); err != nil {
				return fmt.Errorf("can't write %s: %w", path, err)
			}
		}
		return os.RemoveAll(stage)
	})
}

// missingFolders returns the folders of a path that are not there, the outermost
// first.
func missingFolders(path string) ([]string, error) {
	var missing []string
	for {
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			slices.Reverse(missing)
			return missing, nil
		case err == nil:
			return nil, fmt.Errorf("%s is a file, and a folder of that name is needed", path)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		missing = append(missing, path)
		path = filepath.Dir(path)
	}
}
