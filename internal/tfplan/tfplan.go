// Package tfplan reads Terraform plans and states, as 'terraform show -json' prints them, and
// those of OpenTofu.
//
// What they say becomes a template of CloudFormation, whose resources have the addresses of
// Terraform for logical IDs: its reader resolves references, and knows ARNs that nobody has
// given yet. A value that is known after the apply only is a parameter without a default, and
// so not known there.
//
// Source: "JSON Output Format" in the documentation of Terraform, formats 1.0 to 1.2, and
// plans that were made with Terraform 1.11 and the AWS provider 5.100.
package tfplan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/place"
)

// Is tells whether a file is a plan or a state in JSON, or what 'terraform test -json -verbose'
// prints of one.
func Is(data []byte) bool {
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return false
	}
	if isTest(data) {
		return true
	}
	var top struct {
		FormatVersion string          `json:"format_version"`
		Changes       json.RawMessage `json:"resource_changes"`
		Planned       json.RawMessage `json:"planned_values"`
		Values        json.RawMessage `json:"values"`
	}
	return json.Unmarshal(data, &top) == nil && top.FormatVersion != "" && (top.Changes != nil || top.Planned != nil || top.Values != nil)
}

// isTest tells whether this is what a test prints, a line for each event.
func isTest(data []byte) bool {
	first, _, _ := bytes.Cut(data, []byte("\n"))
	return bytes.Contains(first, []byte(`"@level"`)) && (bytes.Contains(first, []byte(`"terraform.ui"`)) || bytes.Contains(first, []byte(`"test_plan"`)))
}

// tested is the last plan or state in what a test prints. The error is why there is none.
func tested(data []byte) (last json.RawMessage, err error) {
	why := "'terraform test' printed no plan: give it -verbose"
	for line := range bytes.Lines(data) {
		var event struct {
			Plan  json.RawMessage `json:"test_plan"`
			State json.RawMessage `json:"test_state"`
			Fault struct {
				Severity, Summary string
				Range             struct {
					Filename string
					Start    struct{ Line int }
				}
			} `json:"diagnostic"`
		}
		switch {
		case json.Unmarshal(line, &event) != nil:
		case event.Plan != nil:
			last = event.Plan
		case event.State != nil:
			last = event.State
		case event.Fault.Severity == "error" && err == nil: // what it says in full can hold values
			why = "'terraform test' ended with an error, and printed no plan: " + event.Fault.Summary
			if at := event.Fault.Range; at.Filename != "" {
				why += fmt.Sprintf(", at %s:%d", at.Filename, at.Start.Line)
			}
			err = errors.New(why)
		}
	}
	if last == nil {
		return nil, errors.New(why)
	}
	return last, nil
}

// IsBinary tells whether a file is a plan as 'terraform plan -out' writes it: a ZIP archive.
func IsBinary(data []byte) bool {
	return bytes.HasPrefix(data, []byte("PK\x03\x04")) && bytes.Contains(data, []byte("tfplan"))
}

// Plan is a plan, or a state, which has nothing before and after.
type Plan struct {
	FormatVersion string `json:"format_version"`
	// TestVersion is that of a plan of a test.
	TestVersion string `json:"plan_format_version"`
	// Complete is nil for what does not say it: a state, and plans of OpenTofu.
	Complete *bool                          `json:"complete"`
	Errored  bool                           `json:"errored"`
	Changes  []change                       `json:"resource_changes"`
	Drift    []change                       `json:"resource_drift"`
	Prior    *state                         `json:"prior_state"`
	Values   *values                        `json:"values"`
	Config   configuration                  `json:"configuration"`
	Planned  *values                        `json:"planned_values"`
	Inputs   map[string]struct{ Value any } `json:"variables"`
}

type state struct {
	Values *values `json:"values"`
}

type values struct {
	Root module `json:"root_module"`
}

type module struct {
	Resources []resource `json:"resources"`
	Children  []module   `json:"child_modules"`
}

// resource is one of a state.
type resource struct {
	Address   string         `json:"address"`
	Mode      string         `json:"mode"`
	Type      string         `json:"type"`
	Name      string         `json:"name"`
	Values    map[string]any `json:"values"`
	Sensitive any            `json:"sensitive_values"`
}

// change is one of a plan.
type change struct {
	Address string `json:"address"`
	Module  string `json:"module_address"`
	Mode    string `json:"mode"`
	Type    string `json:"type"`
	Name    string `json:"name"`
	// Deposed is what is left of one that was replaced, and is deleted.
	Deposed string `json:"deposed"`
	Change  struct {
		Actions         []string       `json:"actions"`
		Before          map[string]any `json:"before"`
		After           map[string]any `json:"after"`
		Unknown         any            `json:"after_unknown"`
		BeforeSensitive any            `json:"before_sensitive"`
		AfterSensitive  any            `json:"after_sensitive"`
		ReplacePaths    []any          `json:"replace_paths"`
	} `json:"change"`
	Reason string `json:"action_reason"`
}

// replaced says that a resource is deleted and made again, and why. Empty if it is not.
func (c change) replaced() string {
	if !slices.Contains(c.Change.Actions, "delete") || !slices.Contains(c.Change.Actions, "create") {
		return ""
	}
	reasons := map[string]string{
		"replace_because_tainted": "it is tainted", "replace_by_request": "it was asked for", "replace_by_triggers": "of replace_triggered_by",
	}
	why := reasons[c.Reason]
	if why == "" && len(c.Change.ReplacePaths) > 0 {
		var paths []string
		for _, path := range c.Change.ReplacePaths {
			var steps []string
			list, _ := path.([]any)
			for _, step := range list {
				steps = append(steps, fmt.Sprint(step))
			}
			paths = append(paths, strings.Join(steps, "."))
		}
		why = strings.Join(paths, ", ") + " can't be changed"
	}
	if why == "" {
		return "the plan deletes it and makes another"
	}
	return "the plan deletes it and makes another, because " + why
}

// ErrNothing is that of a plan that makes nothing which is read, or of one before which there
// is nothing.
var ErrNothing = errors.New("has no resource of AWS that is read")

// Parse reads a plan or a state.
func Parse(name string, data []byte) (*Plan, error) {
	p := &Plan{}
	if isTest(data) {
		plan, err := tested(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		data = plan
	}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("%s: is no output of 'terraform show -json': %w", name, err)
	}
	p.FormatVersion = cmp.Or(p.FormatVersion, p.TestVersion)
	if major, _, _ := strings.Cut(p.FormatVersion, "."); major != "0" && major != "1" {
		return nil, fmt.Errorf("%s: has the format version %q, and 1 is known", name, p.FormatVersion)
	}
	return p, nil
}

// Half says why a plan is only a part of one, or nothing.
func (p *Plan) Half() string {
	switch {
	case p.Errored:
		return "planning ended with an error, and what comes after it is not in the plan"
	case p.Complete != nil && !*p.Complete:
		return "the plan is not complete: it was made for some targets, or something was deferred"
	}
	return ""
}

// IsState tells that it is a state, which has no before and after.
func (p *Plan) IsState() bool { return p.Values != nil }

// thing is a resource as it is at one time.
type thing struct {
	address, module, mode, kind, name string
	values                            map[string]any
	unknown, sensitive                any
	// replaced and kept say what the plan does with it, and before is what it is updated from.
	replaced string
	kept     bool
	before   map[string]any
}

// After is what there is once the plan is applied, or what a state has, as templates. name is
// that of the file, for messages.
func (p *Plan) After(name string, env cfn.Environment) (*cfn.Assembly, error) {
	return p.assembly(name, p.after(), env)
}

// Before is what there is before the plan is applied.
func (p *Plan) Before(name string, env cfn.Environment) (*cfn.Assembly, error) {
	return p.assembly(name, p.before(), env)
}

func (p *Plan) after() (all []thing) {
	if p.IsState() {
		return p.Values.things()
	}
	for _, c := range p.Changes {
		if c.Deposed != "" || c.Change.After == nil || slices.Equal(c.Change.Actions, []string{"delete"}) || slices.Equal(c.Change.Actions, []string{"forget"}) {
			continue
		}
		one := thing{address: c.Address, module: c.Module, mode: c.Mode, kind: c.Type, name: c.Name, values: c.Change.After,
			unknown: c.Change.Unknown, sensitive: c.Change.AfterSensitive, replaced: c.replaced()}
		if slices.Equal(c.Change.Actions, []string{"update"}) {
			one.before = c.Change.Before
		}
		all = append(all, one)
	}
	return append(all, p.data(all)...)
}

func (p *Plan) before() (all []thing) {
	for _, c := range p.Changes {
		if c.Deposed != "" || c.Change.Before == nil {
			continue
		}
		kept := slices.Equal(c.Change.Actions, []string{"forget"})
		all = append(all, thing{address: c.Address, module: c.Module, mode: c.Mode, kind: c.Type, name: c.Name, values: c.Change.Before, sensitive: c.Change.BeforeSensitive, kept: kept})
	}
	return append(all, p.data(all)...)
}

// data is what was read while planning, which is not among the changes.
func (p *Plan) data(but []thing) (all []thing) {
	if p.Prior == nil || p.Prior.Values == nil {
		return nil
	}
	for _, t := range p.Prior.Values.things() {
		if t.mode == "data" && !slices.ContainsFunc(but, func(o thing) bool { return o.address == t.address }) {
			all = append(all, t)
		}
	}
	return all
}

func (v *values) things() (all []thing) {
	var walk func(m module)
	walk = func(m module) {
		for _, r := range m.Resources {
			all = append(all, thing{address: r.Address, module: moduleOf(r.Address), mode: r.Mode, kind: r.Type, name: r.Name, values: r.Values, sensitive: r.Sensitive})
		}
		for _, child := range m.Children {
			walk(child)
		}
	}
	walk(v.Root)
	return all
}

// moduleOf is the address of the module of a resource, or nothing for the root.
func moduleOf(address string) string {
	steps := splitAddress(address)
	i := 0
	for i+1 < len(steps) && steps[i] == "module" {
		i += 2
	}
	return strings.Join(steps[:i], ".")
}

// splitAddress cuts an address at its dots, and leaves those within brackets.
func splitAddress(address string) (steps []string) {
	depth, quoted, from := 0, false, 0
	for i := 0; i < len(address); i++ {
		switch c := address[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == '.' && depth == 0:
			steps = append(steps, address[from:i])
			from = i + 1
		}
	}
	return append(steps, address[from:])
}

// assembly is what things say, as a template.
func (p *Plan) assembly(name string, all []thing, env cfn.Environment) (*cfn.Assembly, error) {
	t := &translation{plan: p, things: map[string]*thing{}, resources: map[string]map[string]any{}, parameters: map[string]any{}}
	for i := range all {
		t.things[all[i].address] = &all[i]
		t.order = append(t.order, &all[i])
	}
	if half := p.Half(); half != "" {
		t.note("%s", half)
	}
	t.run()
	env.Planned = !p.IsState()
	env.ElseAccount, env.ElseRegion = cmp.Or(t.account(), env.ElseAccount), cmp.Or(t.region, env.ElseRegion)
	var parts []cfn.Part
	for _, region := range slices.Sorted(maps.Keys(t.resources)) {
		if len(t.resources[region]) == 0 {
			continue
		}
		data, err := json.Marshal(map[string]any{"Resources": t.resources[region], "Parameters": t.parameters})
		if err != nil {
			return nil, err
		}
		part := cfn.Part{Name: name, Data: data, Region: region}
		if region != t.region {
			part.Name += ", " + region
			env.Region = "" // which would be that of all
		}
		parts = append(parts, part)
	}
	if parts == nil {
		return nil, fmt.Errorf("%s: %w", name, ErrNothing)
	}
	a, err := cfn.ParseAll(name, parts, env)
	if err != nil {
		return nil, err
	}
	for _, template := range a.Templates {
		for _, r := range template.Resources {
			r.Line = 0 // of a text that nobody sees
		}
	}
	a.Note(t.notes...)
	return a, nil
}

// translation makes a template of things.
type translation struct {
	plan   *Plan
	things map[string]*thing
	order  []*thing
	// region is that of the provider aws, and resources are by their Regions.
	region     string
	resources  map[string]map[string]any
	parameters map[string]any
	notes      []string
}

// properties are those of a resource in its template. Nil if it is in none.
func (t *translation) properties(one *thing) properties {
	resource, _ := t.resources[t.regionOf(one)][one.id()].(map[string]any)
	p, _ := resource["Properties"].(properties)
	return p
}

// account is that of the credentials with which the plan was made, if it says so.
func (t *translation) account() string {
	for _, one := range t.order {
		if one.mode == "data" && one.kind == "aws_caller_identity" {
			if id, ok := one.values["account_id"].(string); ok && place.IsAccount(id) {
				return id
			}
		}
	}
	return ""
}

// providerRegion is the Region of a provider of the configuration, if it is written there, or
// in a variable.
func (t *translation) providerRegion(key string) string {
	region, _ := t.constant(t.plan.Config.Providers[key].Expressions["region"]).(string)
	return region
}

// mainRegion is that of the provider aws, or that of data about it.
func (t *translation) mainRegion() string {
	if region := t.providerRegion("aws"); region != "" {
		return region
	}
	found := map[string]bool{}
	for _, one := range t.order {
		if name, ok := one.values["name"].(string); ok && one.mode == "data" && one.kind == "aws_region" {
			found[name] = true
		}
	}
	if len(found) == 1 {
		return slices.Collect(maps.Keys(found))[0]
	}
	return ""
}

// regionOf is the Region of a resource: that of its provider.
func (t *translation) regionOf(one *thing) string {
	_, provider := t.plan.Config.resource(one)
	return cmp.Or(t.providerRegion(provider), t.region)
}
