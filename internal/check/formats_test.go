package check_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/terminal"
)

// sample has findings of two severities, one of them suppressed, and notes.
func sample(t *testing.T) *finding.Report {
	return runWith(t, openCluster, finding.Suppression{ID: "audit-log-off", Reason: "logs go <elsewhere>"})
}

func write(t *testing.T, f func(io.Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := f(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestText(t *testing.T) {
	want := `high: secrets-not-encrypted
  at:       Stack/Open, template.yaml:3
       3 |   Open:
         |   ^^^^^
  found:    EncryptionConfig is not set
  why:      EKS then encrypts them under a key that AWS owns, if at all: you can't say who may use it, see its use, rotate it, or cut off access.
  fix:      Add EncryptionConfig with a key of your own and Resources [secrets] before the cluster is made. CloudFormation replaces a cluster whose EncryptionConfig changes: on one that exists run 'aws eks associate-encryption-config', and leave the template as it is.
  controls: CIS Amazon EKS Benchmark v1.7.0 5.3.1, AWS Foundational Security Best Practices EKS.3, AWS Control Tower CT.EKS.PR.2, NIST SP 800-53 Rev. 5 SC-28 (inferred), SC-28(1) (inferred)

medium: endpoint-public
  at:       Stack/Open, template.yaml:3
       3 |   Open:
         |   ^^^^^
  found:    EndpointPublicAccess is not set, by default true, and PublicAccessCidrs is not set: the default is 0.0.0.0/0
  why:      Everybody can try stolen credentials on it, or a flaw of the API server; anyone who gets in reads the secrets decrypted.
  fix:      Set ResourcesVpcConfig's EndpointPublicAccess to false and EndpointPrivateAccess to true, or list your networks in PublicAccessCidrs.
  controls: CIS Amazon EKS Benchmark v1.7.0 5.4.1, 5.4.2, AWS Foundational Security Best Practices EKS.1, AWS Control Tower CT.EKS.PR.1, NIST SP 800-53 Rev. 5 SC-7, PCI DSS v4.0.1 1.4.4

suppressed: audit-log-off at Stack/Open: the control-plane logs are [], without audit (logs go <elsewhere>)

2 findings: 1 high, 1 medium, and 1 suppressed. Looked at 1 cluster, 0 keys, 0 trails, 0 Kubernetes objects.
`
	text := func(w io.Writer) error {
		return sample(t).WriteText(w, terminal.Style{}, func(_ string, line int) string {
			return map[int]string{3: "  Open:"}[line]
		})
	}
	if diff := cmp.Diff(want, string(write(t, text))); diff != "" {
		t.Error(diff)
	}
}

func TestJSON(t *testing.T) {
	var back struct {
		Findings []map[string]any
		Notes    []finding.Note
		Checked  finding.Checked
	}
	decoder := json.NewDecoder(bytes.NewReader(write(t, sample(t).WriteJSON)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&back); err != nil {
		t.Fatal(err)
	}
	if len(back.Findings) != 3 || back.Findings[0]["severity"] != "high" || back.Findings[0]["line"] != 3.0 {
		t.Errorf("findings: %v", back.Findings)
	}
	i := slices.IndexFunc(back.Findings, func(f map[string]any) bool { return f["suppressed"] == "logs go <elsewhere>" })
	if i < 0 || back.Findings[i]["rule"] != "audit-log-off" {
		t.Errorf("the suppressed finding is not marked: %v", back.Findings)
	}
	empty := string(write(t, (&finding.Report{}).WriteJSON))
	if strings.Contains(empty, "null") {
		t.Errorf("a list is null: %s", empty)
	}
}

// sarifSchema is the schema of OASIS.
func sarifSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	file, err := os.Open("testdata/sarif/sarif-schema-2.1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	document, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	const name = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	if err := compiler.AddResource(name, document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func validate(t *testing.T, schema *jsonschema.Schema, log []byte) error {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(value)
}

func TestSARIF(t *testing.T) {
	schema := sarifSchema(t)
	log := write(t, sample(t).WriteSARIF)
	for _, l := range [][]byte{log, write(t, (&finding.Report{Tool: "ekskms check"}).WriteSARIF)} {
		if err := validate(t, schema, l); err != nil {
			t.Error(err)
		}
	}

	var parsed struct {
		Runs []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
			Results []struct {
				RuleID    string
				RuleIndex int
				Level     string
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine int }
					}
					LogicalLocations []struct{ FullyQualifiedName string }
				}
				PartialFingerprints map[string]string
				Suppressions        []struct{ Kind, Justification string }
			}
		}
	}
	if err := json.Unmarshal(log, &parsed); err != nil {
		t.Fatal(err)
	}
	run := parsed.Runs[0]
	if len(run.Tool.Driver.Rules) != len(check.Rules()) {
		t.Errorf("%d rules", len(run.Tool.Driver.Rules))
	}
	levels := map[string]string{"secrets-not-encrypted": "error", "endpoint-public": "warning", "audit-log-off": "warning"}
	fingerprints := map[string]bool{}
	for _, r := range run.Results {
		if run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("%s has the index of %s", r.RuleID, run.Tool.Driver.Rules[r.RuleIndex].ID)
		}
		if r.Level != levels[r.RuleID] {
			t.Errorf("%s has level %s", r.RuleID, r.Level)
		}
		place := r.Locations[0]
		if place.PhysicalLocation.ArtifactLocation.URI != "template.yaml" || place.PhysicalLocation.Region.StartLine != 3 || place.LogicalLocations[0].FullyQualifiedName != "Stack/Open" {
			t.Errorf("%s is at %+v", r.RuleID, place)
		}
		fingerprints[r.PartialFingerprints["ekskmsResource/v1"]] = true
		if suppressed := r.RuleID == "audit-log-off"; suppressed != (len(r.Suppressions) == 1) || suppressed && r.Suppressions[0].Justification != "logs go <elsewhere>" {
			t.Errorf("%s has suppressions %v", r.RuleID, r.Suppressions)
		}
	}
	if len(fingerprints) != 3 {
		t.Errorf("the fingerprints are %v", fingerprints)
	}
}

// The schema is no rubber stamp.
func TestSARIFSchemaRefuses(t *testing.T) {
	schema, log := sarifSchema(t), write(t, sample(t).WriteSARIF)
	for good, bad := range map[string]string{
		`"message": {`:       `"massage": {`,
		`"startLine": 3`:     `"startLine": 0`,
		`"level": "error"`:   `"level": "high"`,
		`"kind": "external"`: `"kind": "config"`,
	} {
		broken := bytes.ReplaceAll(log, []byte(good), []byte(bad))
		if bytes.Equal(broken, log) {
			t.Errorf("there is no %s", good)
		}
		if validate(t, schema, broken) == nil {
			t.Errorf("%s passes", bad)
		}
	}
}

// Code scanning takes paths relative to the repository.
func TestSARIFPaths(t *testing.T) {
	schema := sarifSchema(t)
	for file, want := range map[string]string{
		"cdk.out/a.template.json": "cdk.out/a.template.json",
		"./a.json":                "a.json",
		"my templates/a#1.json":   "my%20templates/a%231.json",
		"/srv/a.json":             "file:///srv/a.json",
		"<stdin>":                 "%3Cstdin%3E",
		"c:a.json":                "./c:a.json",
	} {
		report := &finding.Report{Tool: "x", Findings: []finding.Finding{{Rule: "r", Severity: finding.Low, Place: finding.Place{File: file}}}}
		log := write(t, report.WriteSARIF)
		if err := validate(t, schema, log); err != nil {
			t.Error(err)
		}
		if !strings.Contains(string(log), `"uri": "`+want+`"`) {
			t.Errorf("%s: no %s in %s", file, want, log)
		}
	}
}

// junit is all that Jenkins and GitLab read, by name.
type junit struct {
	XMLName  xml.Name `xml:"testsuites"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Skipped  int      `xml:"skipped,attr"`
	Suites   []struct {
		Name     string `xml:"name,attr"`
		Tests    int    `xml:"tests,attr"`
		Failures int    `xml:"failures,attr"`
		Errors   int    `xml:"errors,attr"`
		Skipped  int    `xml:"skipped,attr"`
		Cases    []struct {
			Name      string `xml:"name,attr"`
			ClassName string `xml:"classname,attr"`
			File      string `xml:"file,attr"`
			Failure   *struct {
				Message string `xml:"message,attr"`
				Type    string `xml:"type,attr"`
				Text    string `xml:",chardata"`
			} `xml:"failure"`
			Skipped *struct {
				Message string `xml:"message,attr"`
			} `xml:"skipped"`
		} `xml:"testcase"`
		SystemOut string `xml:"system-out"`
	} `xml:"testsuite"`
}

func decodeJUnit(t *testing.T, data []byte) junit {
	t.Helper()
	decoder := xml.NewDecoder(bytes.NewReader(data))
	decoder.Strict = true
	var parsed junit
	if err := decoder.Decode(&parsed); err != nil {
		t.Fatal(err)
	}
	if parsed.XMLName.Local != "testsuites" || len(parsed.Suites) != 1 {
		t.Fatalf("got %+v", parsed)
	}
	return parsed
}

func TestJUnit(t *testing.T) {
	parsed := decodeJUnit(t, write(t, sample(t).WriteJUnit))
	suite := parsed.Suites[0]
	// One case a finding, and one for each rule that found nothing.
	if want := len(check.Rules()); suite.Tests != want || parsed.Tests != want || len(suite.Cases) != want {
		t.Errorf("%d tests in %d cases, want %d", suite.Tests, len(suite.Cases), want)
	}
	if suite.Failures != 2 || suite.Skipped != 1 || suite.Errors != 0 || suite.Name != "ekskms check" {
		t.Errorf("the suite is %+v", suite)
	}
	names := map[string]bool{}
	for _, c := range suite.Cases {
		if c.Name == "" || c.ClassName == "" || names[c.ClassName+c.Name] {
			t.Errorf("the case %+v has no name of its own", c)
		}
		names[c.ClassName+c.Name] = true
		switch c.ClassName {
		case "endpoint-public":
			if c.Failure == nil || c.Failure.Type != "medium" || !strings.Contains(c.Failure.Text, "fix: ") || c.File != "template.yaml" {
				t.Errorf("%+v", c)
			}
		case "audit-log-off":
			if c.Failure != nil || c.Skipped == nil || c.Skipped.Message != "suppressed: logs go <elsewhere>" {
				t.Errorf("%+v", c)
			}
		case "trail-missing":
			if c.Failure != nil || c.Skipped != nil {
				t.Errorf("%+v", c)
			}
		}
	}
	if !strings.Contains(suite.SystemOut, "Looked at 1 cluster,") {
		t.Errorf("the output is %q", suite.SystemOut)
	}
}

// Without a cluster no test has passed.
func TestJUnitWithoutCluster(t *testing.T) {
	suite := decodeJUnit(t, write(t, runWith(t, "Resources: {Topic: {Type: AWS::SNS::Topic}}").WriteJUnit)).Suites[0]
	if suite.Skipped != suite.Tests || suite.Tests == 0 {
		t.Errorf("%d of %d skipped", suite.Skipped, suite.Tests)
	}
}
