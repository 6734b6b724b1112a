package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/tfplan"
)

// readPlan reads a Terraform plan or state, if a file is one. Nil if it is not.
func readPlan(name string) (*tfplan.Plan, error) {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, hint.Usage(hint.Plain(err), "")
	}
	if !tfplan.Is(data) {
		if tfplan.IsBinary(data) {
			return nil, hint.Usage(name+" is a plan in the form that only Terraform reads", fmt.Sprintf("'terraform show -json %s > plan.json' writes it as JSON", name))
		}
		return nil, nil
	}
	plan, err := tfplan.Parse(name, data)
	return plan, unreadable(err)
}

// writesPlan is the fix where a plan in JSON is missing.
const writesPlan = "'terraform show -json FILE > plan.json' writes it of the file of 'terraform plan -out'"

// readPlan is [readPlan], with the configuration of the plan of a test.
func (f *checkFlags) readPlan(name string) (*tfplan.Plan, error) {
	plan, err := readPlan(name)
	if err != nil || plan == nil || f.plan == "" {
		return plan, err
	}
	of, err := readPlan(f.plan)
	if err != nil {
		return nil, err
	}
	if of == nil {
		return nil, hint.Usage("--plan is "+f.plan+", which is no Terraform plan in JSON", writesPlan)
	}
	plan.With(of)
	return plan, nil
}

// wordsOfPlan are those for what is judged, which is called a template elsewhere.
var wordsOfPlan = strings.NewReplacer(
	"which is not in the template", "which the plan does not know", "in the templates", "in the plan", "in the template", "in the plan", "in these templates", "in this plan",
	"the templates have", "the plan has", "the template relies", "the plan relies", "DeletionPolicy is ${lifecycle.prevent_destroy} and UpdateReplacePolicy is ${lifecycle.prevent_destroy}", "whether it can be destroyed is ${lifecycle.prevent_destroy}",
)

// afterPlan is the source of what there is once a plan is applied, or of what a state has.
func afterPlan(name string, plan *tfplan.Plan) source {
	return func(env cfn.Environment) (*cfn.Assembly, error) {
		assembly, err := plan.After(name, env)
		return assembly, unreadable(err)
	}
}

// beforePlan is the source of what there is before a plan is applied.
func beforePlan(name string, plan *tfplan.Plan) source {
	return func(env cfn.Environment) (*cfn.Assembly, error) {
		assembly, err := plan.Before(name, env)
		return assembly, unreadable(err)
	}
}
