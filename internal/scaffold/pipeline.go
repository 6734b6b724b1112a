package scaffold

import (
	"bytes"
	"strings"
	"text/template"

	"github.com/ekskms/ekskms/internal/files"
)

// Step is a job of a pipeline that deploys stacks.
type Step struct {
	// Name is that of its environment, too.
	Name string
	// Stacks are their names, or patterns of the CDK CLI.
	Stacks []string
	// Outputs is a file that the step writes, and after which nothing goes on if that
	// is new. Empty for none.
	Outputs string
}

// Job is the ID of the step's job.
func (s Step) Job() string { return "deploy-" + s.Name }

// PipelinePath is where the pipeline of a project is.
const PipelinePath = ".github/workflows/ekskms-deploy.yaml"

// Pipeline is a workflow of GitHub Actions that proves a project, and deploys it step by
// step. cdkCLI is the npm package of the CDK CLI, with its version.
func Pipeline(steps []Step, cdkCLI string) (files.File, error) {
	t, err := template.New("pipeline-github.yaml.tmpl").Funcs(template.FuncMap{
		"dec":    func(i int) int { return i - 1 },
		"quoted": func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" },
	}).ParseFS(templates, "project/pipeline-github.yaml.tmpl")
	if err != nil {
		return files.File{}, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, struct {
		Steps  []Step
		CDKCLI string
	}{steps, cdkCLI})
	return files.File{Path: PipelinePath, Content: bytes.TrimRight(b.Bytes(), "\n")}, err
}
