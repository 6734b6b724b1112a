// Package kubectllayer makes the Lambda layer with kubectl 1.34 and Helm that
// CDK's kubectl handler needs.
//
// The Go package published for that layer, kubectlv34/v2 v2.0.0, does not
// compile with awscdk 2.224 and later (cdklabs/awscdk-asset-kubectl, issue
// 2503). Its subpackage jsii does, and holds the whole layer; what is here is
// the few lines of binding around it. It can go, in favour of
// kubectlv34.NewKubectlV34Layer, once a fixed release resolves.
package kubectllayer

import (
	"reflect"

	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/constructs-go/constructs/v10"
	jsiiruntime "github.com/aws/jsii-runtime-go/runtime"
	kubectljsii "github.com/cdklabs/awscdk-kubectl-go/kubectlv34/v2/jsii"
)

const className = "@aws-cdk/lambda-layer-kubectl-v34.KubectlV34Layer"

// Version is the minor version of kubectl in the layer.
const Version = "1.34"

// Supports lists the Kubernetes versions within the skew of this kubectl: one
// minor version older and newer. Source: Kubernetes documentation, "Version Skew
// Policy".
func Supports() []string { return []string{"1.33", "1.34", "1.35"} }

// KubectlV34Layer is the layer's type in jsii.
type KubectlV34Layer interface {
	awslambda.LayerVersion
}

// The name matters: the jsii runtime knows its own proxies by this prefix.
type jsiiProxy_KubectlV34Layer struct {
	awslambda.LayerVersion
}

func init() {
	jsiiruntime.RegisterClass(className, reflect.TypeFor[KubectlV34Layer](), nil, func() any {
		layer := jsiiProxy_KubectlV34Layer{}
		jsiiruntime.InitJsiiProxy(&layer.LayerVersion)
		return &layer
	})
}

// New adds the layer to scope.
func New(scope constructs.Construct, id *string) awslambda.LayerVersion {
	kubectljsii.Initialize()
	layer := jsiiProxy_KubectlV34Layer{}
	jsiiruntime.Create(className, []any{scope, id}, &layer)
	return &layer
}
