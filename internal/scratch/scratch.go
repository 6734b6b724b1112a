// Package scratch makes temporary folders for tests and benchmarks. What a run
// that was killed has left is removed by the next one.
package scratch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// name is short: sockets lie in these folders, and the path of one has 107 bytes.
const name = "ekst"

var swept sync.Map // by parent

// Dir makes a folder in parent, or with "" in the folder for temporary files.
// The caller removes it.
func Dir(parent string) (string, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	if _, again := swept.LoadOrStore(parent, true); !again {
		sweep(parent)
	}
	return os.MkdirTemp(parent, fmt.Sprintf("%s-%d-", name, os.Getpid()))
}

// sweep removes the folders of processes of this user that are no more. What it
// can't tell or remove, it leaves.
func sweep(parent string) {
	old, _ := filepath.Glob(filepath.Join(parent, name+"-*-*"))
	for _, dir := range old {
		text, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), name+"-"), "-")
		pid, err := strconv.Atoi(text)
		info, missing := os.Lstat(dir)
		if err != nil || pid <= 0 || missing != nil || !info.IsDir() {
			continue
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if ok && int(owner.Uid) == os.Getuid() && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
}
