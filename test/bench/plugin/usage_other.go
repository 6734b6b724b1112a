//go:build !linux

package main

import (
	"errors"
	"syscall"
	"time"
)

func cpuTime(int) (time.Duration, error) {
	return 0, errors.New("CPU time of other processes is read on Linux only")
}

func dieWithParent() *syscall.SysProcAttr { return nil }
