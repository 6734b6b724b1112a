package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// memory is what /proc/<pid>/status says, in bytes.
type memory struct {
	resident  int64 // VmRSS
	peak      int64 // VmHWM
	anonymous int64 // RssAnon: heap and stacks
	file      int64 // RssFile: what was read of the binary, which the kernel can drop
}

func readMemory(pid int) (m memory, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	fields := map[string]*int64{"VmRSS": &m.resident, "VmHWM": &m.peak, "RssAnon": &m.anonymous, "RssFile": &m.file}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		if to := fields[name]; to != nil {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				return m, err
			}
			*to = kib << 10
		}
	}
	return m, nil
}

// watchMemory keeps a server busy for a while and returns the look at which most
// memory was resident, with the peak of the process's whole life.
func (b *bench) watchMemory(s *server, do operation) (most memory, err error) {
	err = b.underLoad(manyCallers, do, func(ctx context.Context) error {
		var peak int64
		for begun := time.Now(); time.Since(begun) < b.plan.memory && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			m, err := readMemory(s.pid())
			if err != nil {
				return err
			}
			if m.resident > most.resident {
				most = m
			}
			peak = max(peak, m.peak)
		}
		most.peak = peak
		return ctx.Err()
	})
	return most, err
}
