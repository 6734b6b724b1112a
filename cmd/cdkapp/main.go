// Command cdkapp is the CDK app behind cdk.json, run by the CDK CLI. It takes
// the configuration that `-c config=path` names, or ekskms.yaml in the working
// directory, or the built-in default.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/synth"
	_ "github.com/ekskms/ekskms/internal/tempdir" // before jsii makes its own
	"github.com/ekskms/ekskms/stacks"
)

func main() {
	synth.BeAPart()
	code := 0
	if err := synth.Recover(run); err != nil {
		fmt.Fprintln(os.Stderr, "ekskms:", err)
		code = 1
	}
	synth.Close()
	os.Exit(code)
}

func run() error {
	settings, err := synth.AppContext()
	if err != nil {
		return err
	}
	var paths []string
	if path, _ := settings["config"].(string); path != "" {
		paths = strings.Split(path, ",")
	}
	file, err := config.Load(paths...)
	if err != nil {
		return err
	}
	if outdir := os.Getenv("CDK_OUTDIR"); outdir != "" && synth.InParts(file) {
		return synth.Parts(context.Background(), file, outdir, nil, false, os.Stderr)
	}
	app := awscdk.NewApp(nil)
	stacks.FromConfig(app, file)
	app.Synth(nil)
	return nil
}
