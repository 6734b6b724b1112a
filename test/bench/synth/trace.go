package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"
)

// nodeTrace is what trace.js notes of one Node process. Times are milliseconds,
// points in time since 1970.
type nodeTrace struct {
	Program            string
	Start, Ready, End  float64
	Load, Calls, Synth struct {
		Count      int
		Wait, Work float64
	}
}

// trace runs each program once with trace.js, and prints where its time went.
func (b *bench) trace(out io.Writer, validate bool) error {
	type line struct {
		what     string
		ekskms   float64
		js       float64
		remarkOf string
	}
	goBegin, goEnd, nodes, err := b.traced(func(dir string) *exec.Cmd { return b.synth(dir, validate) })
	if err != nil {
		return err
	}
	kernel, ok := nodes["jsii-runtime.js"]
	if !ok || len(nodes) != 1 || kernel.Load.Count == 0 {
		return fmt.Errorf("trace.js saw %d processes of Node and %d packages: it does not fit the jsii runtime any more", len(nodes), kernel.Load.Count)
	}
	jsBegin, jsEnd, nodes, err := b.traced(func(dir string) *exec.Cmd { return b.javascript(dir, validate) })
	if err != nil {
		return err
	}
	app := nodes["app.js"]

	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\tekskms\tJavaScript\t")
	for _, l := range []line{
		{"ekskms starts, up to the start of Node", kernel.Start - goBegin, 0, ""},
		{"Node starts", kernel.Ready - kernel.Start, app.Ready - jsBegin, ""},
		{"jsii loads the libraries", kernel.Load.Work, 0, fmt.Sprintf("%d packages", kernel.Load.Count)},
		{"  and waits until ekskms has written them to files", kernel.Load.Wait, 0, ""},
		{"modules and constructs", kernel.Calls.Work, app.Calls.Work, fmt.Sprintf("%d calls", kernel.Calls.Count)},
		{"  and waits for calls from ekskms", kernel.Calls.Wait + kernel.Synth.Wait, 0, ""},
		{"app.Synth", kernel.Synth.Work, app.Synth.Work, ""},
		{"Node and ekskms end", goEnd - kernel.Ready - kernel.Load.Work - kernel.Load.Wait - kernel.Calls.Work -
			kernel.Calls.Wait - kernel.Synth.Work - kernel.Synth.Wait, jsEnd - app.Ready - app.Calls.Work - app.Synth.Work, ""},
		{"total", goEnd - goBegin, jsEnd - jsBegin, ""},
	} {
		_, _ = fmt.Fprintf(table, "%s\t%.0f ms\t%.0f ms\t%s\n", l.what, l.ekskms, l.js, l.remarkOf)
	}
	return table.Flush()
}

func (b *bench) traced(cmd func(outdir string) *exec.Cmd) (begin, end float64, nodes map[string]nodeTrace, err error) {
	file := filepath.Join(b.dir, "trace.jsonl")
	defer os.Remove(file) //nolint:errcheck // the folder is removed in the end
	_, err = b.fresh(func(dir string) *exec.Cmd {
		c := cmd(dir)
		c.Env = append(c.Env, "BENCH_TRACE="+file, "NODE_OPTIONS=--require "+strconv.Quote(filepath.Join(filepath.Dir(b.app), "trace.js")))
		begin = unixMilliseconds()
		return c
	}, func(string) error {
		end = unixMilliseconds()
		return nil
	})
	if err != nil {
		return 0, 0, nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, nil, err
	}
	nodes = map[string]nodeTrace{}
	for line := range bytes.Lines(data) {
		var t nodeTrace
		if err := json.Unmarshal(line, &t); err != nil {
			return 0, 0, nil, fmt.Errorf("trace.js wrote %s: %w", line, err)
		}
		nodes[t.Program] = t
	}
	return begin, end, nodes, nil
}

func unixMilliseconds() float64 { return float64(time.Now().UnixMicro()) / 1000 }
