package reveal

import (
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite docs/howto/secrets-rbac.md")

// TestDocs: the tables and the query of the documentation have these verbs and rights.
func TestDocs(t *testing.T) {
	const file = "../../docs/howto/secrets-rbac.md"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	quoted := func(quote string, names ...string) string {
		return quote + strings.Join(names, quote+", "+quote) + quote
	}
	var verbs, roads strings.Builder
	for _, v := range Verbs() {
		verbs.WriteString("| `" + v.Name + "` | " + v.How + " |\n")
	}
	for _, r := range Roads() {
		roads.WriteString("| " + quoted("`", r.Resources...) + " | " + quoted("`", r.Verbs...) + " | " + r.How + " |\n")
	}
	want := string(data)
	for _, part := range []struct{ before, after, text string }{
		{"| Verb | How it shows a secret |\n| --- | --- |\n", "\n", verbs.String()},
		{"| Resources | Verbs | Anyone who has it |\n| --- | --- | --- |\n", "\n", roads.String()},
		{"| verbs | ", ", `*` |", quoted("`", Names()...)},
		{"and verb in [", "] and responseStatus.code < 300\n", quoted(`"`, Names()...)},
	} {
		stands := regexp.MustCompile(regexp.QuoteMeta(part.before) + `(?s:.*?)` + regexp.QuoteMeta(part.after))
		if part.after == "\n" { // a table ends with an empty line
			stands = regexp.MustCompile(regexp.QuoteMeta(part.before) + `(?:[^\n]+\n)*\n`)
		}
		if len(stands.FindAllString(want, -1)) != 1 {
			t.Fatalf("%s has no part, or more than one, between %q and %q", file, part.before, part.after)
		}
		want = stands.ReplaceAllLiteralString(want, part.before+part.text+part.after)
	}
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("run with -update (-want +got):\n%s", diff)
	}
}

func TestRule(t *testing.T) {
	core, secrets := []string{""}, []string{"secrets"}
	for name, c := range map[string]struct {
		rule              Rule
		reads, everything bool
	}{
		"get":               {rule: Rule{core, secrets, nil, []string{"get"}}, reads: true},
		"create":            {rule: Rule{core, secrets, nil, []string{"create"}}},
		"named":             {rule: Rule{core, secrets, []string{"a"}, []string{"get"}}},
		"the empty name":    {rule: Rule{core, secrets, []string{"a", ""}, []string{"list"}}, reads: true},
		"another group":     {rule: Rule{[]string{"apps"}, secrets, nil, []string{"get"}}},
		"every group":       {rule: Rule{[]string{"*"}, secrets, nil, []string{"get"}}, reads: true, everything: true},
		"every resource":    {rule: Rule{core, []string{"*"}, nil, []string{"get"}}, reads: true, everything: true},
		"every verb":        {rule: Rule{core, secrets, nil, []string{"*"}}, reads: true, everything: true},
		"subresources":      {rule: Rule{core, []string{"*/exec"}, nil, []string{"get"}}},
		"nothing":           {},
		"not core resource": {rule: Rule{core, []string{"configmaps"}, nil, []string{"*"}}, everything: true},
	} {
		if got := c.rule.ReadsSecrets(); got != c.reads {
			t.Errorf("%s: reads secrets: %v", name, got)
		}
		if got := c.rule.Everything(); got != c.everything {
			t.Errorf("%s: everything: %v", name, got)
		}
	}
}

// Each road is open with each of its rights alone, and with no other verb.
func TestRoads(t *testing.T) {
	for _, road := range Roads() {
		for _, group := range road.Groups {
			for _, resource := range road.Resources {
				for _, verb := range road.Verbs {
					rule := Rule{Groups: []string{group}, Resources: []string{resource}, Verbs: []string{verb}}
					same := func(r Road) bool { return r.How == road.How }
					if !slices.ContainsFunc(rule.Roads(), same) {
						t.Errorf("%+v does not %s", rule, road.How)
					}
					rule.Verbs = []string{"list"}
					if slices.ContainsFunc(rule.Roads(), same) {
						t.Errorf("%+v: %s", rule, road.How)
					}
					rule.Verbs, rule.Names = []string{"*"}, []string{"one"}
					if len(rule.Roads()) > 0 {
						t.Errorf("%+v, which has a name, opens a road", rule)
					}
				}
			}
		}
	}
}
