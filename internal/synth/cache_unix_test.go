//go:build unix && !race

package synth

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/config"
)

// TestCacheFolder: a folder into which another user could put code is not used, and
// neither is one that can't be written.
func TestCacheFolder(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, base string)
		used    bool
	}{
		"a new one":   {func(*testing.T, string) {}, true},
		"an old one":  {func(t *testing.T, base string) { mkdir(t, filepath.Join(base, "ekskms"), 0o700) }, true},
		"group's too": {func(t *testing.T, base string) { mkdir(t, filepath.Join(base, "ekskms"), 0o770) }, false},
		"everybody's": {func(t *testing.T, base string) { mkdir(t, filepath.Join(base, "ekskms"), 0o777) }, false},
		"everybody's, sticky": {func(t *testing.T, base string) {
			mkdir(t, filepath.Join(base, "ekskms"), 0o777|fs.ModeSticky)
		}, false},
		"one that others can replace": {func(t *testing.T, base string) { chmod(t, base, 0o777) }, false},
		"one that others can't replace": {func(t *testing.T, base string) {
			chmod(t, base, 0o777|fs.ModeSticky)
			mkdir(t, filepath.Join(base, "ekskms"), 0o700)
		}, true},
		"a link to everybody's": {func(t *testing.T, base string) {
			to := t.TempDir()
			chmod(t, to, 0o777)
			if err := os.Symlink(to, filepath.Join(base, "ekskms")); err != nil {
				t.Fatal(err)
			}
		}, false},
		"a file": {func(t *testing.T, base string) {
			if err := os.WriteFile(filepath.Join(base, "ekskms"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
		"another user's": {func(t *testing.T, base string) {
			dir := filepath.Join(base, "ekskms")
			mkdir(t, dir, 0o755)
			if err := os.Chown(dir, os.Getuid()+1, -1); err == nil {
				return
			}
			// Only root gives folders away. Others find one of root's in its place,
			// which is private, and can't be written.
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/", dir); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			base := cacheBase(t)
			tc.prepare(t, base)
			dir := cacheFolder()
			if used := dir != ""; used != tc.used {
				t.Errorf("cacheFolder is %q", dir)
			}
			if entries, err := os.ReadDir(dir); tc.used && (err != nil || len(entries) > 0) {
				t.Errorf("it holds %v, %v", entries, err)
			}
		})
	}
}

// cacheBase is a new folder for the caches of all programs of this user.
func cacheBase(t *testing.T) string {
	t.Helper()
	base := filepath.Join(t.TempDir(), "Library", "Caches")
	if err := os.MkdirAll(base, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", base)
	t.Setenv("HOME", filepath.Dir(filepath.Dir(base))) // of macOS
	t.Setenv("NODE_COMPILE_CACHE", "")
	unset(t, "JSII_RUNTIME_PACKAGE_CACHE", "JSII_RUNTIME_PACKAGE_CACHE_ROOT")
	return base
}

func unset(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		t.Setenv(name, "") // and back again in the end
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
}

func mkdir(t *testing.T, dir string, mode fs.FileMode) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	chmod(t, dir, mode)
}

func chmod(t *testing.T, dir string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
}

// TestCache: whatever the folder holds, the templates are the same. What is whole in it
// is not written again, and what is not whole is.
func TestCache(t *testing.T) {
	base := cacheBase(t)
	run := func() map[string]string {
		t.Helper()
		// jsii's own would count as the user's, who comes first.
		unset(t, "JSII_RUNTIME_PACKAGE_CACHE", "JSII_RUNTIME_PACKAGE_CACHE_ROOT")
		out := t.TempDir()
		if _, err := Run(t.Context(), config.Default(), Options{Outdir: out}); err != nil {
			t.Fatal(err)
		}
		jsii.Close() // in the end Node writes down what it compiled
		return contents(t, out)
	}
	dir := filepath.Join(base, "ekskms")
	archives, libraries := filepath.Join(dir, "archives"), filepath.Join(dir, "node_modules")

	want := run()
	before := writeTimes(t, dir)
	if len(contents(t, archives)) == 0 || len(contents(t, libraries)) == 0 {
		t.Fatalf("nothing is kept in %s", dir)
	}
	same := func(what string) {
		t.Helper()
		if diff := cmp.Diff(want, run()); diff != "" {
			t.Errorf("%s: another assembly:\n%s", what, diff)
		}
	}
	same("all is there")
	if diff := cmp.Diff(before, writeTimes(t, dir)); diff != "" {
		t.Errorf("a second run writes to the folder:\n%s", diff)
	}

	// A library whose unpacking was cut off: jsii marks what is complete.
	library := one(t, filepath.Join(libraries, "aws-cdk-lib", "*", "*"))
	if err := os.Remove(filepath.Join(library, ".jsii-runtime-package-cache")); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(library, "index.js")
	if err := os.Truncate(index, 0); err != nil {
		t.Fatal(err)
	}
	same("half a library")
	if info, err := os.Stat(index); err != nil || info.Size() == 0 {
		t.Errorf("half a library was left: %v", err)
	}

	note := one(t, filepath.Join(archives, "aws-cdk-lib-*"))
	good, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]string{
		"half a note":               string(good[:len(good)/2]),
		"a note of another archive": strings.ReplaceAll(strings.Replace(string(good), `"size":`, `"size":1`, 1), filepath.Base(library), strings.Repeat("0", 64)),
		"a note of another program": strings.Replace(string(good), `"program":"`, `"program":"/other`, 1),
		"a note without a library":  strings.ReplaceAll(string(good), filepath.Base(library), strings.Repeat("0", 64)),
	} {
		if bad == string(good) {
			t.Fatalf("%s: nothing was changed in %s", what, good)
		}
		if err := os.WriteFile(note, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		same(what)
		if got, err := os.ReadFile(note); err != nil || string(got) != string(good) {
			t.Errorf("%s: the note is now %s, %v, want %s", what, got, err, good)
		}
	}

	// Others could have changed it: it is neither read nor written.
	chmod(t, dir, 0o770)
	if err := os.Truncate(index, 0); err != nil {
		t.Fatal(err)
	}
	before = writeTimes(t, dir)
	same("a folder that others can write to")
	if diff := cmp.Diff(before, writeTimes(t, dir)); diff != "" {
		t.Errorf("a folder that others can write to was used:\n%s", diff)
	}
}

// writeTimes tells when each file was written last. That of jsii's marks is when a library
// was used last.
func writeTimes(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for name := range contents(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(name) != ".jsii-runtime-package-cache" {
			all[name] = info.ModTime().String()
		}
	}
	return all
}

// contents are the files in a folder, by name.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		all[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v, want one", pattern, found, err)
	}
	return found[0]
}
