package scaffold

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
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

// File is a file of a project, by its path with slashes.
type File struct {
	Path    string
	Content []byte
}

// Config returns the ekskms.yaml of a project. It is the caller's to check that
// the result is a configuration.
func (p Project) Config() ([]byte, error) { return p.render("ekskms.yaml.tmpl") }

// Files returns all files that the project has by itself: a snapshot and Terraform
// files are the caller's to add.
func (p Project) Files() ([]File, error) {
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
	var files []File
	for path, name := range names {
		content, err := p.render(name)
		if err != nil {
			return nil, err
		}
		files = append(files, File{path, content})
	}
	if p.Kind == CDK {
		content, err := p.cdkJSON()
		if err != nil {
			return nil, err
		}
		files = append(files, File{"cdk.json", content})
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
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

// ExistsError is a file that would be overwritten.
type ExistsError struct{ Path string }

func (e *ExistsError) Error() string { return e.Path + " exists, and nothing was written" }

// Write puts files into a folder, which is made if need be. Unless force is set, it
// returns an [*ExistsError] if one of them is there already. It writes all of them
// or none: they are written to a folder beside their places first, and what was
// moved is moved back if one can't be.
func Write(dir string, files []File, force bool) (err error) {
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if _, err := os.Lstat(path); err == nil && !force {
			return &ExistsError{path}
		}
	}
	var undo []func()
	defer func() {
		if err != nil {
			for _, f := range slices.Backward(undo) {
				f()
			}
		}
	}()
	mkdir := func(path string) error {
		made, err := missingFolders(path)
		if err != nil {
			return err
		}
		for _, folder := range made {
			undo = append(undo, func() { _ = os.Remove(folder) })
		}
		return os.MkdirAll(path, 0o755)
	}
	if err := mkdir(dir); err != nil {
		return err
	}
	stage, err := os.MkdirTemp(dir, ".ekskms-init-")
	if err != nil {
		return err
	}
	// Before the folders are undone: a stage in them would keep them.
	undo = append(undo, func() { _ = os.RemoveAll(stage) })
	for i, f := range files {
		if err := os.WriteFile(filepath.Join(stage, strconv.Itoa(i)), f.Content, 0o644); err != nil {
			return err
		}
	}
	for i, f := range files {
		path, old := filepath.Join(dir, filepath.FromSlash(f.Path)), filepath.Join(stage, "old-"+strconv.Itoa(i))
		if err := mkdir(filepath.Dir(path)); err != nil {
			return err
		}
		restore := func() { _ = os.Remove(path) }
		if _, err := os.Lstat(path); err == nil {
			if err := os.Rename(path, old); err != nil {
				return err
			}
			restore = func() { _ = os.Rename(old, path) }
		}
		undo = append(undo, restore)
		if err := os.Rename(filepath.Join(stage, strconv.Itoa(i)), path); err != nil {
			return fmt.Errorf("can't write %s: %w", path, err)
		}
	}
	return os.RemoveAll(stage)
}

// missingFolders returns the folders of a path that are not there, the outermost
// first.
func missingFolders(path string) ([]string, error) {
	var missing []string
	for {
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			slices.Reverse(missing)
			return missing, nil
		case err == nil:
			return nil, fmt.Errorf("%s is a file, and a folder of that name is needed", path)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		missing = append(missing, path)
		path = filepath.Dir(path)
	}
}
