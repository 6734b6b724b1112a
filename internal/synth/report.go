package synth

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/iampolicy"
)

// Report is what a cloud assembly holds, read back from its files.
type Report struct {
	Outdir   string        `json:"outdir"`
	Stacks   []StackReport `json:"stacks"`
	Findings []Finding     `json:"findings"`
}

// The kinds of stacks: that of a cluster, and those with the record, with the alarms and
// with the keys of several.
const (
	KindCluster = "cluster"
	KindKeys    = "keys"
	KindNetwork = "network"
	KindRecord  = "record"
	KindAlarms  = "alarms"
)

// StackReport is one stack of the assembly.
type StackReport struct {
	Name string `json:"name"`
	// Kind is one of the kinds of stacks.
	Kind string `json:"kind"`
	// Environment is aws://account/region, or aws://unknown-account/unknown-region.
	Environment string `json:"environment"`
	Template    string `json:"template"`
	// KeyPath and RotationDays are those of the key. Empty for an existing key.
	KeyPath      string `json:"keyPath,omitempty"`
	RotationDays int    `json:"rotationDays,omitempty"`
	// Resources counts the resources by kind.
	Resources map[string]int `json:"resources"`
	// ExistingKey tells that the key is not made by this stack.
	ExistingKey bool `json:"existingKey"`
	// KeyPolicy is the policy of the secrets key, an element for each principal
	// of each statement. For an existing key, it is what its owner must add.
	KeyPolicy []Permission `json:"keyPolicy"`
	// Creators may create the cluster.
	Creators []string `json:"creators"`
	// NeedsDocker tells whether a container image is built at deployment.
	NeedsDocker bool `json:"needsDocker"`
}

// Total is the number of resources.
func (s StackReport) Total() int {
	total := 0
	for _, n := range s.Resources {
		total += n
	}
	return total
}

// Permission is what a statement of the key policy gives a principal.
type Permission struct {
	Statement string `json:"statement"`
	Principal string `json:"principal"`
	// Path of the construct, where the principal is a role of this stack.
	Path    string   `json:"path,omitempty"`
	Actions []string `json:"actions"`
	// Conditions must all hold.
	Conditions []Condition `json:"conditions,omitempty"`
}

// Condition is one condition of a statement.
type Condition struct {
	Operator string   `json:"operator"`
	Key      string   `json:"key"`
	Values   []string `json:"values"`
}

// Finding is something that CDK's validator or a construct has to say.
type Finding struct {
	Rule string `json:"rule"`
	// Severity is "error" or "warning", or another word of the validator's.
	Severity string `json:"severity"`
	Message  string `json:"message"`
	// Where holds the paths of the constructs that it is about.
	Where []string `json:"where,omitempty"`
}

// IsError tells whether a finding must stop a deployment.
func (f Finding) IsError() bool { return f.Severity == "error" || f.Severity == "fatal" }

// ReadReport reads the cloud assembly in a folder.
func ReadReport(dir string) (*Report, error) {
	var manifest struct {
		Artifacts map[string]struct {
			Type        string `json:"type"`
			Environment string `json:"environment"`
			Properties  struct {
				TemplateFile string `json:"templateFile"`
			} `json:"properties"`
		} `json:"artifacts"`
	}
	if err := readJSON(filepath.Join(dir, "manifest.json"), &manifest); err != nil {
		return nil, err
	}
	report := &Report{Outdir: dir, Stacks: []StackReport{}}
	for name, artifact := range manifest.Artifacts {
		if artifact.Type != "aws:cloudformation:stack" {
			continue
		}
		stack := StackReport{
			Name:        name,
			Environment: artifact.Environment,
			Template:    filepath.Join(dir, artifact.Properties.TemplateFile),
		}
		if err := stack.readTemplate(); err != nil {
			return nil, err
		}
		var assets struct {
			DockerImages map[string]any `json:"dockerImages"`
		}
		if err := readJSON(filepath.Join(dir, name+".assets.json"), &assets); err != nil {
			return nil, err
		}
		stack.NeedsDocker = len(assets.DockerImages) > 0
		report.Stacks = append(report.Stacks, stack)
	}
	slices.SortFunc(report.Stacks, func(a, b StackReport) int { return strings.Compare(a.Name, b.Name) })
	findings, err := readFindings(filepath.Join(dir, "validation-report.json"))
	if err != nil {
		return nil, err
	}
	report.Findings = findings
	return report, nil
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the cloud assembly: %w", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read the cloud assembly: %s: %w", path, err)
	}
	return nil
}

func (s *StackReport) readTemplate() error {
	var template struct {
		Resources map[string]struct {
			Type       string
			Properties map[string]any
			Metadata   map[string]any
		}
		Outputs map[string]struct {
			Value any
		}
	}
	if err := readJSON(s.Template, &template); err != nil {
		return err
	}
	s.Resources = map[string]int{}
	s.Creators = []string{}
	var keyID string
	paths := map[string]string{}
	for id, resource := range template.Resources {
		s.Resources[resource.Type]++
		if path, ok := resource.Metadata["aws:cdk:path"].(string); ok {
			paths[id] = strings.TrimPrefix(strings.ReplaceAll(path, "/Resource", ""), s.Name+"/")
		}
		if resource.Type == "AWS::EKS::Cluster" {
			keyID = secretsKeyID(resource.Properties)
		}
	}
	switch {
	case s.Resources["AWS::EKS::Cluster"] > 0:
		s.Kind = KindCluster
	case s.Resources["AWS::EC2::VPC"] > 0:
		s.Kind = KindNetwork
	case s.Resources["AWS::Events::Rule"] == s.Total()-s.Resources["AWS::CDK::Metadata"]:
		s.Kind = KindAlarms
	case s.Resources["AWS::SNS::Topic"] == 0 && s.Resources["AWS::KMS::Key"] > 0:
		s.Kind = KindKeys
	default:
		s.Kind = KindRecord
	}
	if s.Kind != KindCluster {
		s.KeyPolicy = []Permission{}
		return nil
	}
	var statements any
	if requested, ok := template.Outputs[blueprint.Outputs.ExistingKey.ID]; ok {
		s.ExistingKey = true
		if err := json.Unmarshal([]byte(fmt.Sprint(plain(requested.Value))), &statements); err != nil {
			return fmt.Errorf("read the cloud assembly: output %s: %w", blueprint.Outputs.ExistingKey.ID, err)
		}
	} else if keyID == "" {
		s.ExistingKey = true
	} else {
		policy, _ := template.Resources[keyID].Properties["KeyPolicy"].(map[string]any)
		statements = plain(policy["Statement"])
		s.KeyPath = paths[keyID]
		days, _ := template.Resources[keyID].Properties["RotationPeriodInDays"].(float64)
		s.RotationDays = int(days)
	}
	var err error
	if s.KeyPolicy, err = permissions(statements); err != nil {
		return fmt.Errorf("read the cloud assembly: %s: %w", s.Template, err)
	}
	for i, p := range s.KeyPolicy {
		if m := attribute.FindStringSubmatch(p.Principal); m != nil {
			s.KeyPolicy[i].Path = paths[m[1]]
		}
		if slices.Contains(p.Actions, "CreateGrant") {
			s.Creators = append(s.Creators, p.Principal)
		}
	}
	return nil
}

// attribute is what [plain] writes for the ARN of a resource.
var attribute = regexp.MustCompile(`^\$\{([0-9A-Za-z]+)\.Arn\}$`)

// secretsKeyID returns the logical ID of the key that a cluster's
// EncryptionConfig refers to, or "" if it is not a resource of the template.
func secretsKeyID(cluster map[string]any) string {
	configs, _ := cluster["EncryptionConfig"].([]any)
	if len(configs) == 0 {
		return ""
	}
	config, _ := configs[0].(map[string]any)
	provider, _ := config["Provider"].(map[string]any)
	keyARN, _ := provider["KeyArn"].(map[string]any)
	reference, _ := keyARN["Fn::GetAtt"].([]any)
	if len(reference) == 0 {
		return ""
	}
	id, _ := reference[0].(string)
	return id
}

// permissions reads the statements of a key policy.
func permissions(statements any) ([]Permission, error) {
	all := []Permission{}
	if statements == nil {
		return all, nil
	}
	data, err := json.Marshal(map[string]any{"Version": iampolicy.Version, "Statement": statements})
	if err != nil {
		return nil, err
	}
	doc, err := iampolicy.Parse(data)
	if err != nil {
		return nil, err
	}
	for _, s := range doc.Statement {
		p := Permission{Statement: s.Sid}
		for _, action := range s.Action {
			p.Actions = append(p.Actions, strings.TrimPrefix(action, "kms:"))
		}
		for operator, keys := range s.Condition {
			for key, values := range keys {
				p.Conditions = append(p.Conditions, Condition{operator, key, values})
			}
		}
		slices.SortFunc(p.Conditions, func(a, b Condition) int {
			return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Operator, b.Operator))
		})
		for _, p.Principal = range slices.Concat(s.Principal.AWS, s.Principal.Service, s.Principal.Federated) {
			all = append(all, p)
		}
	}
	return all, nil
}

// plain writes what CloudFormation will fill in as a person would: ${AWS::AccountId}
// for a reference, ${Resource.Attribute} for an attribute. The rest stays as it is.
func plain(value any) any {
	switch v := value.(type) {
	case []any:
		all := make([]any, len(v))
		for i := range v {
			all[i] = plain(v[i])
		}
		return all
	case map[string]any:
		all := map[string]any{}
		for key := range v {
			all[key] = plain(v[key])
		}
		if ref, ok := all["Ref"].(string); ok {
			return "${" + ref + "}"
		}
		if parts, ok := all["Fn::GetAtt"].([]any); ok {
			return "${" + joined(parts, ".") + "}"
		}
		if join, ok := all["Fn::Join"].([]any); ok && len(join) == 2 {
			if parts, ok := join[1].([]any); ok {
				return joined(parts, fmt.Sprint(join[0]))
			}
		}
		return all
	}
	return value
}

func joined(parts []any, separator string) string {
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = fmt.Sprint(p)
	}
	return strings.Join(texts, separator)
}

func readFindings(path string) ([]Finding, error) {
	var file struct {
		PluginReports []struct {
			Violations []struct {
				RuleName    string `json:"ruleName"`
				Description string `json:"description"`
				Severity    string `json:"severity"`
				Constructs  []struct {
					Path string `json:"constructPath"`
				} `json:"violatingConstructs"`
			} `json:"violations"`
		} `json:"pluginReports"`
	}
	findings := []Finding{}
	if err := readJSON(path, &file); errors.Is(err, fs.ErrNotExist) {
		return findings, nil
	} else if err != nil {
		return nil, err
	}
	for _, plugin := range file.PluginReports {
		for _, v := range plugin.Violations {
			finding := Finding{Rule: v.RuleName, Severity: v.Severity, Message: v.Description}
			for _, c := range v.Constructs {
				finding.Where = append(finding.Where, c.Path)
			}
			findings = append(findings, finding)
		}
	}
	return findings, nil
}
