package ekskms

import (
	"fmt"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/finding"
)

// ChecksProps are the props of [AddChecks].
type ChecksProps struct {
	// FailOn is the least severity that makes synthesis fail: "low", "medium",
	// "high" or "critical". What is less severe is a warning.
	// Default: "medium".
	FailOn *string
	// Suppress are findings that are accepted, beside those of [SuppressCheck].
	// Default: none.
	Suppress *[]*CheckSuppression
}

// CheckSuppression accepts findings, for a reason.
type CheckSuppression struct {
	// Id of the check, as docs/reference/checks.md lists them. Required.
	Id *string
	// Resource is a construct path, which covers all below it, a logical ID, or the
	// name of a stack.
	// Default: every resource.
	Resource *string
	// Reason says why it is accepted. Required.
	Reason *string
}

// AddChecks runs the checks of 'ekskms check' on every synthesis of an app or a
// stage: on all of its stacks, whether they use this package or not. A finding at
// or above FailOn makes App.Synth panic and the CDK CLI fail; others are warnings.
// What can't be judged is printed as information.
//
// The checks run in this process after the templates are written. They change
// nothing, and ask nobody. CDK_VALIDATION=false does not switch them off.
//
// It panics with a *[PropError] if the scope is neither an app nor a stage, or a
// prop has a value that is not allowed.
func AddChecks(scope constructs.Construct, props *ChecksProps) {
	const typ = "AddChecks"
	if scope == nil || !*awscdk.Stage_IsStage(scope) {
		reject(typ, "scope", "is no app and no stage: CDK takes validation plugins there only")
	}
	if props == nil {
		props = &ChecksProps{}
	}
	p := &checksPlugin{failOn: finding.Medium}
	if props.FailOn != nil {
		if err := p.failOn.UnmarshalText([]byte(*props.FailOn)); err != nil {
			reject(typ, "FailOn", "is %q, must be low, medium, high or critical", *props.FailOn)
		}
	}
	if props.Suppress != nil {
		for _, s := range *props.Suppress {
			one := finding.Suppression{ID: *orDefault(s.Id, ""), Resource: *orDefault(s.Resource, ""), Reason: *orDefault(s.Reason, "")}
			if err := check.Validate(one); err != nil {
				reject(typ, "Suppress", "can't be taken: %v", err)
			}
			p.suppressions = append(p.suppressions, one)
		}
	}
	awscdk.Validations_Of(scope).AddPlugins(p)
}

// SuppressCheck accepts the findings of one check at one resource, for a reason
// that stays in the template's metadata and in the report of 'ekskms check'. The
// resource is the construct itself, or the one that a construct of CDK stands for,
// such as that of a cluster or a key.
//
// It panics with a *[PropError] if there is no such check, the reason is empty, or
// the construct is not a single resource.
func SuppressCheck(construct constructs.Construct, id, reason *string) {
	const typ = "SuppressCheck"
	require(typ, "construct", construct != nil)
	s := finding.Suppression{ID: *orDefault(id, ""), Reason: *orDefault(reason, "")}
	if err := check.Validate(s); err != nil {
		reject(typ, "id or reason", "can't be taken: %v", err)
	}
	resource := primaryResource(construct)
	if resource == nil {
		reject(typ, "construct", "is %s, which is not a single resource: pass the construct that the finding is about", *construct.Node().Path())
	}
	all := []any{}
	if there, ok := resource.GetMetadata(jsii.String(check.MetadataKey)).(map[string]any); ok {
		if list, ok := there["suppress"].([]any); ok {
			all = list
		}
	}
	all = append(all, map[string]any{"id": s.ID, "reason": s.Reason})
	resource.AddMetadata(jsii.String(check.MetadataKey), map[string]any{"suppress": all})
}

// primaryResource is the resource that a construct stands for. Nil if there is
// none.
func primaryResource(c constructs.IConstruct) awscdk.CfnResource {
	for c != nil {
		if resource, ok := c.(awscdk.CfnResource); ok {
			return resource
		}
		c = c.Node().DefaultChild()
	}
	return nil
}

// checksPlugin is what CDK calls.
type checksPlugin struct {
	failOn       finding.Severity
	suppressions []finding.Suppression
}

// pluginName begins the ID with which CDK acknowledges a finding.
const pluginName = "ekskms"

// Name is the name of the plugin in CDK's report.
func (p *checksPlugin) Name() *string { return jsii.String(pluginName) }

// Version is that of this module, if the program was built with one.
func (p *checksPlugin) Version() *string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range append(info.Deps, &info.Main) {
			if m.Path == "github.com/ekskms/ekskms" && strings.HasPrefix(m.Version, "v") {
				return jsii.String(strings.TrimPrefix(m.Version, "v"))
			}
		}
	}
	return jsii.String("0.0.0")
}

// RuleIds are the IDs of all checks.
func (p *checksPlugin) RuleIds() *[]*string {
	var ids []*string
	for _, r := range check.Rules() {
		ids = append(ids, jsii.String(r.ID))
	}
	return &ids
}

// Validate checks the templates. Nothing panics through CDK: a fault is a finding
// that can't be accepted.
func (p *checksPlugin) Validate(context awscdk.IPolicyValidationContext) (report *awscdk.PolicyValidationPluginReport) {
	defer func() {
		if r := recover(); r != nil {
			report = fatal(fmt.Errorf("%v", r))
		}
	}()
	assembly, err := readTemplates(context)
	if err != nil {
		return fatal(err)
	}
	found, err := check.Run(estate.FromTemplates(assembly), check.Options{Suppressions: p.suppressions, RolesElsewhere: true}) // where it would be noted at every synthesis
	if err != nil {
		return fatal(err)
	}
	violations := []*awscdk.PolicyViolation{}
	for _, f := range found.Findings {
		if f.Suppressed != "" {
			continue
		}
		severity := "warning"
		if f.Severity >= p.failOn {
			severity = "error"
		}
		violations = append(violations, &awscdk.PolicyViolation{
			RuleName:    jsii.String(f.Rule),
			Severity:    jsii.String(severity),
			Description: jsii.String(fmt.Sprintf("%s: %s. %s", f.Severity, f.Message, f.Why)),
			Fix:         jsii.String(f.Fix),
			ViolatingResources: &[]*awscdk.PolicyViolatingResource{{
				ResourceLogicalId: jsii.String(f.LogicalID), TemplatePath: jsii.String(f.File), Locations: &[]*string{},
			}},
		})
	}
	for _, n := range found.Notes {
		violations = append(violations, &awscdk.PolicyViolation{
			RuleName: jsii.String("note"), Severity: jsii.String("info"), Description: jsii.String(n.String()),
			ViolatingResources: &[]*awscdk.PolicyViolatingResource{},
		})
	}
	return &awscdk.PolicyValidationPluginReport{Success: jsii.Bool(found.Count(p.failOn) == 0), Violations: &violations}
}

func fatal(err error) *awscdk.PolicyValidationPluginReport {
	return &awscdk.PolicyValidationPluginReport{Success: jsii.Bool(false), Violations: &[]*awscdk.PolicyViolation{{
		RuleName: jsii.String("checks-failed"), Severity: jsii.String("fatal"),
		Description:        jsii.String("the templates were not checked: " + err.Error()),
		ViolatingResources: &[]*awscdk.PolicyViolatingResource{},
	}}}
}

// readTemplates reads the cloud assembly that has the templates: that of the app,
// or that of the stage.
func readTemplates(context awscdk.IPolicyValidationContext) (*cfn.Assembly, error) {
	folder := ""
	for _, s := range *context.StackTemplates() {
		dir := filepath.Dir(*s.TemplatePath)
		if folder == "" {
			folder = dir
		}
		for folder != dir && !strings.HasPrefix(dir, folder+string(filepath.Separator)) {
			folder = filepath.Dir(folder)
		}
	}
	return cfn.Load(folder, cfn.Environment{})
}
