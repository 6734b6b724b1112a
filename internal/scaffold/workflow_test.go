package scaffold

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// workflow is the part of a workflow of GitHub that is judged.
type workflow struct {
	Permissions any
	Jobs        map[string]struct {
		RunsOn      string `json:"runs-on"`
		Permissions map[string]string
		Steps       []struct {
			Uses, Run string
			With      map[string]any
		}
	}
}

var (
	pinned     = regexp.MustCompile(`^[\w./-]+@[0-9a-f]{40}$`)
	expression = regexp.MustCompile(`\$\{\{`)
)

// judge returns what is wrong with a workflow.
func judge(text string) (faults []string) {
	var w workflow
	if err := yaml.Unmarshal([]byte(text), &w); err != nil {
		return []string{err.Error()}
	}
	if p, ok := w.Permissions.(map[string]any); !ok || len(p) > 1 || len(p) == 1 && p["contents"] != "read" {
		faults = append(faults, "permissions of the whole are more than reading")
	}
	for name, job := range w.Jobs {
		if strings.HasSuffix(job.RunsOn, "-latest") || job.RunsOn == "" {
			faults = append(faults, name+" runs on "+job.RunsOn)
		}
		for _, step := range job.Steps {
			if step.Uses != "" && !pinned.MatchString(step.Uses) {
				faults = append(faults, step.Uses+" is no commit")
			}
			if strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != false {
				faults = append(faults, "the checkout leaves its credentials")
			}
			if expression.MatchString(step.Run) {
				faults = append(faults, "an expression in a command: "+step.Run)
			}
			if strings.Contains(step.Run, "@latest") {
				faults = append(faults, "no version is named: "+step.Run)
			}
			for _, key := range []string{"go-version", "node-version", "terraform_version"} {
				if v, there := step.With[key]; there && (v == "stable" || v == "latest" || v == "") {
					faults = append(faults, key+" is none")
				}
			}
		}
	}
	if len(w.Jobs) == 0 {
		faults = append(faults, "it has no job")
	}
	return faults
}

// workflows are all that this repository has, writes, and shows.
func workflows(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, kind := range []Kind{CDK, Terraform} {
		files, err := Project{Kind: kind, Name: "demo", Module: "example.com/demo", Version: "v1.2.3"}.Files()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasPrefix(f.Path, ".github/workflows/") {
				all[string(kind)+" "+f.Path] = string(f.Content)
			}
		}
	}
	pipeline, err := Pipeline([]Step{{Name: "all", Stacks: []string{"ekskms-demo"}}}, "aws-cdk@1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	all[pipeline.Path] = string(pipeline.Content)
	own, err := filepath.Glob("../../.github/workflows/*.yaml")
	if err != nil || len(own) == 0 {
		t.Fatal(own, err)
	}
	for _, name := range own {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(text)
	}
	docs, err := filepath.Glob("../../docs/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(docs, "../../README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(block[1], "runs-on:") {
				all[name] = block[1]
			}
		}
	}
	return all
}

// TestWorkflows: no workflow runs what others can exchange, hands on credentials, or puts
// into a command what a pull request can choose.
func TestWorkflows(t *testing.T) {
	all := workflows(t)
	if len(all) < 5 {
		t.Errorf("only %d workflows", len(all))
	}
	for name, text := range all {
		for _, fault := range judge(text) {
			t.Errorf("%s: %s", name, fault)
		}
		for name2, change := range map[string][2]string{
			"a tag":                 {"@08c6903cd8c0fde910a37f88322edcfb5dd907a8", "@v5"},
			"credentials":           {"persist-credentials: false", "persist-credentials: true"},
			"the newest system":     {"ubuntu-24.04", "ubuntu-latest"},
			"an expression":         {"run: ", "run: echo ${{ github.head_ref }} && "},
			"a version that floats": {"run: ", "run: go run example.com/a@latest && "},
		} {
			if change[0] == "run: " && !strings.Contains(text, change[0]) {
				continue // it runs actions alone
			}
			if broken := strings.Replace(text, change[0], change[1], 1); broken == text || len(judge(broken)) == 0 {
				t.Errorf("%s: nobody notices %s", name, name2)
			}
		}
	}
}
