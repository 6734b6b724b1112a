package finding

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// The parts of SARIF 2.1.0 that are written. Source: OASIS Standard "Static
// Analysis Results Interchange Format (SARIF) Version 2.1.0"; for what GitHub
// reads of it, GitHub Docs, "SARIF support for code scanning".
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID                   string       `json:"id"`
		ShortDescription     sarifText    `json:"shortDescription"`
		FullDescription      sarifText    `json:"fullDescription"`
		Help                 sarifText    `json:"help"`
		HelpURI              string       `json:"helpUri"`
		DefaultConfiguration sarifLevel   `json:"defaultConfiguration"`
		Properties           sarifRuleBag `json:"properties"`
	}
	sarifLevel struct {
		Level string `json:"level"`
	}
	sarifRuleBag struct {
		Tags []string `json:"tags"`
		// SecuritySeverity is on the scale of CVSS. GitHub makes of it critical,
		// high, medium and low.
		SecuritySeverity string    `json:"security-severity"`
		Controls         []Control `json:"controls"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifInvocation struct {
		ExecutionSuccessful        bool                `json:"executionSuccessful"`
		ToolExecutionNotifications []sarifNotification `json:"toolExecutionNotifications"`
	}
	sarifNotification struct {
		Level   string    `json:"level"`
		Message sarifText `json:"message"`
	}
	sarifResult struct {
		RuleID              string             `json:"ruleId"`
		RuleIndex           int                `json:"ruleIndex"`
		Level               string             `json:"level"`
		Message             sarifText          `json:"message"`
		Locations           []sarifLocation    `json:"locations"`
		PartialFingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions        []sarifSuppression `json:"suppressions,omitempty"`
	}
	sarifLocation struct {
		PhysicalLocation sarifPhysical  `json:"physicalLocation"`
		LogicalLocations []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		ArtifactLocation sarifArtifact `json:"artifactLocation"`
		Region           *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		Name               string `json:"name"`
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification"`
	}
)

const (
	sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	docsURI     = "https://github.com/ekskms/ekskms/blob/main/docs/reference/checks.md"
)

// WriteSARIF writes the report as SARIF 2.1.0, as code scanning takes it.
func (r *Report) WriteSARIF(w io.Writer) error {
	run := sarifRun{
		Tool:    sarifTool{sarifDriver{Name: r.Tool, InformationURI: "https://github.com/ekskms/ekskms", Rules: []sarifRule{}}},
		Results: []sarifResult{},
	}
	index := map[string]int{}
	for i, rule := range r.Rules {
		index[rule.ID] = i
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{
			ID: rule.ID, ShortDescription: sarifText{rule.Title}, FullDescription: sarifText{rule.Why}, Help: sarifText{rule.Fix},
			HelpURI: docsURI + "#" + rule.ID, DefaultConfiguration: sarifLevel{level(rule.Severity)},
			Properties: sarifRuleBag{Tags: []string{"security"}, SecuritySeverity: securitySeverity[rule.Severity], Controls: slices.Concat([]Control{}, rule.Controls)},
		})
	}
	invocation := sarifInvocation{ExecutionSuccessful: true, ToolExecutionNotifications: []sarifNotification{}}
	for _, n := range r.Notes {
		invocation.ToolExecutionNotifications = append(invocation.ToolExecutionNotifications, sarifNotification{"note", sarifText{n.String()}})
	}
	run.Invocations = []sarifInvocation{invocation}
	for _, f := range r.Findings {
		// The fingerprint holds over changes of the message and of the line, so
		// that a finding stays the same one.
		sum := sha256.Sum256([]byte(strings.Join([]string{f.Rule, f.Stack, f.Resource}, "\x00")))
		result := sarifResult{
			RuleID: f.Rule, RuleIndex: index[f.Rule], Level: level(f.Severity), Message: sarifText{f.Message + ". " + f.Fix},
			Locations: []sarifLocation{{
				PhysicalLocation: sarifPhysical{ArtifactLocation: sarifArtifact{fileURI(f.File)}},
				LogicalLocations: []sarifLogical{{Name: f.LogicalID, FullyQualifiedName: f.Resource, Kind: "resource"}},
			}},
			PartialFingerprints: map[string]string{"ekskmsResource/v1": hex.EncodeToString(sum[:16])},
		}
		if f.Field != "" {
			logical := &result.Locations[0].LogicalLocations
			*logical = append(*logical, sarifLogical{Name: f.Field, FullyQualifiedName: f.Field, Kind: "property"})
		}
		if f.Line > 0 {
			result.Locations[0].PhysicalLocation.Region = &sarifRegion{f.Line}
		}
		if f.Suppressed != "" {
			result.Suppressions = []sarifSuppression{{"external", f.Suppressed}}
		}
		run.Results = append(run.Results, result)
	}
	return writeJSON(w, sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{run}})
}

func level(s Severity) string {
	switch s {
	case Critical, High:
		return "error"
	case Medium:
		return "warning"
	}
	return "note"
}

var securitySeverity = map[Severity]string{Critical: "9.5", High: "8.0", Medium: "5.5", Low: "2.0"}

// fileURI writes a path as SARIF wants it: relative to the root of the
// repository if it is relative.
func fileURI(name string) string {
	name = filepath.ToSlash(name)
	u := url.URL{Path: path.Clean(name)}
	if path.IsAbs(name) {
		u.Scheme = "file"
	} else if first, _, _ := strings.Cut(u.Path, "/"); strings.Contains(first, ":") {
		u.Path = "./" + u.Path
	}
	return u.String()
}
