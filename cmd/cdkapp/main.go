// Command cdkapp is the CDK app behind cdk.json, run by the CDK CLI. It takes
// the configuration that `-c config=path` names, or ekskms.yaml in the working
// directory, or the built-in default.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/synth"
	_ "github.com/ekskms/ekskms/internal/tempdir" // before jsii makes its own
	"github.com/ekskms/ekskms/stacks"
)

func main() {
	code := 0
	if err := synth.Recover(run); err != nil {
		fmt.Fprintln(os.Stderr, "ekskms:", err)
		code = 1
	}
	synth.Close()
	os.Exit(code)
}

func run() error {
	app := awscdk.NewApp(nil)
	var paths []string
	if path, _ := app.Node().TryGetContext(jsii.String("config")).(string); path != "" {
		paths = strings.Split(path, ",")
	}
	file, err := config.Load(paths...)
	if err != nil {
		return err
	}
	stacks.FromConfig(app, file)
	app.Synth(nil)
	return nil
}
