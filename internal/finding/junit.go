package finding

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// JUnit's XML has no standard; this is what Jenkins and GitLab read of it.
// Sources: the schema of Jenkins' xUnit plugin; GitLab Docs, "Unit test reports".
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Cases     []junitCase `xml:"testcase"`
		SystemOut string      `xml:"system-out,omitempty"`
	}
	junitCase struct {
		Name      string        `xml:"name,attr"`
		ClassName string        `xml:"classname,attr"`
		File      string        `xml:"file,attr,omitempty"`
		Failure   *junitMessage `xml:"failure"`
		Skipped   *junitMessage `xml:"skipped"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes the report as JUnit's XML: a failed test for each finding, a
// skipped one for each that is suppressed, and a passed one for each rule that
// found nothing. If there was no cluster to look at, those are skipped too.
func (r *Report) WriteJUnit(w io.Writer) error {
	suite := junitSuite{Name: r.Tool}
	found := map[string]bool{}
	for _, f := range r.Findings {
		found[f.Rule] = true
		c := junitCase{Name: f.Resource + ": " + f.Message, ClassName: f.Rule, File: f.File}
		if f.Suppressed != "" {
			c.Skipped = &junitMessage{Message: "suppressed: " + f.Suppressed}
		} else {
			c.Failure = &junitMessage{
				Message: f.Message, Type: f.Severity.String(),
				Text: fmt.Sprintf("at: %s, %s\nwhy: %s\nfix: %s\ncontrols: %s\n", f.Resource, f.where(), f.Why, f.Fix, controlText(f.Controls)),
			}
		}
		suite.Cases = append(suite.Cases, c)
	}
	for _, rule := range r.Rules {
		if found[rule.ID] {
			continue
		}
		c := junitCase{Name: "not found: " + rule.Title, ClassName: rule.ID}
		if len(r.Checked.Clusters) == 0 {
			c.Skipped = &junitMessage{Message: "no EKS cluster in the templates"}
		}
		suite.Cases = append(suite.Cases, c)
	}
	for _, c := range suite.Cases {
		suite.Tests++
		if c.Failure != nil {
			suite.Failures++
		}
		if c.Skipped != nil {
			suite.Skipped++
		}
	}
	out := []string{r.Summary()}
	for _, n := range r.Notes {
		out = append(out, "note: "+n.String())
	}
	suite.SystemOut = strings.Join(out, "\n")
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(junitSuites{Tests: suite.Tests, Failures: suite.Failures, Skipped: suite.Skipped, Suites: []junitSuite{suite}}); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
