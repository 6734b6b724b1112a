package main

import (
	"syscall"
	"time"
	"unsafe"
)

// cpuTime is the CPU time of all of a process's threads so far, those that have
// ended too, in nanoseconds: what clock_gettime(2) knows of the clock that
// clock_getcpuclockid(3) names for a process. /proc/<pid>/stat has it in steps
// of 10 ms, /proc/<pid>/schedstat has it for one thread.
func cpuTime(pid int) (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED: the scheduler's own account
	var t syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(^pid<<3|schedClock), uintptr(unsafe.Pointer(&t)), 0) //nolint:gosec // as the system call has it
	if errno != 0 {
		return 0, errno
	}
	return time.Duration(t.Nano()), nil
}

// dieWithParent ends a process even where this one is killed and can't do it.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
