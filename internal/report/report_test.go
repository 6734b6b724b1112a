package report_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/evidence"
	"github.com/ekskms/ekskms/internal/report"
)

func made(t *testing.T, in report.Input) (*report.Page, string) {
	t.Helper()
	in.Version = "ekskms v0"
	page, err := report.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := page.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	return page, b.String()
}

// nodes calls each with every element of a page.
func nodes(t *testing.T, text string, each func(*html.Node)) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			each(n)
		}
	}
}

func attribute(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// sound finds what must be so of each page: links that lead somewhere, nothing that is asked for
// from anywhere, the policy, and what a screen reader needs.
func sound(t *testing.T, text string) {
	t.Helper()
	ids, links := map[string]int{}, []string{}
	var policy string
	nodes(t, text, func(n *html.Node) {
		for _, a := range n.Attr {
			switch {
			case a.Key == "id":
				ids[a.Val]++
			case a.Key == "href":
				links = append(links, a.Val)
			case a.Key == "src" || a.Key == "srcset" || a.Key == "action" || a.Key == "style" || strings.HasPrefix(a.Key, "on"):
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			}
		}
		switch n.Data {
		case "link", "iframe", "object", "embed", "img", "base", "audio", "video":
			t.Errorf("the page has <%s>", n.Data)
		case "meta":
			if v, _ := attribute(n, "http-equiv"); v == "Content-Security-Policy" {
				policy, _ = attribute(n, "content")
			}
		case "svg":
			if label, ok := attribute(n, "aria-label"); !ok || label == "" {
				t.Error("a picture has no label")
			}
		case "th":
			if v, _ := attribute(n, "scope"); v != "col" && v != "row" {
				t.Error("a heading of a table has no scope")
			}
		case "input", "select":
			if n.Parent.Data != "label" {
				t.Errorf("<%s> has no label", n.Data)
			}
		}
	})
	for id, n := range ids {
		if n > 1 {
			t.Errorf("%d elements have the ID %s", n, id)
		}
	}
	for _, link := range links {
		if !strings.HasPrefix(link, "#") || ids[link[1:]] == 0 {
			t.Errorf("the link %q leads nowhere", link)
		}
	}
	// What may run is what is there, and nothing else.
	for _, kind := range []string{"style", "script"} {
		all := regexp.MustCompile(`(?s)<`+kind+`[^>]*>(.*?)</`+kind+`>`).FindAllStringSubmatch(text, -1)
		if len(all) != 1 {
			t.Fatalf("%d elements <%s>", len(all), kind)
		}
		sum := sha256.Sum256([]byte(all[0][1]))
		if want := kind + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, want) {
			t.Errorf("the policy is %q, and has no %s", policy, want)
		}
	}
	if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
		t.Errorf("the policy is %q", policy)
	}
}

// TestPages: a page of every golden template, and of all of them as one fleet.
func TestPages(t *testing.T) {
	files, err := filepath.Glob("../../test/snapshot/testdata/*.golden.json")
	if err != nil || len(files) < 7 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			a, err := cfn.Load(f, cfn.Environment{Account: "111122223333", Region: "eu-central-1"})
			if err != nil {
				t.Fatal(err)
			}
			page, text := made(t, report.Input{Source: filepath.Base(f), Now: estate.FromTemplates(a)})
			sound(t, text)
			if len(page.Clusters) != 1 || len(page.Clusters[0].Answers) != 4 {
				t.Fatalf("clusters %+v", page.Clusters)
			}
			for _, answer := range page.Clusters[0].Answers {
				if answer.Verdict == report.No {
					t.Errorf("%s %s: %s", answer.Question, answer.Verdict, answer.Text)
				}
			}
		})
	}
}

func answers(p *report.Page) (all []string) {
	for _, a := range p.Clusters[0].Answers {
		all = append(all, string(a.Verdict))
	}
	return all
}

// TestAnswers: what is wrong with a template is in the answer to the question that it is about.
func TestAnswers(t *testing.T) {
	const (
		key   = "SecretsKeyE4821A66"
		usual = "yes yes yes partly"
	)
	id := func(kind string) string {
		for id, r := range estatetest.Golden(t, "default")["Resources"].(map[string]any) {
			if r.(map[string]any)["Type"] == kind {
				return id
			}
		}
		t.Fatal(kind)
		return ""
	}
	statement := func(s map[string]any) estatetest.Change {
		return func(template estatetest.Template) {
			policy := template["Resources"].(map[string]any)[key].(map[string]any)["Properties"].(map[string]any)["KeyPolicy"].(map[string]any)
			policy["Statement"] = append(policy["Statement"].([]any), s)
		}
	}
	for name, tt := range map[string]struct {
		change estatetest.Change
		want   string
	}{
		"as it is":          {estatetest.All(), usual},
		"no encryption":     {estatetest.Property(id("AWS::EKS::Cluster"), "EncryptionConfig", nil), "no "},
		"no rotation":       {estatetest.Property(key, "EnableKeyRotation", false), "yes yes no partly"},
		"rotation unknown":  {estatetest.Property(key, "EnableKeyRotation", map[string]any{"Ref": "Nobody"}), "yes yes not known partly"},
		"anybody decrypts":  {statement(map[string]any{"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}), "yes no yes partly"},
		"a role decrypts":   {statement(map[string]any{"Effect": "Allow", "Principal": map[string]any{"AWS": "arn:aws:iam::111122223333:role/App"}, "Action": "kms:Decrypt", "Resource": "*"}), "yes partly yes partly"},
		"policy not known":  {estatetest.Property(key, "KeyPolicy", map[string]any{"Ref": "Nobody"}), "yes not known yes partly"},
		"the trail stopped": {estatetest.Property(id("AWS::CloudTrail::Trail"), "IsLogging", false), "yes yes yes no"},
		"no trail":          {estatetest.Drop(id("AWS::CloudTrail::Trail")), "yes yes yes no"},
	} {
		t.Run(name, func(t *testing.T) {
			template := estatetest.Golden(t, "default")
			tt.change(template)
			page, text := made(t, report.Input{Source: "x", Now: estatetest.Estate(t, template)})
			sound(t, text)
			if got := strings.Join(answers(page), " "); !strings.HasPrefix(got, tt.want) {
				t.Errorf("the answers are %q, want %q", got, tt.want)
			}
		})
	}
}

// TestCases: an answer that holds in one case of what is not decided is not given for all.
func TestCases(t *testing.T) {
	template := estatetest.Golden(t, "default")
	template["Parameters"] = map[string]any{"Stage": map[string]any{"Type": "String"}}
	template["Conditions"] = map[string]any{"Open": map[string]any{"Fn::Equals": []any{map[string]any{"Ref": "Stage"}, "test"}}}
	policy := template.Resource("SecretsKeyE4821A66")["Properties"].(map[string]any)["KeyPolicy"].(map[string]any)
	policy["Statement"] = append(policy["Statement"].([]any), map[string]any{"Fn::If": []any{"Open", map[string]any{"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}, map[string]any{"Ref": "AWS::NoValue"}}})
	page, text := made(t, report.Input{Source: "x", Now: estatetest.Estate(t, template)})
	sound(t, text)
	if len(page.Keys) != 2 || page.Clusters[0].Answers[1].Verdict != report.No {
		t.Errorf("%d keys, and the answer is %+v", len(page.Keys), page.Clusters[0].Answers[1])
	}
}

// TestAgainst: what changes is on the page.
func TestAgainst(t *testing.T) {
	before, after := estatetest.Golden(t, "default"), estatetest.Golden(t, "default")
	estatetest.Property("SecretsKeyE4821A66", "EnableKeyRotation", false)(after)
	page, text := made(t, report.Input{Source: "x", Now: estatetest.Estate(t, after), Before: estatetest.Estate(t, before), Against: "deployed.json"})
	sound(t, text)
	if len(page.Changes.Findings) == 0 || !strings.Contains(text, "What changes against deployed.json") || !strings.Contains(text, "rotation-weakened") {
		t.Errorf("changes: %+v", page.Changes.Findings)
	}
}

// hostile is what a name can be.
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>' javascript:alert(3) </style></title>`

// TestHostile: names are names, wherever they stand.
func TestHostile(t *testing.T) {
	template := estatetest.Golden(t, "default")
	text, err := json.Marshal(template)
	if err != nil {
		t.Fatal(err)
	}
	quoted, _ := json.Marshal(hostile)
	inner := string(quoted[1 : len(quoted)-1])
	// A description, a topic's name, an ID of a statement, the name of the cluster.
	text = bytes.ReplaceAll(text, []byte("The key that encrypts the secrets"), []byte(inner))
	text = bytes.ReplaceAll(text, []byte("AccountAdministration"), []byte(inner))
	var changed estatetest.Template
	if err := json.Unmarshal(text, &changed); err != nil {
		t.Fatal(err)
	}
	ev := &evidence.Report{}
	data := fmt.Sprintf(`{"key": %[1]s, "from": "2026-11-01T12:00:00Z", "to": "2026-11-02T12:00:00Z", "uses": [{"principal": %[1]s, "action": %[1]s, "context": %[1]s, "result": %[1]s, "count": 3, "first": "2026-11-01T12:00:00Z", "last": "2026-11-02T12:00:00Z", "why": %[1]s,
	  "days": {%[1]s: 3, "2026-11-01": 3}, "materials": {}}], "changes": [{"action": %[1]s, "principal": %[1]s}], "rotation": {"rotations": [{"time": "2026-11-02T12:00:00Z", "type": %[1]s}], "materials": [{"id": %[1]s, "decrypted": {%[1]s: {"count": 1, "first": "2026-11-01T12:00:00Z", "last": "2026-11-01T12:00:00Z"}}}], "verdicts": [%[1]s]}}`, quoted)
	if err := json.Unmarshal([]byte(data), ev); err != nil {
		t.Fatal(err)
	}
	_, page := made(t, report.Input{Source: hostile, Now: estatetest.Estate(t, changed), Evidence: ev, Against: hostile, Cost: []report.Cost{{Item: hostile, USD: 1}}, CostNote: hostile})
	sound(t, page)
	scripts := 0
	nodes(t, page, func(n *html.Node) {
		if n.Data == "script" {
			scripts++
		}
	})
	if scripts != 1 || strings.Contains(page, "<img") || strings.Count(page, "alert(1)") == 0 {
		t.Errorf("%d scripts", scripts)
	}
}

// TestFleet: a hundred clusters are one page of a size that a browser likes.
func TestFleet(t *testing.T) {
	data, err := os.ReadFile("../../test/snapshot/testdata/default.golden.json")
	if err != nil {
		t.Fatal(err)
	}
	n := 100
	if estatetest.Race {
		n = 10
	}
	var parts []cfn.Part
	for i := range n {
		name := fmt.Sprintf("cluster-%03d", i)
		one := bytes.ReplaceAll(data, []byte(`"Name": "ekskms"`), []byte(`"Name": "`+name+`"`))
		if i == 4 {
			one = bytes.ReplaceAll(one, []byte(`"EnableKeyRotation": true`), []byte(`"EnableKeyRotation": false`))
		}
		parts = append(parts, cfn.Part{Name: "ekskms-" + name, Account: fmt.Sprintf("%012d", 111122220000+i), Region: "eu-central-1", Data: one})
	}
	a, err := cfn.ParseAll("cdk.out", parts, cfn.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	page, text := made(t, report.Input{Source: "fleet.yaml", Now: estate.FromTemplates(a)})
	sound(t, text)
	if len(text) > 5_000_000 {
		t.Errorf("the page has %d bytes, must be under 5 MB", len(text))
	}
	var marked []string
	for _, c := range page.Clusters {
		for _, f := range c.Facts {
			if f.Outlier {
				marked = append(marked, c.Account+" "+f.Name)
			}
		}
	}
	if len(marked) == 0 || !strings.Contains(strings.Join(marked, ","), "111122220004 Rotates") || strings.Contains(strings.Join(marked, ","), "111122220003") {
		t.Errorf("marked: %q", marked)
	}
}
