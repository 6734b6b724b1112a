// Package cfn reads CloudFormation templates and cloud assemblies, and resolves
// what a template says to what it will mean.
//
// References become concrete text at once: a role is its ARN wherever it is
// referred to, with its logical ID for the part of the name that CloudFormation
// will make up. Two values are then equal if they mean the same resource. What is
// not in the templates is a [value.Unknown], never a guess.
package cfn

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/value"
)

// The account and the Region for which a template is resolved when nothing says
// otherwise.
const (
	ExampleAccount = "123456789012"
	ExampleRegion  = "us-east-1"
)

// Environment is what pseudo parameters stand for. Empty fields are taken from
// the cloud assembly, or else are those of the example.
type Environment struct {
	// Account and Region of all stacks, whatever the cloud assembly says.
	Account, Region string
	// ElseAccount and ElseRegion are for stacks of which it does not say them.
	// Default: those of the example, and the template is Assumed.
	ElseAccount, ElseRegion string
	// Planned tells that the template was made of a plan, of which some things are known
	// once it is applied.
	Planned bool
	// Parameters of the templates, by name. Default: the Default of each.
	Parameters map[string]string
	// Shared are logical IDs that stand in several stacks, beside those of the assembly
	// itself: what has one is named by its stack too. With those of another assembly, the
	// names of both are comparable.
	Shared map[string]bool
}

// Assembly is a set of templates that belong together: a single file, or the
// stacks of a cloud assembly.
type Assembly struct {
	// Templates in the order of the stacks' names, nested ones after their parent.
	Templates []*Template

	// Planned is that of the environment.
	Planned bool
	// Shared are the logical IDs that stand in several of the templates.
	Shared map[string]bool

	index  map[string][]*Resource
	byType map[string][]*Resource
	loader *loader
	// decided tells that it is one of the cases of another.
	decided bool
}

// Template is a CloudFormation template.
type Template struct {
	// Name of the stack, or of the file.
	Name string
	// File that the template was read from, as the caller named it.
	File string
	// Partition, Account and Region for which references were resolved. Assumed
	// tells that one of account and Region is the example's.
	Partition, Account, Region string
	Assumed                    bool
	Resources                  map[string]*Resource
	// Outputs by name: their values, resolved.
	Outputs  map[string]any
	unknowns map[string]bool // expressions that stand in strings as ${Expression}
	// transforms are the macros that may change the template before it is deployed; twice
	// says where a name is given twice, and known which keys have the ARNs that they are said
	// to have.
	transforms, twice, known []string
	// notes are what another reader, which made the template, says of it.
	notes []string
}

// Note has the templates say something more of what is deployed.
func (a *Assembly) Note(notes ...string) {
	a.Templates[0].notes = append(a.Templates[0].notes, notes...)
}

// Metadata of a resource that another reader knows more of: the ARN that it has, and texts
// that mean the resource, as its name does.
const (
	ARNMetadata   = "ekskms:arn"
	NamesMetadata = "ekskms:names"
	// ReplacedMetadata says that a resource is deleted and made again, and why.
	ReplacedMetadata = "ekskms:replaced"
)

// Caveats say why what is deployed may not be what the template seems to say.
func (t *Template) Caveats() (all []string) {
	for _, name := range t.transforms {
		all = append(all, fmt.Sprintf("%s has the transform %s, which may change what is deployed: the template was judged as it is written", t.Name, name))
	}
	for _, where := range t.twice {
		all = append(all, fmt.Sprintf("%s, %s", t.Name, where))
	}
	for _, what := range t.known {
		all = append(all, fmt.Sprintf("%s, %s", t.Name, what))
	}
	return append(all, t.notes...)
}

// Resource is a resource of a template. One whose Condition is false is left out.
type Resource struct {
	// ID is the logical ID.
	ID, Type string
	// Path is the construct path of CDK without a last "/Resource", or the logical ID.
	Path string
	// ARN as references to the resource have it, unique among the stacks. Empty if its
	// type has none that is known.
	ARN string
	// Properties with every reference resolved: a string, float64, bool,
	// []any, map[string]any, or [value.Unknown].
	Properties map[string]any
	// Raw are the properties as they were written.
	Raw map[string]any
	// One of these that is not known stands as a [value.Unknown] does in a string.
	DeletionPolicy, UpdateReplacePolicy string
	Metadata                            map[string]any
	DependsOn                           []string
	condition                           string // if it is not decided
	// Line of the resource in the file, from 1.
	Line     int
	Template *Template
}

// OfType returns the resources of a type, in the order of templates and logical IDs.
func (a *Assembly) OfType(kind string) []*Resource {
	if a.byType == nil {
		a.byType = map[string][]*Resource{}
		for _, t := range a.Templates {
			for _, id := range slices.Sorted(maps.Keys(t.Resources)) {
				r := t.Resources[id]
				a.byType[r.Type] = append(a.byType[r.Type], r)
			}
		}
	}
	return slices.Clip(a.byType[kind])
}

// Lookup returns the resource that a resolved value names: by its ARN, by what Ref
// gives for it, or a KMS key by an alias or the alias's ARN. Nil if there is none.
func (a *Assembly) Lookup(value any) *Resource {
	name, ok := value.(string)
	if !ok {
		return nil
	}
	if all := a.index[name]; len(all) > 0 {
		return all[0]
	}
	return nil
}

// LookupType is Lookup for a value of a template that means a resource of some types: those of
// different types, and in different places, may have the same name. It is the one that is
// nearest.
func (a *Assembly) LookupType(from *Template, value any, types ...string) (found *Resource) {
	name, _ := value.(string)
	best := -1
	for _, r := range a.index[name] {
		t := r.Template
		if near := Near(t.Account, t.Region, from.Account, from.Region, t == from); near > best && slices.Contains(types, r.Type) {
			found, best = r, near
		}
	}
	return found
}

// Near says how near two places are: the more, the nearer.
func Near(account, region, account2, region2 string, same bool) int {
	switch {
	case same:
		return 3
	case account == account2 && region == region2:
		return 2
	case account == account2:
		return 1
	}
	return 0
}

// Names calls visit with each name by which Lookup finds something, and all that has it.
func (a *Assembly) Names(visit func(name string, all []*Resource)) {
	for name, all := range a.index {
		visit(name, all)
	}
}

func (a *Assembly) buildIndex(resolvers []*resolver) {
	a.index = map[string][]*Resource{}
	add := func(name any, r *Resource) {
		if s, ok := name.(string); ok && s != "" && !slices.Contains(a.index[s], r) {
			a.index[s] = append(a.index[s], r)
		}
	}
	for _, r := range resolvers {
		for _, id := range slices.Sorted(maps.Keys(r.template.Resources)) {
			add(r.arn(id), r.template.Resources[id])
			add(r.ref(id), r.template.Resources[id])
			if given := r.given(id); given != "" && r.template.unknownIn(given) != "" {
				add(r.arnOf(id, given), r.template.Resources[id]) // as others may write it too
			}
		}
	}
	for _, alias := range a.OfType("AWS::KMS::Alias") {
		name, _ := alias.Properties["AliasName"].(string)
		if key := a.Lookup(alias.Properties["TargetKeyId"]); key != nil && name != "" {
			t := alias.Template
			for _, by := range []string{name, fmt.Sprintf("arn:%s:kms:%s:%s:%s", t.Partition, t.Region, t.Account, name)} {
				a.index[by] = append([]*Resource{key}, a.index[by]...)
			}
		}
	}
}

// Place says where the resource stands.
func (r *Resource) Place() finding.Place {
	return finding.Place{Resource: r.Path, LogicalID: r.ID, Type: r.Type, Stack: r.Template.Name, File: r.Template.File, Line: r.Line}
}

// unknownIn returns an expression in a value that could not be resolved, or "".
func (t *Template) unknownIn(v any) string {
	switch v := v.(type) {
	case value.Unknown:
		return v.String()
	case string:
		for expression := range t.unknowns {
			if strings.Contains(v, value.Unknown{Expression: expression}.String()) {
				return value.Unknown{Expression: expression}.String()
			}
		}
	case []any:
		for _, e := range v {
			if name := t.unknownIn(e); name != "" {
				return name
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if name := cmp.Or(t.unknownIn(key), t.unknownIn(v[key])); name != "" {
				return name
			}
		}
	}
	return ""
}
