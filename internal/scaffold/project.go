package scaffold

import (
	"bytes"
	"embed"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/ekskms/ekskms/internal/files"
)

//go:embed project
var templates embed.FS

// Kind is what a project is made of.
type Kind string

const (
	// CDK is a Go CDK app.
	CDK Kind = "cdk"
	// Terraform is a Terraform root module.
	Terraform Kind = "terraform"
	// ConfigOnly is an ekskms.yaml.
	ConfigOnly Kind = "config"
)

// Project is what the files of a new project say.
type Project struct {
	Kind Kind
	// Name is that of the cluster.
	Name string
	// Account and Region are both given or both empty.
	Account, Region string
	// ClusterAdmin is the ARN of a principal that administers the cluster through
	// the Kubernetes API. Empty for none.
	ClusterAdmin string
	// Email gets the alarms. Empty for none.
	Email string

	// Schema is where the JSON Schema of ekskms.yaml is, a URL or a path.
	Schema string

	// Module is the path of the Go module.
	Module string
	// Version is that of ekskms; Replace is a folder to take it from instead.
	Version, Replace string
	// Go, CDK and JSII are the versions that ekskms is built with.
	Go, CDK, JSII string
	// CDKCLI is the npm package of the CDK CLI, with its version.
	CDKCLI string
	// Context is the CDK context of cdk.json.
	Context map[string]any
}

// Terraform tells the templates what they are for.
func (p Project) Terraform() bool { return p.Kind == Terraform }

// Config returns the ekskms.yaml of a project. It is the caller's to check that
// the result is a configuration.
func (p Project) Config() ([]byte, error) { return p.render("ekskms.yaml.tmpl") }

// sources are the templates of the kind's files, by path.
func (p Project) sources() map[string]string {
	names := map[string]string{"ekskms.yaml": "ekskms.yaml.tmpl"}
	switch p.Kind {
	case CDK:
		for _, name := range []string{"main.go", "main_test.go", "go.mod", "README.md"} {
			names[name] = name + ".tmpl"
		}
		names[".gitignore"] = "gitignore.tmpl"
		names[".github/workflows/ekskms.yaml"] = "workflow-cdk.yaml.tmpl"
	case Terraform:
		names["README.md"] = "README.md.tmpl"
		names[".gitignore"] = "gitignore.tmpl"
		names[".github/workflows/ekskms.yaml"] = "workflow-terraform.yaml.tmpl"
	}
	return names
}

// Paths are those of [Project.Files].
func (p Project) Paths() []string {
	paths := slices.Collect(maps.Keys(p.sources()))
	if p.Kind == CDK {
		paths = append(paths, "cdk.json")
	}
	slices.Sort(paths)
	return paths
}

// Files returns all files that the project has by itself: a snapshot and Terraform
// files are the caller's to add.
func (p Project) Files() ([]files.File, error) {
	var all []files.File
	for path, name := range p.sources() {
		content, err := p.render(name)
		if err != nil {
			return nil, err
		}
		all = append(all, files.File{Path: path, Content: content})
	}
	if p.Kind == CDK {
		content, err := p.cdkJSON()
		if err != nil {
			return nil, err
		}
		all = append(all, files.File{Path: "cdk.json", Content: content})
	}
	slices.SortFunc(all, func(a, b files.File) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

func (p Project) render(name string) ([]byte, error) {
	t, err := template.New(name).Funcs(template.FuncMap{"scalar": scalar}).ParseFS(templates, "project/"+name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

var plainScalar = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9:/_.@-]*[A-Za-z0-9]$`)

// scalar writes a string in YAML, in quotes where it could be read as something
// else, such as "on".
func scalar(s string) string {
	if plainScalar.MatchString(s) && !slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "null"}, strings.ToLower(s)) {
		return s
	}
	return strconv.Quote(s)
}

func (p Project) cdkJSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		App              string         `json:"app"`
		VersionReporting bool           `json:"versionReporting"`
		AssetMetadata    bool           `json:"assetMetadata"`
		Context          map[string]any `json:"context"`
	}{App: "go mod download && go run .", Context: p.Context})
	return b.Bytes(), err
}
