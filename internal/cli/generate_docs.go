package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/cfn/value"
	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/explain"
)

func newGenerateDocs() *cobra.Command {
	var f checkFlags
	var out string
	var force bool
	cmd := &cobra.Command{
		Use:   "docs",
		Short: "Print a page on the cluster's encryption for an auditor",
		Long: "Synthesize ekskms.yaml, and print a page in Markdown of what the template says: the key and its\n" +
			"rotation, who may do what with it, where its use is recorded, which alarms there are, and what\n" +
			"the checks found that belong to controls of published frameworks.\n" +
			"\n" +
			"It is about the template, not about what is deployed: 'ekskms guard' compares the two. A template\n" +
			"without an account and a Region is read as for those of --account and --region.",
		Example: "  ekskms generate docs --file ekskms.yaml --out docs.md",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := notEmpty(cmd); err != nil {
				return err
			}
			assembly, suppressions, err := f.synthesize(cmd)
			if err != nil {
				return err
			}
			page, err := auditPage(assembly, suppressions)
			if err != nil {
				return err
			}
			if out == "" {
				_, err := cmd.OutOrStdout().Write(page)
				return err
			}
			if err := mayWrite(out, string(page), force); err != nil {
				return err
			}
			if err := os.WriteFile(out, page, 0o644); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "Wrote", out)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "configuration `file`, or - for standard input (default ekskms.yaml here, if there is one)")
	flags.StringVar(&f.environment.Account, "account", "", "account `number` that the page is for, where the configuration has none")
	flags.StringVar(&f.environment.Region, "region", "", "`Region` that the page is for, where the configuration has none")
	flags.StringVarP(&out, "out", "o", "", "`file` to write to, instead of standard output")
	flags.BoolVar(&force, "force", false, "replace the file if it has another content")
	return cmd
}

// page is a Markdown page that is being written.
type page struct {
	bytes.Buffer
	assembly *cfn.Assembly
}

func (p *page) f(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// rows writes a table of facts.
func (p *page) rows(rows [][2]string) {
	p.f("| | |\n| --- | --- |\n")
	for _, r := range rows {
		p.f("| %s | %s |\n", r[0], cell(r[1]))
	}
	p.f("\n")
}

// cell keeps a text within its cell.
func cell(s string) string { return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s) }

// fact is a property as text.
func fact(v any) string {
	switch v := v.(type) {
	case nil:
		return "not set"
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case []any:
		var all []string
		for _, e := range v {
			all = append(all, fact(e))
		}
		return strings.Join(all, ", ")
	}
	return fmt.Sprint(v)
}

func auditPage(assembly *cfn.Assembly, suppressions []check.Suppression) ([]byte, error) {
	clusters := assembly.OfType("AWS::EKS::Cluster")
	if len(clusters) != 1 {
		return nil, fmt.Errorf("%d clusters in the template, want 1", len(clusters))
	}
	report, err := check.Run(assembly, check.Options{Suppressions: suppressions})
	if err != nil {
		return nil, err
	}
	p := &page{assembly: assembly}
	cluster := clusters[0]
	t := cluster.Template
	p.f("# Encryption of EKS cluster %s\n\n", cluster.Properties["Name"])
	p.f("Made by `ekskms generate docs` from the template of stack %s. It says what the template says, not what is deployed.\n\n", t.Name)
	if t.Assumed {
		p.f("The template is for any account and Region: this page reads it as for account %s in %s.\n\n", t.Account, t.Region)
	}
	p.cluster(cluster)
	p.key(cluster)
	if err := p.principals(); err != nil {
		return nil, err
	}
	p.record()
	p.alarms()
	p.controls(report, cluster)
	return p.Bytes(), nil
}

func (p *page) cluster(r *cfn.Resource) {
	v := r.Properties
	vpc := value.At(v, "ResourcesVpcConfig")
	endpoint := "from the VPC only"
	if value.At(vpc, "EndpointPublicAccess") == true {
		endpoint = "from the VPC, and from " + fact(value.At(vpc, "PublicAccessCidrs"))
	}
	p.f("## How secrets are encrypted\n\n")
	p.f("Envelope encryption: the API server encrypts each object under a data encryption key (DEK), whose seed is encrypted under the key below. etcd holds both ciphertexts. Whoever reads etcd, or a backup of it, reads nothing without that key.\n\n")
	p.rows([][2]string{
		{"Account, Region", r.Template.Account + ", " + r.Template.Region},
		{"Kubernetes", fact(v["Version"])},
		{"Encrypted under", "`" + keyOfCluster(r) + "`"},
		{"Kubernetes API", endpoint},
		{"Access", "by access entries (" + fact(value.At(v, "AccessConfig", "AuthenticationMode")) + "); whoever creates the cluster is its administrator: " + fact(value.At(v, "AccessConfig", "BootstrapClusterCreatorAdminPermissions"))},
		{"Protected against deletion", fact(v["DeletionProtection"])},
	})
}

func keyOfCluster(r *cfn.Resource) string {
	list, _ := r.Properties["EncryptionConfig"].([]any)
	if len(list) == 0 {
		return ""
	}
	return fact(value.At(list[0], "Provider", "KeyArn"))
}

func (p *page) key(cluster *cfn.Resource) {
	p.f("## The key\n\n")
	arn := keyOfCluster(cluster)
	r := p.assembly.Lookup(arn)
	if r == nil {
		p.f("`%s` exists already, and is not part of the template: its rotation, its policy and whether it is kept are its owner's to show, with `aws kms describe-key`, `get-key-rotation-status` and `get-key-policy`.\n\n", arn)
		return
	}
	v := r.Properties
	rotation := "**no**"
	if v["EnableKeyRotation"] == true {
		rotation = "every " + fact(v["RotationPeriodInDays"]) + " days, by KMS; earlier key material stays, so that what it encrypted can be read"
	}
	p.rows([][2]string{
		{"Kind", "symmetric, made by KMS; the key material never leaves KMS in the clear"},
		{"Rotates", rotation},
		{"Multi-Region", fact(orFalse(v["MultiRegion"]))},
		{"Deleting it takes", fact(v["PendingWindowInDays"]) + " days, in which it can be saved"},
		{"Kept when the stack is deleted, or the key replaced", fact(r.DeletionPolicy == "Retain" && r.UpdateReplacePolicy == "Retain")},
		{"Alias", p.alias(r)},
	})
}

func orFalse(v any) any {
	if v == nil {
		return false
	}
	return v
}

func (p *page) alias(key *cfn.Resource) string {
	for _, a := range p.assembly.OfType("AWS::KMS::Alias") {
		if p.assembly.Lookup(a.Properties["TargetKeyId"]) == key {
			return fact(a.Properties["AliasName"])
		}
	}
	return "none"
}

func (p *page) principals() error {
	inputs, err := explain.FromAssembly(p.assembly, "")
	if err != nil {
		return err
	}
	for _, in := range inputs {
		m, err := explain.Explain(in)
		if err != nil {
			return err
		}
		if err := m.WriteMarkdown(p); err != nil {
			return err
		}
		p.f("\n")
	}
	return nil
}

func (p *page) record() {
	p.f("## Where its use is recorded\n\n")
	trails := p.assembly.OfType("AWS::CloudTrail::Trail")
	if len(trails) == 0 {
		p.f("A trail that exists already, and is not part of the template: `%s`. That it records the management events of KMS is its owner's to show.\n\n", fact(p.assembly.Templates[0].Outputs["TrailArn"]))
	}
	for _, r := range trails {
		v := r.Properties
		rows := [][2]string{
			{"Trail", fact(v["TrailName"])},
			{"Records", "management events, read and write: every Encrypt, Decrypt and CreateGrant, with who asked and the encryption context"},
			{"All Regions", fact(v["IsMultiRegionTrail"])},
			{"Log files are validated", fact(v["EnableLogFileValidation"])},
			{"Encrypted under", "`" + fact(v["KMSKeyId"]) + "`"},
		}
		if bucket := p.assembly.Lookup(v["S3BucketName"]); bucket != nil {
			rules, _ := value.At(bucket.Properties, "LifecycleConfiguration", "Rules").([]any)
			kept := "without end"
			if len(rules) > 0 {
				kept = "for " + fact(value.At(rules[0], "ExpirationInDays")) + " days"
			}
			rows = append(rows,
				[2]string{"Kept", kept + ", in a bucket with versions " + fact(value.At(bucket.Properties, "VersioningConfiguration", "Status"))},
				[2]string{"The bucket is kept when the stack is deleted", fact(bucket.DeletionPolicy == "Retain")})
		}
		p.rows(rows)
	}
	p.f("Logs of the control plane, the audit log among them, are kept in CloudWatch Logs:\n\n")
	p.f("| Log group | Days | Encrypted under |\n| --- | --- | --- |\n")
	for _, g := range p.assembly.OfType("AWS::Logs::LogGroup") {
		if g.Properties["KmsKeyId"] != nil {
			p.f("| %s | %s | `%s` |\n", cell(fact(g.Properties["LogGroupName"])), fact(g.Properties["RetentionInDays"]), fact(g.Properties["KmsKeyId"]))
		}
	}
	p.f("\n")
}

func (p *page) alarms() {
	p.f("## Alarms\n\n| What happened | Sent to |\n| --- | --- |\n")
	for _, r := range p.assembly.OfType("AWS::Events::Rule") {
		targets, _ := r.Properties["Targets"].([]any)
		if len(targets) == 0 || r.Properties["State"] != "ENABLED" {
			continue
		}
		_, what, _ := strings.Cut(fact(r.Properties["Description"]), ": ")
		p.f("| %s | `%s` |\n", cell(what), fact(value.At(targets[0], "Arn")))
	}
	p.f("\n")
	for _, s := range p.assembly.OfType("AWS::SNS::Subscription") {
		p.f("Subscribed: %s. A subscription is in force once its address has confirmed it.\n", fact(s.Properties["Endpoint"]))
	}
}

// ofTheKey are the checks that look at a key and its policy, beside those whose ID
// begins with key-.
var ofTheKey = []string{
	"cluster-creator-missing", "cluster-role-missing", "crypto-delegated-to-iam", "grant-for-aws-resource",
	"grants-unrestricted", "secrets-key-unsuitable", "use-without-context",
}

// unjudged says what keeps a check from judging a cluster. It is what an auditor
// must not take for a pass.
func (p *page) unjudged(rule string, cluster *cfn.Resource) string {
	vpc := value.At(cluster.Properties, "ResourcesVpcConfig")
	switch {
	case (strings.HasPrefix(rule, "key-") || slices.Contains(ofTheKey, rule)) && p.assembly.Lookup(keyOfCluster(cluster)) == nil:
		return "**not judged**: the key of the secrets is not in the template"
	case strings.HasPrefix(rule, "trail-") && rule != "trail-tamper-alarm-missing" && len(p.assembly.OfType("AWS::CloudTrail::Trail")) == 0:
		return "**not judged**: the trail is not in the template"
	case rule == "endpoint-public" && value.At(vpc, "EndpointPublicAccess") == true:
		return "**public**, for " + fact(value.At(vpc, "PublicAccessCidrs")) + ": not met where a control allows no public access"
	}
	return ""
}

// controls lists the controls that the checks have to do with, and what they found.
func (p *page) controls(report *check.Report, cluster *cfn.Resource) {
	type row struct{ framework, id, title, rule, result string }
	var rows []row
	for _, rule := range report.Rules {
		result := cmp.Or(p.unjudged(rule.ID, cluster), "no fault found")
		for _, f := range report.Findings {
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
			rows = append(rows, row{c.Framework, id, c.Title, rule.ID, result})
		}
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(strings.Compare(a.framework, b.framework), strings.Compare(a.id, b.id), strings.Compare(a.rule, b.rule))
	})
	p.f("\n## Controls\n\nWhat the checks of ekskms found in the template, and which controls they have to do with. \"No fault found\" is their word, not that of the framework, whose own rule may ask for more or for something else. \"inferred\" marks controls that do not name the fault: that they cover it is a reading of ekskms.\n\n")
	p.f("| Framework | Control | Title | Check | Result |\n| --- | --- | --- | --- | --- |\n")
	for _, r := range rows {
		p.f("| %s | %s | %s | `%s` | %s |\n", cell(r.framework), cell(r.id), cell(r.title), r.rule, cell(r.result))
	}
	if len(report.Notes) > 0 {
		p.f("\nWhat could not be judged from the template:\n\n")
		for _, n := range report.Notes {
			p.f("- %s\n", strings.TrimPrefix(n.Resource+": "+n.Message, ": "))
		}
	}
}
