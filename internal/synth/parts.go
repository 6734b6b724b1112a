package synth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
	"golang.org/x/sync/errgroup"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/stacks"
)

// A Node process takes about 140 MB, and 1.6 MB for each cluster, in one heap that only
// grows. A large fleet is therefore built by several processes, each of some stacks, so many
// at once as there are processors.
var (
	// partsAbove is the number of clusters that one process builds.
	partsAbove = 100
	// partSize is the number of stacks of a part, at most.
	partSize = 46
)

// atOnce is how many processes work at once. More than four would take more than a gigabyte.
func atOnce() int { return min(runtime.GOMAXPROCS(0), 4) }

// partEnv marks a process that builds a part.
const partEnv = "EKSKMS_PART"

// part is what such a process is told, on standard input.
type part struct {
	File   *config.File
	Stacks []string
	Outdir string
	// Context is the CDK context. Nil for what the CDK CLI gives.
	Context  map[string]any
	Validate bool
}

// BeAPart is the whole work of a process that builds a part of a fleet, which it ends. In
// others it does nothing. Programs whose fleets are built call it first.
func BeAPart() {
	if os.Getenv(partEnv) == "" {
		return
	}
	_ = os.Unsetenv(partEnv)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		temp.killNode()
		temp.remove()
		os.Exit(1)
	}()
	err := buildPart(os.Stdin)
	Close()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func buildPart(from io.Reader) error {
	var p part
	if err := json.NewDecoder(from).Decode(&p); err != nil {
		return err
	}
	mine := map[string]bool{}
	for _, name := range p.Stacks {
		mine[name] = true
	}
	props := &awscdk.AppProps{Outdir: jsii.String(p.Outdir)}
	if p.Context != nil {
		if err := StartKernel(p.Validate); err != nil {
			return err
		}
		props = appProps(p.Outdir, p.Context)
	}
	return Recover(func() error {
		app := awscdk.NewApp(props)
		stacks.PartOfConfig(app, p.File, func(name string) bool { return mine[name] })
		app.Synth(nil)
		return nil
	})
}

// InParts tells whether a fleet is so large that several processes build it.
func InParts(file *config.File) bool { return len(file.Clusters) > partsAbove }

// parts are the stacks that are built together: those of an account one after the other,
// with all clusters of their accounts, or all where these have their keys in a central one.
func parts(file *config.File, outdir string, appContext map[string]any, validate bool) (all []part) {
	type stack struct{ name, account string }
	var names []stack
	for _, e := range file.Places() {
		add := func(name string, there bool) {
			if there {
				names = append(names, stack{name, e.Account})
			}
		}
		add(place.SharedStack(e.Account, e.Region), true)
		add(place.NetworkStack(e.Account, e.Region), e.Network)
		add(place.KeysStack(e.Account, e.Region), e.Keys && e.Chosen)
		add(place.AlarmsStack(e.Account, e.Region), len(e.Watched()) > 0)
	}
	for _, c := range file.Clusters {
		if !c.Waits() {
			names = append(names, stack{place.Stack(c.Name), c.Account})
		}
	}
	slices.SortStableFunc(names, func(a, b stack) int { return strings.Compare(a.account, b.account) })
	// As many as keep all processes busy to the end, of about the same size.
	processes := (len(names)/(partSize*atOnce()) + 1) * atOnce()
	size := len(names)/processes + 1
	for chunk := range slices.Chunk(names, size) {
		p := part{Outdir: filepath.Join(outdir, fmt.Sprintf("%spart-%d", stagePrefix, len(all))), Context: appContext, Validate: validate}
		accounts := map[string]bool{}
		for _, s := range chunk {
			p.Stacks = append(p.Stacks, s.name)
			accounts[s.account] = true
		}
		some := *file
		if file.KeyEnvironments() == nil {
			elsewhere := func(c config.Cluster) bool { return !accounts[c.Account] }
			some.Clusters = slices.DeleteFunc(slices.Clone(file.Clusters), elsewhere)
			some.All = slices.DeleteFunc(slices.Clone(file.All), elsewhere)
		}
		p.File = &some
		all = append(all, p)
	}
	return all
}

// running are the processes that build parts.
var running struct {
	sync.Mutex
	all map[*os.Process]bool
}

// endParts has all of them remove what they made, and waits for that.
func endParts() {
	running.Lock()
	for p := range running.all {
		if p.Signal(syscall.SIGTERM) != nil {
			_ = p.Kill()
		}
	}
	running.Unlock()
	for range 500 {
		running.Lock()
		left := len(running.all)
		running.Unlock()
		if left == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// runPart has another process of this program build a part. What it says is written to
// said once it is done, if there is somebody to hear it.
func runPart(ctx context.Context, p part, said io.Writer) error {
	input, err := json.Marshal(p)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program)
	// The options of Node as they were before a kernel was started here, which come last and
	// count: with less room for new objects, 40 MB less are taken, and no more time.
	cmd.Env = append(os.Environ(), partEnv+"=1", strings.TrimSpace("NODE_OPTIONS=--max-semi-space-size=2 "+userNodeOptions))
	cmd.Stdin = bytes.NewReader(input)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	running.Lock()
	err = cmd.Start()
	if err == nil {
		if running.all == nil {
			running.all = map[*os.Process]bool{}
		}
		running.all[cmd.Process] = true
	}
	running.Unlock()
	if err != nil {
		return err
	}
	err = cmd.Wait()
	running.Lock()
	delete(running.all, cmd.Process)
	running.Unlock()
	text := strings.TrimSpace(output.String())
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && text != "":
		return errors.New(text)
	case err != nil:
		return &hint.Error{What: fmt.Sprintf("a process that builds some of the stacks ended: %v", err), Hint: "if memory is short, give it more: each such process takes up to 300 MB"}
	case text != "" && said != nil:
		_, err = fmt.Fprintln(said, text)
	}
	return err
}

// Parts builds a fleet by several processes into a folder. With a context that is nil, it is
// what the CDK CLI gives, and what the processes print goes to said.
func Parts(ctx context.Context, file *config.File, outdir string, appContext map[string]any, validate bool, said io.Writer) error {
	if os.Getenv(partEnv) != "" {
		return errors.New("this program does not call synth.BeAPart first: its parts would start it without an end")
	}
	debug.FreeOSMemory() // what reading the configuration took
	merged := assembly{Artifacts: map[string]artifact{}}
	var mutex sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce())
	for _, p := range parts(file, outdir, appContext, validate) {
		group.Go(func() error {
			if err := runPart(ctx, p, said); err != nil {
				return err
			}
			mutex.Lock()
			defer mutex.Unlock()
			return merged.take(p.Outdir, outdir)
		})
	}
	if err := group.Wait(); err != nil {
		if merged.tree != nil {
			_ = merged.tree.Close()
		}
		return err
	}
	return merged.write(outdir, file)
}

// assembly is what is merged of the assemblies of parts. What is large stays as the text
// that it is.
type assembly struct {
	Version           string              `json:"version"`
	Artifacts         map[string]artifact `json:"artifacts"`
	MinimumCLIVersion string              `json:"minimumCliVersion,omitempty"`

	// tree is written as the parts come: it is larger than all else together.
	tree       *os.File
	validation map[string]any
}

type artifact map[string]json.RawMessage

// tree is CDK's tree of constructs. The children are the last of its fields.
type tree struct {
	Version string `json:"version"`
	Tree    struct {
		ID            string                     `json:"id"`
		Path          string                     `json:"path"`
		ConstructInfo json.RawMessage            `json:"constructInfo"`
		Children      map[string]json.RawMessage `json:"children"`
	} `json:"tree"`
}

// add writes the children of a part's tree behind those of others.
func (a *assembly) add(part tree, outdir string) error {
	children := part.Tree.Children
	between := ","
	if a.tree == nil {
		file, err := os.Create(filepath.Join(outdir, treeName))
		if err != nil {
			return err
		}
		a.tree = file
		part.Tree.Children = map[string]json.RawMessage{}
		head, err := json.Marshal(part)
		if err != nil {
			return err
		}
		between = string(bytes.TrimSuffix(head, []byte("}}}")))
	}
	for _, name := range slices.Sorted(maps.Keys(children)) {
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(a.tree, "%s%s:%s", between, key, children[name]); err != nil {
			return err
		}
		between = ","
	}
	return nil
}

const (
	manifestName   = "manifest.json"
	treeName       = "tree.json"
	validationName = "validation-report.json"
)

// take moves the assembly of a part to where the whole is made. Assets are named by their
// contents, and what is there already is not kept twice.
func (a *assembly) take(dir, outdir string) error {
	var manifest assembly
	if err := readJSON(filepath.Join(dir, manifestName), &manifest); err != nil {
		return err
	}
	a.Version, a.MinimumCLIVersion = manifest.Version, max(a.MinimumCLIVersion, manifest.MinimumCLIVersion)
	maps.Copy(a.Artifacts, manifest.Artifacts)
	var part tree
	if err := readJSON(filepath.Join(dir, treeName), &part); err != nil {
		return err
	}
	if err := a.add(part, outdir); err != nil {
		return err
	}
	var validation map[string]any
	if err := readJSON(filepath.Join(dir, validationName), &validation); err == nil {
		a.validation = mergeValidation(a.validation, validation)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name, to := entry.Name(), filepath.Join(outdir, entry.Name())
		if slices.Contains([]string{manifestName, treeName, validationName}, name) {
			continue
		}
		if _, err := os.Lstat(to); err == nil && strings.HasPrefix(name, "asset.") {
			continue
		}
		if err := os.Rename(filepath.Join(dir, name), to); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// mergeValidation adds what validation plugins found in one part to what they found in
// others.
func mergeValidation(into, from map[string]any) map[string]any {
	if into == nil {
		return from
	}
	all, _ := into["pluginReports"].([]any)
	more, _ := from["pluginReports"].([]any)
	for _, report := range more {
		found, _ := report.(map[string]any)
		i := slices.IndexFunc(all, func(o any) bool { return o.(map[string]any)["pluginName"] == found["pluginName"] })
		if i < 0 {
			all = append(all, report)
			continue
		}
		to, _ := all[i].(map[string]any)
		violations, _ := to["violations"].([]any)
		add, _ := found["violations"].([]any)
		to["violations"] = append(violations, add...)
		if found["conclusion"] != "success" {
			to["conclusion"] = found["conclusion"]
		}
	}
	into["pluginReports"] = all
	return into
}

// write writes what the parts have in common, with the dependencies between stacks of
// different parts.
func (a *assembly) write(outdir string, file *config.File) error {
	needs := map[string][]string{}
	for _, need := range file.Needs() {
		if a.Artifacts[need.Stack] != nil && a.Artifacts[need.On] != nil && !slices.Contains(needs[need.Stack], need.On) {
			needs[need.Stack] = append(needs[need.Stack], need.On)
		}
	}
	for stack, on := range needs {
		var own []string
		if text := a.Artifacts[stack]["dependencies"]; text != nil {
			if err := json.Unmarshal(text, &own); err != nil {
				return fmt.Errorf("read the cloud assembly: %s: %w", stack, err)
			}
		}
		for _, d := range own {
			if !slices.Contains(on, d) {
				on = append(on, d)
			}
		}
		text, err := json.Marshal(on)
		if err != nil {
			return err
		}
		a.Artifacts[stack]["dependencies"] = text
	}
	_, err := a.tree.WriteString("}}}")
	if err := errors.Join(err, a.tree.Close()); err != nil {
		return err
	}
	all := map[string]any{manifestName: a}
	if a.validation != nil {
		all[validationName] = a.validation
	}
	for name, content := range all {
		file, err := os.Create(filepath.Join(outdir, name))
		if err != nil {
			return err
		}
		encoder := json.NewEncoder(file)
		encoder.SetEscapeHTML(false)
		if err := errors.Join(encoder.Encode(content), file.Close()); err != nil {
			return err
		}
	}
	return nil
}
