package evidence_test

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/ekskms/ekskms/internal/evidence"
	"github.com/ekskms/ekskms/internal/evidence/evidencetest"
)

// busy is a folder with the log files of a busy account.
func busy(b *testing.B, files, events int) (dir string, packed, unpacked int64) {
	b.Helper()
	dir = b.TempDir()
	trail := evidencetest.New("111122223333", "eu-central-1")
	// The same few texts again and again: what costs is to unpack and to scan them.
	var texts [][]byte
	for i := range 8 {
		texts = append(texts, evidencetest.Busy(noon, events, key, uint64(i)))
	}
	for i := range files {
		name := trail.DeliverText(noon.Add(time.Duration(i)*5*time.Minute), texts[i%len(texts)])
		packed += int64(len(trail.Objects[name].Data))
		unpacked += int64(len(texts[i%len(texts)]))
	}
	if err := trail.WriteTo(dir, false); err != nil {
		b.Fatal(err)
	}
	return dir, packed, unpacked
}

// BenchmarkRead reads the logs of a busy account, beside zcat with grep, and beside jq where it
// is installed, on the same files: how many times faster it is, and events and MB in a second.
func BenchmarkRead(b *testing.B) {
	const files, events = 200, 4000
	dir, packed, unpacked := busy(b, files, events)
	beside := func(script string) time.Duration {
		begin := time.Now()
		cmd := exec.Command("bash", "-c", "export LC_ALL=C; find . -name '*.json.gz' | sort | "+script+" > /dev/null")
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		return time.Since(begin)
	}
	grep := beside("while read -r f; do zcat $f | grep -c kms.amazonaws.com; done")
	// As jq needs minutes for all of it, it reads a tenth.
	var jq time.Duration
	if _, err := exec.LookPath("jq"); err == nil {
		jq = 10 * beside("head -n 20 | xargs zcat | jq -c '.Records[] | select(.eventSource == \"kms.amazonaws.com\") | [.eventName, .userIdentity.arn]'")
	}
	for _, of := range []struct {
		name string
		o    evidence.Options
	}{{"key", evidence.Options{Key: key}}, {"all keys", evidence.Options{}}, {"key and sums", evidence.Options{Key: key, Sums: true}}} {
		b.Run(of.name, func(b *testing.B) {
			for b.Loop() {
				logs, err := evidence.Read(b.Context(), evidence.Folder(dir), of.o)
				if err != nil || logs.Events != files*events {
					b.Fatal(logs, err)
				}
			}
			each := b.Elapsed() / time.Duration(b.N)
			b.ReportMetric(float64(grep)/float64(each), "times-zcat-grep")
			if jq > 0 {
				b.ReportMetric(float64(jq)/float64(each), "times-jq")
			}
			b.ReportMetric(float64(unpacked)/1e6/each.Seconds(), "MB/s")
			b.ReportMetric(float64(packed)/1e6/each.Seconds(), "packed-MB/s")
			b.ReportMetric(files*events/each.Seconds(), "events/s")
		})
	}
}
