// Command cdkapp is the CDK app behind cdk.json, run by the CDK CLI. It takes
// the configuration that `-c config=path` names, or ekskms.yaml in the working
// directory, or the built-in default.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/synth"
	_ "github.com/ekskms/ekskms/internal/tempdir" // before jsii makes its own
)

func main() {
	code := 0
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ekskms:", err)
		code = 1
	}
	synth.Close()
	os.Exit(code)
}

func run() error {
	return synth.Recover(func() error {
		app := awscdk.NewApp(nil)
		path, _ := app.Node().TryGetContext(jsii.String("config")).(string)
		file, err := load(path)
		if err != nil {
			return err
		}
		synth.AddStacks(app, file)
		app.Synth(nil)
		return nil
	})
}

func load(path string) (*config.File, error) {
	if path != "" {
		return config.Load(path)
	}
	const local = "ekskms.yaml"
	if _, err := os.Stat(local); errors.Is(err, fs.ErrNotExist) {
		return config.Default(), nil
	}
	return config.Load(local)
}
