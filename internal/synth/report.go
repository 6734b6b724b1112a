package synth

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/blueprint"
)

// Report is what a cloud assembly holds, read back from its files.
type Report struct {
	Outdir   string        `json:"outdir"`
	Stacks   []StackReport `json:"stacks"`
	Findings []Finding     `json:"findings"`
}

// StackReport is one stack of the assembly.
type StackReport struct {
	Name string `json:"name"`
	// Environment is aws://account/region, or aws://unknown-account/unknown-region.
	Environment string `json:"environment"`
	Template    string `json:"template"`
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

// Permission is what a statement of the key policy gives a principal.
type Permission struct {
	Statement string   `json:"statement"`
	Principal string   `json:"principal"`
	Actions   []string `json:"actions"`
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
		}
		Outputs map[string]struct {
			Value any
		}
	}
	if err := readJSON(s.Template, &template); err != nil {
		return err
	}
	s.Resources = map[string]int{}
	s.KeyPolicy = []Permission{}
	s.Creators = []string{}
	var keyID string
	for _, resource := range template.Resources {
		s.Resources[resource.Type]++
		if resource.Type == "AWS::EKS::Cluster" {
			keyID = secretsKeyID(resource.Properties)
		}
	}
	if requested, ok := template.Outputs[blueprint.OutputExistingKey.ID]; ok {
		s.ExistingKey = true
		var statements any
		if err := json.Unmarshal([]byte(plain(requested.Value)), &statements); err != nil {
			return fmt.Errorf("read the cloud assembly: output %s: %w", blueprint.OutputExistingKey.ID, err)
		}
		s.KeyPolicy = permissions(statements)
	} else {
		policy, _ := template.Resources[keyID].Properties["KeyPolicy"].(map[string]any)
		s.KeyPolicy = permissions(policy["Statement"])
	}
	for _, p := range s.KeyPolicy {
		if slices.Contains(p.Actions, "CreateGrant") {
			s.Creators = append(s.Creators, p.Principal)
		}
	}
	return nil
}

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

func permissions(statements any) []Permission {
	all := []Permission{}
	for _, s := range listOf(statements) {
		statement, _ := s.(map[string]any)
		sid, _ := statement["Sid"].(string)
		var actions []string
		for _, action := range listOf(statement["Action"]) {
			actions = append(actions, strings.TrimPrefix(plain(action), "kms:"))
		}
		principals, _ := statement["Principal"].(map[string]any)
		for _, kind := range principals {
			for _, principal := range listOf(kind) {
				all = append(all, Permission{
					Statement:  sid,
					Principal:  plain(principal),
					Actions:    actions,
					Conditions: conditions(statement["Condition"]),
				})
			}
		}
	}
	return all
}

func conditions(condition any) []Condition {
	operators, _ := condition.(map[string]any)
	var all []Condition
	for operator, keys := range operators {
		m, _ := keys.(map[string]any)
		for key, value := range m {
			c := Condition{Operator: operator, Key: key}
			for _, v := range listOf(value) {
				c.Values = append(c.Values, plain(v))
			}
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b Condition) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Operator, b.Operator))
	})
	return all
}

func listOf(value any) []any {
	if list, ok := value.([]any); ok {
		return list
	}
	return []any{value}
}

// plain writes a CloudFormation value as a person would: ${AWS::AccountId} for
// a reference, ${Resource.Attribute} for an attribute.
func plain(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case map[string]any:
		if ref, ok := v["Ref"].(string); ok {
			return "${" + ref + "}"
		}
		if parts, ok := v["Fn::GetAtt"].([]any); ok {
			var names []string
			for _, p := range parts {
				names = append(names, plain(p))
			}
			return "${" + strings.Join(names, ".") + "}"
		}
		if join, ok := v["Fn::Join"].([]any); ok && len(join) == 2 {
			var text strings.Builder
			for i, part := range listOf(join[1]) {
				if i > 0 {
					text.WriteString(plain(join[0]))
				}
				text.WriteString(plain(part))
			}
			return text.String()
		}
	}
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(data)
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
