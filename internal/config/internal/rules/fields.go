package rules

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/eksversion"
)

// A Field is what the tags of a struct field say about it.
type Field struct {
	Name  string // as in YAML
	Index int

	Required           bool
	Default            []string // several for a list
	Enum               []string
	Minimum, Maximum   *int
	MinItems, MaxItems int
	UniqueItems        bool
	MaxProperties      int

	Rule, KeyRule *Rule
	Unit          string // of a number, for messages
	// Unless names siblings that this field can't stand beside, and whose
	// presence takes the default away.
	Unless []string
	// Needs names a sibling that must stand beside this field.
	Needs string
	// When is a sibling, and WhenValue the value that it must have for this
	// field to be allowed. RequiredWhen makes the field necessary then.
	When, WhenValue string
	RequiredWhen    bool
	// Part marks the field that holds a part of what another one has in full.
	Part bool
	// Optional marks a mapping that is not there if it is not given.
	Optional bool
}

var cache sync.Map // reflect.Type to []Field

// Fields reads the tags of a struct type. It panics on a tag that it does not know:
// a limit that only one of decoder and schema understands is what it is there to prevent.
func Fields(t reflect.Type) []Field {
	if fs, ok := cache.Load(t); ok {
		return fs.([]Field)
	}
	fs := make([]Field, 0, t.NumField())
	for i := range t.NumField() {
		sf := t.Field(i)
		name, _, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if name == "-" {
			continue
		}
		f := Field{Name: name, Index: i}
		for _, kv := range split(sf.Tag.Get("jsonschema")) {
			f.schemaKeyword(t, kv)
		}
		for _, kv := range split(sf.Tag.Get("config")) {
			f.configKeyword(t, kv)
		}
		fs = append(fs, f)
	}
	cache.Store(t, fs)
	return fs
}

// fact takes over what the blueprint says of a field.
func (f *Field) fact(t reflect.Type, name string) {
	switch v := facts[name].(type) {
	case string:
		f.Default = []string{v}
	case blueprint.Number:
		if v.Default != 0 {
			f.Default = []string{strconv.Itoa(v.Default)}
		}
		if v.Most != 0 {
			f.Minimum, f.Maximum = &v.Least, &v.Most
		}
		f.Unit = v.Unit
	case int:
		f.MaxItems = v
	default:
		panic(fmt.Errorf("rules: %v.%s: unknown fact %q", t, f.Name, name))
	}
}

// facts are what the fields say of themselves with the tag "is": a default, a number
// with its range, or how many there may be.
var facts = map[string]any{
	"kubernetesVersion": eksversion.Default(),
	"cidr":              blueprint.DefaultCIDR,
	"instanceType":      blueprint.DefaultInstanceType,
	"architecture":      blueprint.AMD64,
	"natGateways":       blueprint.NATGateways,
	"minNodes":          blueprint.MinNodes,
	"maxNodes":          blueprint.MaxNodes,
	"desiredNodes":      blueprint.Number{Least: blueprint.MinNodes.Least, Most: blueprint.MaxNodes.Most, Unit: blueprint.MinNodes.Unit},
	"diskSize":          blueprint.DiskSize,
	"securityGroups":    blueprint.MaxSecurityGroups,
	"nodeGroups":        blueprint.MaxNodeGroups,
	"fargateProfiles":   blueprint.MaxFargateProfiles,
	"fargateSelectors":  blueprint.MaxFargateSelectors,
	"rotationDays":      blueprint.RotationDays,
	"pendingDays":       blueprint.PendingDays,
	"trailDays":         blueprint.TrailDays,
	"logDays":           blueprint.LogDays,
	"copyDays":          blueprint.Number{Unit: blueprint.LogDays.Unit},
	"roles":             blueprint.MaxRoles,
	"breakGlass":        blueprint.MaxBreakGlass,
	"tenants":           blueprint.MaxTenants,
	"readers":           blueprint.MaxReaders,
	"perReader":         blueprint.MaxPerReader,
	"exemptions":        blueprint.MaxExemptions,
	"hostPaths":         blueprint.MaxHostPaths,
}

func split(tag string) [][2]string {
	var out [][2]string
	for kv := range strings.SplitSeq(tag, ",") {
		if k, v, _ := strings.Cut(kv, "="); k != "" {
			out = append(out, [2]string{k, v})
		}
	}
	return out
}

func (f *Field) schemaKeyword(t reflect.Type, kv [2]string) {
	number := func() int {
		n, err := strconv.Atoi(kv[1])
		if err != nil {
			panic(fmt.Errorf("rules: %v.%s: %w", t, f.Name, err))
		}
		return n
	}
	switch kv[0] {
	case "required":
		f.Required = true
	case "default":
		f.Default = append(f.Default, kv[1])
	case "enum":
		f.Enum = append(f.Enum, kv[1])
	case "minimum":
		n := number()
		f.Minimum = &n
	case "maximum":
		n := number()
		f.Maximum = &n
	case "minItems":
		f.MinItems = number()
	case "maxItems":
		f.MaxItems = number()
	case "uniqueItems":
		f.UniqueItems = true
	case "maxProperties":
		f.MaxProperties = number()
	default:
		panic(fmt.Errorf("rules: %v.%s: unknown jsonschema tag %q", t, f.Name, kv[0]))
	}
}

func (f *Field) configKeyword(t reflect.Type, kv [2]string) {
	rule := func() *Rule {
		r := byName[kv[1]]
		if r == nil {
			panic(fmt.Errorf("rules: %v.%s: unknown rule %q", t, f.Name, kv[1]))
		}
		return r
	}
	switch kv[0] {
	case "rule":
		f.Rule = rule()
	case "keyRule":
		f.KeyRule = rule()
	case "is":
		f.fact(t, kv[1])
	case "part":
		f.Part = true
	case "optional":
		f.Optional = true
	case "unless":
		f.Unless = strings.Split(kv[1], "|")
	case "needs":
		f.Needs = kv[1]
	case "when", "requiredWhen":
		f.When, f.WhenValue, _ = strings.Cut(kv[1], ":")
		f.RequiredWhen = kv[0] == "requiredWhen"
	default:
		panic(fmt.Errorf("rules: %v.%s: unknown config tag %q", t, f.Name, kv[0]))
	}
}
