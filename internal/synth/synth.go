package synth

import (
	"context"
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
	"github.com/ekskms/ekskms/internal/eksversion"
	"github.com/ekskms/ekskms/internal/files"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/stacks"
)

// Options say how to synthesize.
type Options struct {
	// Outdir is the folder of the cloud assembly. It is made if need be.
	Outdir string
	// Context is the CDK context. Default: that of [AppContext].
	Context map[string]any
	// Validate runs CDK's template validator, which takes seconds.
	Validate bool
	// Adopted is the ARN of the role of the one cluster, if that exists: the stack has what it
	// needs beside it.
	Adopted string
}

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
	stage, err := openStage(opts.Outdir)
	if err != nil {
		return nil, err
	}
	defer stage.work.End()
	if err := synthesize(ctx, file, stage.dir, opts); err != nil {
		return nil, err
	}
	if err := stage.work.Publish(stage.publish); err != nil {
		return nil, err
	}
	report, err := ReadReport(opts.Outdir)
	if err != nil {
		return nil, err
	}
	report.Findings = append(report.Findings, versionWarnings(file)...)
	return report, nil
}

// versionWarnings say what a person should know of the support of the Kubernetes versions.
// They depend on the date, and nothing that is written does: of a version that nobody
// confirms the construct says so.
func versionWarnings(file *config.File) []Finding {
	var all []Finding
	for _, c := range file.Clusters {
		support := eksversion.At(c.KubernetesVersion, eksversion.Now())
		if warning := support.Warning(); warning != "" && support.Phase != eksversion.Unconfirmed {
			all = append(all, Finding{Rule: "kubernetes-version", Severity: "warning", Message: warning, Where: []string{place.Stack(c.Name)}})
		}
	}
	return all
}

func synthesize(ctx context.Context, file *config.File, outdir string, opts Options) error {
	appContext := opts.Context
	if appContext == nil {
		var err error
		if appContext, err = AppContext(); err != nil {
			return err
		}
	}
	if InParts(file) {
		return Parts(ctx, file, outdir, appContext, opts.Validate, nil)
	}
	if err := StartKernel(opts.Validate); err != nil {
		return err
	}
	return Recover(func() error {
		app := awscdk.NewApp(appProps(outdir, appContext))
		if opts.Adopted != "" {
			stacks.ForAdoption(app, file.Clusters[0], opts.Adopted)
		} else {
			stacks.FromConfig(app, file)
		}
		app.Synth(nil)
		return nil
	})
}

// appProps are those of an app that this program synthesizes by itself.
func appProps(outdir string, appContext map[string]any) *awscdk.AppProps {
	// The findings are read from the report that CDK writes, and not printed
	// by CDK.
	appContext["@aws-cdk/core:failSynthOnValidationErrors"] = false
	// As the CDK CLI does by default.
	appContext["aws:cdk:enable-path-metadata"] = true
	// The traces are of JavaScript, and hold temporary folders of this run.
	appContext["aws:cdk:disable-creation-stack-traces"] = true
	return &awscdk.AppProps{
		Outdir:             jsii.String(outdir),
		Context:            &appContext,
		AnalyticsReporting: jsii.Bool(false),
	}
}

// StartKernel makes the jsii kernel that is about to start see the environment
// as it is set here. The runtime takes the environment when the program starts,
// long before it starts Node; closing the client that it prepared then makes it
// take a new one at the first call.
func StartKernel(validate bool) error {
	jsii.Close()
	dir, err := temp.open()
	if err != nil {
		return &hint.Error{What: fmt.Sprintf("can't make a folder for temporary files: %v", err), Hint: "set TMPDIR to a folder that can be written"}
	}
	home := cacheFolder()
	options := ""
	if home == "" {
		// As the runtime gives it to its kernel, which links libraries then.
		options = " --preserve-symlinks"
	}
	if err := setCache(home); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"CDK_VALIDATION": strconv.FormatBool(validate),
		// The user's, and what makes Node start faster. The jsii runtime's own
		// option, a larger heap, is left out: with it Node can't use its
		// built-in code cache, and this needs no such heap.
		"NODE_OPTIONS": strings.TrimSpace(userNodeOptions + options + " --require " + strconv.Quote(filepath.Join(dir, "direct.js"))),
		// Node 20 works; checkNode refuses what is older.
		"JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": strconv.Itoa(leastNode),
		// jsii and CDK leave files behind: these are removed with the folder.
		"TMPDIR": dir, "TMP": dir, "TEMP": dir,
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	// What a surrounding CDK CLI told its app must not reach this one.
	for _, name := range []string{contextOfCLI, "CDK_OUTDIR"} {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	return nil
}

// userNodeOptions are those with which this program was started.
var userNodeOptions = os.Getenv("NODE_OPTIONS")

// Close ends Node and removes all temporary files. It must be the last thing
// that a program does.
func Close() {
	jsii.Close()
	temp.remove()
}

// Abandon ends a [Run] that goes on elsewhere: it kills Node and removes what was
// written so far. The program must end then, and os.Stderr is silent: the runtime
// would complain there that Node was killed. If the assembly is in its place
// already, nothing is done and the answer is false: Run is about to return.
func Abandon() bool {
	if !files.Abandon(func() {
		if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
			os.Stderr = null
		}
		temp.killNode()
		endParts()
	}) {
		return false
	}
	temp.remove()
	return true
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
	const advice = "install Node 22 or 24, or set JSII_NODE to the path of its binary"
	node := os.Getenv("JSII_NODE")
	if node == "" {
		node = "node"
	}
	out, err := exec.CommandContext(ctx, node, "--version").Output()
	if err != nil {
		reason := err.Error()
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			reason = firstLine(exit.Stderr)
		}
		return &hint.Error{What: fmt.Sprintf("can't run %q, which the CDK needs: %s", node, reason), Hint: advice}
	}
	version := firstLine(out)
	majorText, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	major, err := strconv.Atoi(majorText)
	if err != nil {
		return &hint.Error{What: fmt.Sprintf("%q says that its version is %q, want something like v22.0.0", node, version), Hint: advice}
	}
	if major < leastNode {
		return &hint.Error{What: fmt.Sprintf("Node %s is too old, the CDK needs %d or later", version, leastNode), Hint: advice}
	}
	return nil
}

func firstLine(output []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
	return line
}
