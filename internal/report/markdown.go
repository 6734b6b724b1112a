package report

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/explain"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/value"
)

//go:embed page.md.tmpl
var docsText string

var docs = template.Must(template.New("docs").Funcs(template.FuncMap{
	"cell": cell,
	"fact": func(v any, path ...string) string { return cell(value.Words(value.At(v, path...))) },
}).Parse(docsText))

// cell keeps a text within its cell.
func cell(s string) string { return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s) }

// page is what the page says.
type page struct {
	Estate   *estate.Estate
	Cluster  *estate.Cluster
	Report   *finding.Report
	Matrices []string
}

// Markdown is the page of one cluster as Markdown, for an auditor.
func Markdown(there *estate.Estate, suppressions []finding.Suppression) ([]byte, error) {
	if n := len(there.Clusters); n != 1 {
		return nil, fmt.Errorf("%d clusters in the template, want 1", n)
	}
	report, err := check.Run(there, check.Options{Suppressions: suppressions})
	if err != nil {
		return nil, err
	}
	p := &page{Estate: there, Cluster: there.Clusters[0], Report: report}
	inputs, err := explain.FromEstate(there, "")
	if err != nil {
		return nil, err
	}
	matrices, err := explain.Matrices(inputs, false)
	if err != nil {
		return nil, err
	}
	for _, m := range matrices {
		var b strings.Builder
		if err := m.WriteMarkdown(&b); err != nil {
			return nil, err
		}
		p.Matrices = append(p.Matrices, b.String())
	}
	var b bytes.Buffer
	err = docs.Execute(&b, p)
	return b.Bytes(), err
}

// Public tells whether the Kubernetes API is open to more than the VPC.
func (p *page) Public() bool {
	return value.At(p.Cluster.Settings, "ResourcesVpcConfig", "EndpointPublicAccess") == true
}

// Alias is that of a key.
func (p *page) Alias(key *estate.Thing) string {
	for _, a := range p.Estate.Of(estate.KindAlias) {
		if p.Estate.Lookup(a.Settings["TargetKeyId"]) == key {
			return value.Words(a.Settings["AliasName"])
		}
	}
	return "none"
}

// Kept says how long a bucket keeps what is in it.
func (p *page) Kept(bucket *estate.Thing) string {
	if rules, _ := value.At(bucket.Settings, "LifecycleConfiguration", "Rules").([]any); len(rules) > 0 {
		return "for " + value.Words(value.At(rules[0], "ExpirationInDays")) + " days"
	}
	return "without end"
}

// Alarm is what a rule says happened and whom it tells, or nothing if it tells nobody.
func (p *page) Alarm(rule *estate.Thing) []string {
	targets, _ := rule.Settings["Targets"].([]any)
	if len(targets) == 0 || rule.Settings["State"] != "ENABLED" {
		return nil
	}
	_, what, _ := strings.Cut(value.Words(rule.Settings["Description"]), ": ")
	return []string{cell(what), value.Words(value.At(targets[0], "Arn"))}
}

// ofTheKey are the checks that look at a key and its policy, beside those whose ID
// begins with key-.
var ofTheKey = []string{
	"cluster-creator-missing", "cluster-locked-out", "cluster-role-missing", "crypto-delegated-to-iam", "grant-for-aws-resource",
	"grants-unrestricted", "secrets-key-unsuitable", "use-without-context",
}

// unjudged says what keeps a check from judging a cluster. It is what an auditor
// must not take for a pass.
func (p *page) unjudged(rule string) string {
	switch {
	case (strings.HasPrefix(rule, "key-") || slices.Contains(ofTheKey, rule)) && p.Cluster.Key == nil:
		return "**not judged**: the key of the secrets is not in the template"
	case strings.HasPrefix(rule, "trail-") && rule != "trail-tamper-alarm-missing" && len(p.Estate.Of(estate.KindTrail)) == 0:
		return "**not judged**: the trail is not in the template"
	case rule == "endpoint-public" && p.Public():
		return "**public**, for " + value.Words(value.At(p.Cluster.Settings, "ResourcesVpcConfig", "PublicAccessCidrs")) + ": not met where a control allows no public access"
	}
	return ""
}

type controlRow struct{ Framework, ID, Title, Rule, Result string }

// Controls are those that the checks have to do with, and what they found.
func (p *page) Controls() (rows []controlRow) {
	for _, rule := range p.Report.Rules {
		result := cmp.Or(p.unjudged(rule.ID), "no fault found")
		for _, f := range p.Report.Findings {
			switch {
			case f.Rule != rule.ID:
			case f.Suppressed == "":
				result = "**fault**: " + f.Resource
			case !strings.HasPrefix(result, "**fault**"):
				result = "**fault**, accepted: " + f.Suppressed
			}
		}
		for _, c := range rule.Controls {
			id := c.ID
			if c.Inferred {
				id += " (inferred)"
			}
			rows = append(rows, controlRow{c.Framework, id, c.Title, rule.ID, result})
		}
	}
	slices.SortFunc(rows, func(a, b controlRow) int {
		return cmp.Or(strings.Compare(a.Framework, b.Framework), strings.Compare(a.ID, b.ID), strings.Compare(a.Rule, b.Rule))
	})
	return rows
}
