package scaffold_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/scaffold"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func hold(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("%v; run `make goldens`", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s changed; if it should, run `make goldens` (-want +got):\n%s", path, diff)
	}
}

// Goldens have an ending that neither Go nor GitHub takes for theirs.
const ending = ".golden"

func TestEject(t *testing.T) {
	paths, err := filepath.Glob("../../examples/*/ekskms.yaml")
	if err != nil || len(paths) < 4 {
		t.Fatalf("found %d examples: %v", len(paths), err)
	}
	for _, path := range paths {
		file, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		code, err := scaffold.Eject(file.Clusters[0].Blueprint())
		if err != nil {
			t.Fatal(err)
		}
		hold(t, filepath.Join("testdata", "eject", filepath.Base(filepath.Dir(path))+".go"+ending), code)
	}
}

// What a configuration says is data: it adds no import and no code.
func TestEjectQuotes(t *testing.T) {
	cluster := config.Default().Clusters[0]
	cluster.Tags = map[string]string{"awskms.Key": "\"); panic(\"awskms.x%d"}
	code, err := scaffold.Eject(cluster.Blueprint())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(code), "/awskms\"") || !strings.Contains(string(code), `"\"); panic(\"awskms.x%d"`) {
		t.Errorf("%s", code)
	}
}

func project(kind scaffold.Kind) scaffold.Project {
	return scaffold.Project{
		Kind: kind, Name: "payments", Account: "111122223333", Region: "eu-central-1",
		ClusterAdmin: "arn:aws:iam::111122223333:role/ClusterAdmin", Email: "security@example.com",
		Module: "example.com/payments", Version: "v1.2.3",
		Go: "1.26.0", CDK: "v2.276.0", JSII: "v1.142.0", CDKCLI: "aws-cdk@2.1148.1", Context: map[string]any{"@aws-cdk/a:b": true},
	}
}

func TestProject(t *testing.T) {
	for _, kind := range []scaffold.Kind{scaffold.CDK, scaffold.Terraform, scaffold.ConfigOnly} {
		files, err := project(kind).Files()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			hold(t, filepath.Join("testdata", "project", string(kind), f.Path+ending), f.Content)
		}
	}
}

func TestPipeline(t *testing.T) {
	pipeline, err := scaffold.Pipeline([]scaffold.Step{
		{Name: "central_keys", Stacks: []string{"ekskms-keys-777788889999-eu-central-1"}, Outputs: "keys.json"},
		{Name: "early", Stacks: []string{"ekskms-dev", "ekskms-alarms-111122223333-eu-central-1"}},
		{Name: "late", Stacks: []string{"ekskms-prod"}},
	}, "aws-cdk@2.1148.1")
	if err != nil {
		t.Fatal(err)
	}
	hold(t, filepath.Join("testdata", "project", "cdk", pipeline.Path+ending), pipeline.Content)
}

// Whatever is given, ekskms.yaml says just that.
func TestConfig(t *testing.T) {
	for _, p := range []scaffold.Project{
		{Name: "payments"}, {Name: "on"}, {Name: "1e3"}, {Name: "0123"}, {Name: "Null"}, {Name: "a_b"},
		{Name: "a", Account: "012345678901", Region: "us-gov-west-1"},
		{Name: "a", ClusterAdmin: "arn:aws:iam::111122223333:role/team/a+b=c,d.e@f_g-h", Email: "a+b@example.com"},
	} {
		text, err := p.Config()
		if err != nil {
			t.Fatal(err)
		}
		file, err := config.Parse(config.Source{Name: "ekskms.yaml", Data: text})
		if err != nil {
			t.Errorf("%+v: %v\n%s", p, err, text)
			continue
		}
		c := file.Clusters[0]
		got := scaffold.Project{Name: c.Name, Account: c.Account, Region: c.Region}
		if len(c.AccessEntries) > 0 {
			got.ClusterAdmin = c.AccessEntries[0].PrincipalARN
		}
		if len(c.Audit.Emails) > 0 {
			got.Email = c.Audit.Emails[0]
		}
		if diff := cmp.Diff(p, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	// What is no value of a configuration is refused by package config, and breaks
	// nothing before.
	for _, name := range []string{"a: b", "a\n  - name: c", `"`, "{{.}}", ""} {
		text, err := scaffold.Project{Name: name}.Config()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.Parse(config.Source{Name: "ekskms.yaml", Data: text}); err == nil {
			t.Errorf("%q is the name of a cluster", name)
		}
	}
}
