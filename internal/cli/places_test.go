package cli

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/guard"
)

// TestFields: each rule that has a field is one, and each field is one of the schema.
func TestFields(t *testing.T) {
	type node struct {
		Properties map[string]*node
		Items      *node
		Ref        string `json:"$ref"`
	}
	var schema struct {
		node
		Defs map[string]*node `json:"$defs"`
	}
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	followed := func(n *node) *node {
		for n != nil && n.Ref != "" {
			n = schema.Defs[n.Ref[strings.LastIndex(n.Ref, "/")+1:]]
		}
		return n
	}
	rules := slices.Concat(check.Rules(), guard.Rules())
	for rule, fields := range fieldOf {
		if !slices.ContainsFunc(rules, func(r finding.Rule) bool { return r.ID == rule }) {
			t.Errorf("there is no rule %s", rule)
		}
		for _, field := range fields {
			at := followed(followed(schema.Properties["clusters"]).Items)
			for _, step := range strings.Split(field, ".") {
				if at == nil || at.Properties[step] == nil {
					t.Errorf("%s: the schema has no %s", rule, field)
					break
				}
				at = followed(at.Properties[step])
			}
		}
	}
}

// TestPlaces: a finding names the field that is written, or else the one to write, with
// the line of what holds it.
func TestPlaces(t *testing.T) {
	sources := []config.Source{
		{Name: "f.yaml", Data: []byte("clusters:\n  - name: a\n  - name: b\n    endpoint:\n      access: private\n    key: {multiRegion: true}\ndefaults:\n  kubernetesVersion: \"1.34\"\n")},
		{Name: "g.yaml", Data: []byte("clusters: [{name: a, key: {alias: alias/x}}]")},
	}
	whole, at, err := config.Resolve(sources...)
	if err != nil {
		t.Fatal(err)
	}
	p := placesOf(configuration{files: []string{"f.yaml", "g.yaml"}, whole: whole, places: at})
	for _, c := range []struct {
		stack, rule, field, file string
		line                     int
	}{
		{"ekskms-a", "endpoint-public", "clusters[0].endpoint.publicCidrs", "g.yaml", 1},
		{"ekskms-b", "endpoint-public", "clusters[1].endpoint.access", "f.yaml", 5},
		{"ekskms-b", "key-rotation-slow", "clusters[1].key.rotationPeriodDays", "f.yaml", 6},
		{"ekskms-b", "policy-widened", "clusters[1]", "f.yaml", 3},
		{"ekskms-b", "kubernetes-version-ended", "defaults.kubernetesVersion", "f.yaml", 8},
		{"ekskms-a", "alias-moved", "clusters[0].key.alias", "g.yaml", 1},
		{"ekskms-shared", "trail-weakened", "shared.audit", "f.yaml", 0},
		{"ekskms-gone", "key-deleted", "", "f.yaml", 0},
	} {
		report := finding.Report{Findings: []finding.Finding{{Rule: c.rule, Place: finding.Place{Stack: c.stack, File: "cdk.out/x.json", Line: 99}}}}
		p.name(&report)
		if f := report.Findings[0]; f.File != c.file || f.Field != c.field || f.Line != c.line {
			t.Errorf("%s of %s: %s:%d %s, want line %d, %s", c.rule, c.stack, f.File, f.Line, f.Field, c.line, c.field)
		}
	}
}
