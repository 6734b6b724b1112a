package inspect

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// BenchmarkSnapshot inspects snapshots of 100,000 and a million secrets of 1 KiB,
// of which every tenth has an older revision. heap-MB is the largest heap seen
// while it ran, in 10^6 bytes, garbage included.
func BenchmarkSnapshot(b *testing.B) {
	for _, objects := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(objects), func(b *testing.B) {
			path := large(b, objects)
			info, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(info.Size())
			runtime.GC() // of what the builder has left
			stop := make(chan struct{})
			peak := make(chan uint64)
			go func() { peak <- peakHeap(stop) }()
			for b.Loop() {
				r, err := Snapshot(path, Options{ExpectKeyID: newKey})
				if err != nil {
					b.Fatal(err)
				}
				if r.Objects != objects || len(r.Findings) != 0 {
					b.Fatalf("%d objects, %v", r.Objects, r.Findings)
				}
			}
			close(stop)
			b.ReportMetric(float64(<-peak)/1e6, "heap-MB")
		})
	}
}

func large(b *testing.B, objects int) string {
	b.Helper()
	e := newEtcd(b)
	value := "k8s:enc:kms:v2:kms-plugin:" + encryptedObject(func(n protowire.Number) string {
		return map[protowire.Number]string{1: strings.Repeat("x", 1<<10), 2: newKey, 3: "encrypted seed"}[n]
	})
	var pairs []string
	for i := range objects {
		key := fmt.Sprintf("/registry/secrets/namespace-%d/secret-%d", i%100, i)
		pairs = append(pairs, key, value)
		if i%10 == 0 {
			pairs = append(pairs, key, value)
		}
		if len(pairs) > 10_000 || i == objects-1 {
			e.put(pairs...)
			pairs = pairs[:0]
		}
	}
	path := filepath.Join(b.TempDir(), "snapshot.db")
	if err := os.WriteFile(path, e.snapshot(), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

func peakHeap(stop <-chan struct{}) (peak uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return peak
		case <-tick.C:
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64())
		}
	}
}
