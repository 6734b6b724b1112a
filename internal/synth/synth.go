package synth

import (
	"context"
	_ "embed" // for direct.js
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/config"
)

// Options say how to synthesize.
type Options struct {
	// Outdir is the folder of the cloud assembly. It is made if need be.
	Outdir string
	// Validate runs CDK's template validator, which takes seconds.
	Validate bool
}

// Error is an error with advice.
type Error struct {
	What string
	// Hint says what to do. Empty if nothing is known that helps.
	Hint string
}

// Error returns what went wrong, without the advice.
func (e *Error) Error() string { return e.What }

// Node releases: aws-cdk-lib asks for 20 or later in its package.json, and jsii
// supports 22 and 24.
const leastNode = 20

// Run synthesizes the clusters of a file and reports what was written. It
// starts Node; [Close] ends it.
//
// What it returns as an error is a sentence for the user: a missing or too old
// Node, a folder that can't be written, a prop that a construct refused. With
// Validate, findings are no error; they are in the report.
func Run(ctx context.Context, file *config.File, opts Options) (*Report, error) {
	if err := checkNode(ctx); err != nil {
		return nil, err
	}
	if err := checkOutdir(opts.Outdir); err != nil {
		return nil, err
	}
	if err := StartKernel(opts.Validate); err != nil {
		return nil, err
	}
	if err := Recover(func() error { return synthesize(file, opts) }); err != nil {
		return nil, err
	}
	return ReadReport(opts.Outdir)
}

func synthesize(file *config.File, opts Options) error {
	appContext := Context()
	// The findings are read from the report that CDK writes, and not printed
	// by CDK.
	appContext["@aws-cdk/core:failSynthOnValidationErrors"] = false
	// As the CDK CLI does by default.
	appContext["aws:cdk:enable-path-metadata"] = true
	// The traces are of JavaScript, and hold temporary folders of this run.
	appContext["aws:cdk:disable-creation-stack-traces"] = true
	app := awscdk.NewApp(&awscdk.AppProps{
		Outdir:             jsii.String(opts.Outdir),
		Context:            &appContext,
		AnalyticsReporting: jsii.Bool(false),
	})
	AddStacks(app, file)
	app.Synth(nil)
	return nil
}

// StartKernel makes the jsii kernel that is about to start see the environment
// as it is set here. The runtime takes the environment when the program starts,
// long before it starts Node; closing the client that it prepared then makes it
// take a new one.
func StartKernel(validate bool) error {
	options, err := nodeOptions()
	if err != nil {
		return err
	}
	set := map[string]string{
		"CDK_VALIDATION": strconv.FormatBool(validate),
		"NODE_OPTIONS":   options,
		// Node 20 works; checkNode refuses what is older.
		"JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": strconv.Itoa(leastNode),
	}
	for name, value := range set {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	// What a surrounding CDK CLI told its app must not reach this one.
	for _, name := range []string{"CDK_CONTEXT_JSON", "CDK_OUTDIR"} {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	jsii.Close()
	return nil
}

//go:embed direct.js
var direct []byte

// preload is the file that holds direct.js while Node may read it.
var preload string

// userNodeOptions are those with which this program was started.
var userNodeOptions = os.Getenv("NODE_OPTIONS")

// nodeOptions returns the options for Node: those of the user, and what makes it
// start faster. The jsii runtime's own, a larger heap, is left out: with it Node
// can't use its built-in code cache, and this needs no such heap.
func nodeOptions() (string, error) {
	if preload == "" {
		file, err := os.CreateTemp("", "ekskms-*.js")
		if err != nil {
			return "", err
		}
		preload = file.Name()
		_, err = file.Write(direct)
		if err := errors.Join(err, file.Close()); err != nil {
			return "", err
		}
	}
	// --preserve-symlinks is what the jsii runtime gives its kernel.
	return strings.TrimSpace(userNodeOptions + " --preserve-symlinks --require " + strconv.Quote(preload)), nil
}

// Close ends Node and removes the temporary files that it needed, and those that
// the jsii runtime makes whenever a program starts that can use it. It must be
// the last thing that a program does: from here on nothing is written to
// os.Stderr, for the runtime sometimes complains there that Node has ended.
func Close() {
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stderr = null
	}
	jsii.Close()
	if preload != "" {
		_ = os.Remove(preload)
		preload = ""
	}
}

// Recover runs CDK code, and turns the panics of jsii and of the constructs
// into an error. Faults of this program, which are runtime errors, go on as
// panics.
func Recover(run func() error) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			panic(r)
		case error:
			err = shorten(r)
		case string:
			err = shorten(errors.New(r))
		default:
			panic(r)
		}
	}()
	return run()
}

// shorten cuts the JavaScript stack trace off a message from jsii.
func shorten(err error) error {
	message, _, cut := strings.Cut(err.Error(), "\n    at ")
	if !cut {
		return err
	}
	return errors.New(strings.TrimSpace(message))
}

func checkNode(ctx context.Context) error {
	const hint = "install Node 22 or 24, or set JSII_NODE to the path of its binary"
	node := os.Getenv("JSII_NODE")
	if node == "" {
		node = "node"
	}
	out, err := exec.CommandContext(ctx, node, "--version").Output()
	if err != nil {
		return &Error{What: fmt.Sprintf("can't run %q, which the CDK needs: %v", node, err), Hint: hint}
	}
	version := strings.TrimSpace(string(out))
	majorText, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	major, err := strconv.Atoi(majorText)
	if err != nil {
		return &Error{What: fmt.Sprintf("%q says that its version is %q, want something like v22.0.0", node, version), Hint: hint}
	}
	if major < leastNode {
		return &Error{What: fmt.Sprintf("Node %s is too old, the CDK needs %d or later", version, leastNode), Hint: hint}
	}
	return nil
}

func checkOutdir(dir string) error {
	hint := "choose another folder with --out"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return &Error{What: fmt.Sprintf("can't make the output folder: %v", err), Hint: hint}
	}
	probe, err := os.CreateTemp(dir, ".ekskms-")
	if err != nil {
		return &Error{What: fmt.Sprintf("can't write to the output folder: %v", err), Hint: hint}
	}
	_ = probe.Close()
	_ = os.Remove(probe.Name())
	// A folder with other things in it may be a slip of the pen.
	if _, err := os.Stat(filepath.Join(dir, "manifest.json")); err == nil {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return &Error{What: fmt.Sprintf("can't read the output folder: %v", err), Hint: hint}
	}
	if len(entries) > 0 {
		return &Error{
			What: fmt.Sprintf("the output folder %s has files in it, such as %s, and is no cloud assembly", dir, entries[0].Name()),
			Hint: "choose an empty folder with --out",
		}
	}
	return nil
}
