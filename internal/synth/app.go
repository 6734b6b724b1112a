// Package synth runs the CDK app in this process and reads back what it wrote.
//
// It is the one place that recovers the panics with which jsii and the
// constructs report errors.
package synth

import (
	_ "embed"
	"encoding/json"
	"fmt"
)

//go:embed context.json
var contextJSON []byte

// Context returns the CDK context of every synthesis: the feature flags of a
// new app. cdk.json holds the same, so that the CDK CLI gives the same
// templates.
func Context() map[string]any {
	var flags map[string]any
	if err := json.Unmarshal(contextJSON, &flags); err != nil {
		panic(fmt.Sprintf("synth: context.json: %v", err))
	}
	return flags
}
