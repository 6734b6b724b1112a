package synth

import (
	_ "embed" // for direct.js
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

//go:embed direct.js
var direct []byte

// temp is the folder of all temporary files, those of jsii and CDK among them.
var temp tempFolder

type tempFolder struct {
	mutex sync.Mutex
	path  string
}

// open returns the folder. It makes it, with direct.js in it, if there is none.
func (t *tempFolder) open() (string, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.path != "" {
		return t.path, nil
	}
	dir, err := os.MkdirTemp("", "ekskms-")
	if err != nil {
		return "", err
	}
	// Node would take a relative path for the name of a module.
	if t.path, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	return t.path, os.WriteFile(filepath.Join(t.path, "direct.js"), direct, 0o600)
}

// killNode ends the Node that direct.js was read by, if there is one.
func (t *tempFolder) killNode() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.path == "" {
		return
	}
	data, err := os.ReadFile(filepath.Join(t.path, "pid"))
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil {
		return
	}
	node, err := os.FindProcess(pid)
	if err != nil || node.Kill() != nil {
		return
	}
	// So that it makes no more files while they are removed.
	for range 100 {
		if node.Signal(syscall.Signal(0)) != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (t *tempFolder) remove() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.path != "" {
		_ = os.RemoveAll(t.path)
		t.path = ""
	}
}
