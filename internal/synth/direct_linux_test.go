//go:build !race

package synth

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
)

// TestMain ends Node and removes what was written for it.
func TestMain(m *testing.M) {
	BeAPart()
	code := m.Run()
	Close()
	os.Exit(code)
}

// TestOneNodeProcess: direct.js still knows the jsii runtime that go.mod names.
// If it does not, everything works as well, but Node is started twice.
func TestOneNodeProcess(t *testing.T) {
	if err := StartKernel(false); err != nil {
		t.Fatal(err)
	}
	awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
	kernel := children(t, os.Getpid())
	if len(kernel) != 1 {
		t.Fatalf("this process has %d children, want Node alone", len(kernel))
	}
	if relayed := children(t, kernel[0]); len(relayed) != 0 {
		t.Errorf("Node has %d children: it relays to another Node", len(relayed))
	}
}

// children returns the processes that a process started.
func children(t *testing.T, parent int) []int {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The name, in parentheses, may hold spaces; behind it come the state
		// and the parent.
		fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
		if string(fields[0]) != "Z" && string(fields[1]) == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, pid)
		}
	}
	return found
}
