package ekskms

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/iampolicy"
)

// PropError is what a constructor of this package panics with when a prop is
// missing or has a value that the constructor refuses.
type PropError struct {
	// Type is the construct, such as "SecretsKey".
	Type string
	// Prop is the field of its props.
	Prop string
	// Reason says what is wrong with the value, and what is allowed.
	Reason string
}

// Error returns one line, such as
// "ekskms.SecretsKey: RotationPeriod is 30 days, must be 90 to 2560".
func (e *PropError) Error() string {
	return "ekskms." + e.Type + ": " + e.Prop + " " + e.Reason
}

func reject(typ, prop, format string, args ...any) {
	panic(&PropError{Type: typ, Prop: prop, Reason: fmt.Sprintf(format, args...)})
}

func require(typ, prop string, given bool) {
	if !given {
		reject(typ, prop, "is missing, it has no default")
	}
}

// clusterName is the pattern of CreateCluster in the Amazon EKS API Reference.
var clusterName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$`)

func checkClusterName(typ string, name *string) {
	require(typ, "ClusterName", name != nil && *name != "")
	switch {
	case *awscdk.Token_IsUnresolved(name):
		reject(typ, "ClusterName", "is not known at synthesis, but the names of the key and the trail are made of it: pass a literal")
	case !clusterName.MatchString(*name):
		reject(typ, "ClusterName", "is %q, must be 1 to 100 letters, digits, hyphens and underscores, and begin with a letter or digit", *name)
	}
}

// checkName wants a name that Kubernetes takes. It can't be a token, since other
// names are made of it.
func checkName(typ, prop string, name *string, problems func(string) []string) {
	require(typ, prop, name != nil)
	if found := problems(*name); len(found) > 0 {
		reject(typ, prop, "is %q: %s", *name, found[0])
	}
}

// warn says something at synthesis that does not stop it. The ID is for those who
// acknowledge it.
func warn(scope constructs.Construct, id, text string) {
	awscdk.Annotations_Of(scope).AddWarningV2(jsii.String("ekskms:"+id), jsii.String(text), nil)
}

func orDefault[T any](value *T, def T) *T {
	if value == nil {
		return &def
	}
	return value
}

// checkDays wants a duration of whole days within AWS's limits, unless it is a
// token.
func checkDays(typ, prop string, d awscdk.Duration, least, most float64) {
	if *d.IsUnresolved() {
		return
	}
	n := *d.ToDays(&awscdk.TimeConversionOptions{Integral: jsii.Bool(false)})
	if n < least || n > most || n != float64(int(n)) {
		reject(typ, prop, "is %v days, must be %v to %v", n, least, most)
	}
}

func roleARNs(typ, prop string, roles *[]awsiam.IRole) []string {
	if roles == nil {
		return nil
	}
	arns := make([]string, len(*roles))
	for i, role := range *roles {
		require(typ, prop+"["+strconv.Itoa(i)+"]", role != nil)
		arns[i] = *role.RoleArn()
	}
	return arns
}

// policyDocument hands statements to CDK as they are.
func policyDocument(statements []iampolicy.Statement) awsiam.PolicyDocument {
	return awsiam.PolicyDocument_FromJson(documentMap(statements))
}

func documentMap(statements []iampolicy.Statement) map[string]any {
	list := make([]any, len(statements))
	for i, s := range statements {
		list[i] = s.Map()
	}
	return map[string]any{"Version": iampolicy.Version, "Statement": list}
}

func policyStatement(s iampolicy.Statement) awsiam.PolicyStatement {
	return awsiam.PolicyStatement_FromJson(s.Map())
}

func policyStatements(statements []iampolicy.Statement) []awsiam.PolicyStatement {
	list := make([]awsiam.PolicyStatement, len(statements))
	for i, s := range statements {
		list[i] = policyStatement(s)
	}
	return list
}

// place is what the ARNs of a stack are made of. The values are literals where
// the stack's environment is known and tokens where it is not. Each of them is a
// call to Node: constructs ask once.
type place struct {
	stack                      awscdk.Stack
	partition, account, region string
}

func placeOf(scope constructs.Construct) place {
	stack := awscdk.Stack_Of(scope)
	return place{stack, *stack.Partition(), *stack.Account(), *stack.Region()}
}

func (p place) arn(service, resource string) string {
	return "arn:" + p.partition + ":" + service + ":" + p.region + ":" + p.account + ":" + resource
}

// sameEnvironment tells whether two places may share resources, as far as that is
// known at synthesis.
func (p place) sameEnvironment(other place) bool {
	return p.account == other.account && p.region == other.region
}

// service returns the endpoint name of a service in the Region, which is also
// the name of some service principals and of kms:ViaService.
func (p place) service(name string) string {
	return name + "." + p.region + "." + *p.stack.UrlSuffix()
}

// resolved returns a value as far as it is known at synthesis: itself, or the
// expression that CloudFormation gets for its tokens, as JSON.
func resolved(stack awscdk.Stack, value string) string {
	found := stack.Resolve(value)
	if text, ok := found.(string); ok {
		return text
	}
	data, err := json.Marshal(found)
	if err != nil {
		return value
	}
	return string(data)
}

// stringMap converts a Go map for jsii.
func stringMap(m map[string]string) *map[string]*string {
	out := make(map[string]*string, len(m))
	for k, v := range m {
		out[k] = jsii.String(v)
	}
	return &out
}
