package ekskms

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/place"
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

func checkClusterName(typ string, name *string) {
	require(typ, "ClusterName", name != nil && *name != "")
	switch {
	case *awscdk.Token_IsUnresolved(name):
		reject(typ, "ClusterName", "is not known at synthesis, but the names of the key and the trail are made of it: pass a literal")
	case !place.IsClusterName(*name):
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

// warnNotApplied says that Kubernetes objects are left to a pipeline.
func warnNotApplied(scope constructs.Construct, what string) {
	warn(scope, "objects-not-applied", "ApplyObjects is false, so the template does not have the Kubernetes objects of "+what+": they work once you have applied what 'ekskms generate manifests' prints.")
}

func orDefault[T any](value *T, def T) *T {
	if value == nil {
		return &def
	}
	return value
}

// days returns a duration of whole days within AWS's limits, unless it is a token, or
// the default.
func days(typ, prop string, d awscdk.Duration, of blueprint.Number) awscdk.Duration {
	switch {
	case d == nil:
		return awscdk.Duration_Days(jsii.Number(of.Default))
	case *d.IsUnresolved():
		return d
	}
	n := *d.ToDays(&awscdk.TimeConversionOptions{Integral: jsii.Bool(false)})
	if n < float64(of.Least) || n > float64(of.Most) || n != float64(int(n)) {
		reject(typ, prop, "is %v days, must be %d to %d", n, of.Least, of.Most)
	}
	return d
}

// principalARN returns the ARN of the one principal that a grantable stands for: a role
// or a user, by itself or as an awsiam.ArnPrincipal.
func principalARN(typ, prop string, grantee awsiam.IGrantable) string {
	require(typ, prop, grantee != nil)
	fragment := grantee.GrantPrincipal().PolicyFragment()
	var arns []*string
	for kind, list := range *fragment.PrincipalJson() {
		if kind != "AWS" || list == nil {
			reject(typ, prop, "is a principal of the kind %q, must be an IAM role or user", kind)
		}
		arns = append(arns, *list...)
	}
	switch {
	case len(arns) != 1:
		reject(typ, prop, "stands for %d principals, must be one IAM role or user", len(arns))
	case len(*fragment.Conditions()) > 0:
		reject(typ, prop, "is %s under conditions, which would be lost here: pass the role or user itself", *arns[0])
	case strings.Contains(*arns[0], "*") || strings.HasSuffix(*arns[0], ":root"):
		reject(typ, prop, "is %s, which stands for many: name a role or user", *arns[0])
	}
	return *arns[0]
}

// PermissionSet is a permission set of IAM Identity Center, where the key policy names
// roles: as one of the Administrators, Creators, Readers or BreakGlass. It stands for the
// set's role in the account of the scope, whatever characters its name ends with; the set
// must allow the actions too. The scope is a stack, or anything in one.
//
// It panics with a [*PropError] when the name is not that of a permission set: 1 to 32
// letters, digits and +=,.@_-.
func PermissionSet(scope constructs.Construct, name *string) awsiam.IGrantable {
	require("PermissionSet", "name", name != nil)
	if !place.IsPermissionSet(*name) {
		reject("PermissionSet", "name", "is %q, must be 1 to 32 letters, digits and +=,.@_-", *name)
	}
	return awsiam.NewArnPrincipal(jsii.String(siteOf(scope).Role(place.PermissionSetPrefix + *name)))
}

func principalARNs(typ, prop string, grantees *[]awsiam.IGrantable) []string {
	var arns []string
	for i, grantee := range *orDefault(grantees, nil) {
		arns = append(arns, principalARN(typ, prop+"["+strconv.Itoa(i)+"]", grantee))
	}
	return arns
}

// grant writes statements into the identity policy of a principal, as far as it has one
// that can be changed from here.
func grant(grantee awsiam.IGrantable, statements []iampolicy.Statement) awsiam.Grant {
	all := awsiam.Grant_Drop(grantee, jsii.String("ekskms"))
	for _, s := range statements {
		options := &awsiam.GrantOnPrincipalOptions{Grantee: grantee, Actions: jsii.Strings(s.Action...), ResourceArns: jsii.Strings(s.Resource...)}
		if conditions, ok := s.Map()["Condition"].(map[string]any); ok {
			options.Conditions = &map[string]*map[string]any{}
			for operator, values := range conditions {
				m := values.(map[string]any)
				(*options.Conditions)[operator] = &m
			}
		}
		one := awsiam.Grant_AddToPrincipal(options)
		if added := one.PrincipalStatement(); added != nil && s.Sid != "" {
			added.SetSid(jsii.String(s.Sid))
		}
		all = all.Combine(one)
	}
	return all
}

// policyDocument hands statements to CDK as they are.
func policyDocument(statements []iampolicy.Statement) awsiam.PolicyDocument {
	return awsiam.PolicyDocument_FromJson(documentMap(statements))
}

func documentMap(statements []iampolicy.Statement) map[string]any {
	return map[string]any{"Version": iampolicy.Version, "Statement": statementMaps(statements)}
}

func statementMaps(statements []iampolicy.Statement) []any {
	list := make([]any, len(statements))
	for i, s := range statements {
		list[i] = s.Map()
	}
	return list
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

// token is a text of the CDK as a value of the blueprint.
type token string

// Text returns the token, or what it would stand for.
func (t token) Text() string { return string(t) }

// Known tells whether that is the value itself.
func (t token) Known() bool { return !*awscdk.Token_IsUnresolved(jsii.String(string(t))) }

// site is the place of a stack. The values are literals where the stack's environment
// is known and tokens where it is not. Each of them is a call to Node: constructs ask
// once.
type site struct {
	place.Place
	stack awscdk.Stack
}

func siteOf(scope constructs.Construct) site {
	stack := awscdk.Stack_Of(scope)
	return site{stack: stack, Place: place.Place{
		Partition: token(*stack.Partition()), Account: token(*stack.Account()),
		Region: token(*stack.Region()), DNSSuffix: token(*stack.UrlSuffix()),
	}}
}

// sameEnvironment tells whether two sites may share resources, as far as that is known
// at synthesis.
func (s site) sameEnvironment(other site) bool {
	return s.Account == other.Account && s.Region == other.Region
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
