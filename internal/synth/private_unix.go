//go:build unix

package synth

import (
	"os"
	"path/filepath"
	"syscall"
)

// judges tells whether the rights to a folder are read on this system.
const judges = true

// private tells whether nobody but this user and root can put anything into a folder, or
// another in its place: neither it nor a folder above it is writable by others, but for
// those, such as /tmp, in which nobody can rename what is another's.
func private(dir string) bool {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil || !info.IsDir() {
			return false
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || stat.Uid != 0 && int64(stat.Uid) != int64(os.Getuid()) {
			return false
		}
		if open := info.Mode().Perm()&0o022 != 0; open && (at == dir || info.Mode()&os.ModeSticky == 0) {
			return false
		}
		if at == filepath.Dir(at) {
			return true
		}
	}
}
