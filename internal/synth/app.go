// Package synth runs the CDK app in this process and reads back what it wrote.
//
// It is the one place that recovers the panics with which jsii and the
// constructs report errors.
package synth

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/place"
)

//go:embed context.json
var contextJSON []byte

// Context returns the CDK context of a new app, its feature flags. cdk.json holds the
// same, so that the CDK CLI gives the same templates.
func Context() map[string]any {
	var flags map[string]any
	if err := json.Unmarshal(contextJSON, &flags); err != nil {
		panic(fmt.Sprintf("synth: context.json: %v", err))
	}
	return flags
}

// contextOfCLI is CDK_CONTEXT_JSON, in which the CDK CLI hands an app its context.
const contextOfCLI = "CDK_CONTEXT_JSON"

// givenContext is what this program was started with: [StartKernel] removes it.
var givenContext = os.Getenv(contextOfCLI)

// AppContext is the CDK context of an app in the working directory: what the CDK CLI would
// hand it, so that both give the same templates. Each of these takes precedence over those
// before it: ~/.cdk.json, cdk.context.json, cdk.json, CDK_CONTEXT_JSON. Without a
// cdk.json it is that of a new app below them. Source: aws-cdk, lib/cli/user-configuration.
func AppContext() (map[string]any, error) {
	all := map[string]any{}
	if _, err := os.Stat("cdk.json"); errors.Is(err, fs.ErrNotExist) {
		all = Context()
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.DevNull // in which no file is
	}
	for _, file := range []struct {
		path string
		// within tells that the context is a part of the file.
		within bool
	}{{filepath.Join(home, ".cdk.json"), true}, {"cdk.context.json", false}, {"cdk.json", true}} {
		data, err := os.ReadFile(file.path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue
		} else if err != nil {
			return nil, err
		}
		var content map[string]any
		if err := json.Unmarshal(data, &content); err != nil {
			return nil, hint.Usage(file.path+" "+hint.Plain(err), "it has the settings of the CDK CLI, which this program takes over")
		}
		if file.within {
			content, _ = content["context"].(map[string]any)
		}
		maps.Copy(all, content)
	}
	if givenContext != "" {
		var content map[string]any
		if err := json.Unmarshal([]byte(givenContext), &content); err != nil {
			return nil, hint.Usage(contextOfCLI+" "+hint.Plain(err), "unset it, or give a JSON object")
		}
		maps.Copy(all, content)
	}
	return all, nil
}

// Qualifier is that of the bootstrap stack with which an app in the working directory is
// deployed, if nothing in it says another.
func Qualifier() (string, error) {
	context, err := AppContext()
	if err != nil {
		return "", err
	}
	if q, ok := context["@aws-cdk/core:bootstrapQualifier"].(string); ok && q != "" {
		return q, nil
	}
	return place.BootstrapQualifier, nil
}
