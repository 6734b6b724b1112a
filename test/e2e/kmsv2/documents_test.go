package kmsv2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmsservice "k8s.io/kms/pkg/service"
	"sigs.k8s.io/yaml"
)

// document is one EncryptionConfiguration that the repository shows its reader.
type document struct{ where, text string }

const kind = "EncryptionConfiguration"

// shown is a line that makes something one; every such line must lead to a
// document that can be loaded.
var shown = regexp.MustCompile(`(?m)^[\s-]*["']?kind["']?:\s*["']?` + kind)

// documents finds them all: YAML files, fenced blocks of YAML in Markdown, and
// strings within YAML, as in a ConfigMap.
func documents(repository fs.FS) (found []document, err error) {
	err = fs.WalkDir(repository, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // another test's file that came and went
		case err != nil:
			return err
		case d.IsDir():
			if base := d.Name(); base == "node_modules" || base == "cdk.out" || strings.HasPrefix(base, ".") && base != "." {
				return fs.SkipDir
			}
			return nil
		}
		var texts []string
		extension := path.Ext(name)
		if extension != ".md" && extension != ".yaml" && extension != ".yml" {
			return nil
		}
		data, err := fs.ReadFile(repository, name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		parts := []string{string(data)}
		if extension == ".md" {
			parts = fenced(string(data))
		}
		for _, part := range parts {
			more, err := configurations(part)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			texts = append(texts, more...)
		}
		if n := len(shown.FindAll(data, -1)); n != len(texts) {
			return fmt.Errorf("%s shows %d of kind %s, but %d are in YAML files or in blocks marked yaml", name, n, kind, len(texts))
		}
		for i, text := range texts {
			found = append(found, document{fmt.Sprintf("%s (%d)", name, i+1), text})
		}
		return nil
	})
	if err == nil && len(found) == 0 {
		err = errors.New("there is no " + kind + " in the repository")
	}
	return found, err
}

// fenced returns the blocks of Markdown that are marked as YAML, without their
// indentation.
func fenced(markdown string) (blocks []string) {
	var fence, indent string
	var block strings.Builder
	open, isYAML := false, false
	for line := range strings.Lines(markdown) {
		text := strings.TrimLeft(line, " \t")
		switch {
		case !open && (strings.HasPrefix(text, "```") || strings.HasPrefix(text, "~~~")):
			language := strings.TrimSpace(strings.TrimLeft(text, text[:1]))
			open, fence, indent = true, text[:3], line[:len(line)-len(text)]
			isYAML = language == "yaml" || language == "yml"
			block.Reset()
		case open && strings.HasPrefix(text, fence):
			if open = false; isYAML {
				blocks = append(blocks, block.String())
			}
		case open:
			block.WriteString(strings.TrimPrefix(line, indent))
		}
	}
	return blocks
}

var separator = regexp.MustCompile(`(?m)^---.*$`)

// configurations returns the documents of the kind in YAML, as they stand.
func configurations(text string) (found []string, err error) {
	if !strings.Contains(text, kind) {
		return nil, nil // a file of other purposes may be broken on purpose
	}
	for _, part := range separator.Split(text, -1) {
		var v any
		if err := yaml.Unmarshal([]byte(part), &v); err != nil {
			return nil, err
		}
		if object, ok := v.(map[string]any); ok && object["kind"] == kind {
			found = append(found, part)
			continue
		}
		more, err := within(v)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

func within(v any) (found []string, err error) {
	var children []any
	switch v := v.(type) {
	case map[string]any:
		for _, child := range v {
			children = append(children, child)
		}
	case []any:
		children = v
	case string:
		if shown.MatchString(v) {
			return configurations(v)
		}
	}
	for _, child := range children {
		more, err := within(child)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// TestDocuments loads every EncryptionConfiguration of the repository with the
// API server's own loader, word for word: only the socket that it connects to
// is another.
func TestDocuments(t *testing.T) {
	cloud := newCloud(t)
	plugin := cloud.serve(t, socketPath(t))
	plugin.vouches("")
	var connected atomic.Int64
	ctx := withConnect(t.Context(), func(ctx context.Context, _, name string, timeout time.Duration) (kmsservice.Service, error) {
		connected.Add(1)
		return kmsv2.NewGRPCService(ctx, "unix://"+plugin.socket, name, timeout)
	})

	found, err := documents(os.DirFS("../../.."))
	if err != nil {
		t.Fatal(err)
	}
	encrypt := 0
	for _, d := range found {
		t.Run(d.where, func(t *testing.T) {
			for _, reload := range []bool{false, true} {
				connected.Store(0)
				server, err := loadConfiguration(ctx, t, d.text, reload)
				if err != nil {
					t.Fatal(err)
				}
				server.mustBeHealthy()
				if connected.Load() == 0 {
					t.Error("it has no KMS v2 provider")
				}
				for resource, transformer := range server.config.Transformers {
					stored, err := transformer.TransformToStorage(t.Context(), []byte("object"), secret)
					if err != nil {
						t.Fatalf("%s: %v", resource, err)
					}
					if got, stale, err := transformer.TransformFromStorage(t.Context(), stored, secret); err != nil || stale || string(got) != "object" {
						t.Errorf("%s: read error %v, stale %v, same %v", resource, err, stale, string(got) == "object")
					}
					if bytes.HasPrefix(stored, []byte("k8s:enc:kms:v2:")) && resource == secrets {
						encrypt++
					}
				}
			}
			misspell(ctx, t, d.text)
		})
	}
	if encrypt == 0 {
		t.Error("no document of the repository has secrets encrypted by a KMS v2 plugin")
	}
}

var comment = regexp.MustCompile(`(?m)^\s*#.*\n`)

// misspell shows that TestDocuments would see mistakes in a document.
func misspell(ctx context.Context, t *testing.T, text string) {
	t.Helper()
	text = comment.ReplaceAllString(text, "") // where a mistake is none
	for old, c := range map[string]struct{ new, want string }{
		"endpoint:":  {"endpont:", `.kms.endpont"`},
		"providers:": {"provider:", `.provider"`},
		"resources:": {"resource:", `"resource"`},
		"unix:///":   {"https://", `unsupported scheme "https"`},
		kind:         {"EncryptionConfig", `no kind "EncryptionConfig"`},
	} {
		copied := strings.Replace(text, old, c.new, 1)
		if copied == text {
			t.Errorf("nothing to misspell: there is no %q in it", old)
			continue
		}
		if _, err := loadConfiguration(ctx, t, copied, false); !contains(err, c.want) {
			t.Errorf("with %q for %q the API server's loader says %v, want %s", c.new, old, err, c.want)
		}
	}
}

// TestDocumentsAreFound: no document slips through, and no repository without
// one passes.
func TestDocumentsAreFound(t *testing.T) {
	const text = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n"
	files := func(name, text string) fs.FS { return fstest.MapFS{name: {Data: []byte(text)}} }
	for name, c := range map[string]struct {
		files fs.FS
		n     int
		fails string
	}{
		"none":                 {files("docs/a.md", "prose about an EncryptionConfiguration\n"), 0, "there is no EncryptionConfiguration"},
		"a file":               {files("deep/down/a.yaml", text), 1, ""},
		"two in a file":        {files("a.yml", "kind: Pod\n---\n"+text+"---\n"+text), 2, ""},
		"within a ConfigMap":   {files("a.yaml", "kind: ConfigMap\ndata:\n  encryption.yaml: |\n    apiVersion: a\n    kind: EncryptionConfiguration\n"), 1, ""},
		"a block":              {files("a.md", "text\n```yaml\n"+text+"```\n```sh\nls\n```\n"), 1, ""},
		"a block in a list":    {files("a.md", "- text\n\n  ~~~ yaml\n  kind: EncryptionConfiguration\n  ~~~\n"), 1, ""},
		"a script's here-text": {files("a.md", "```sh\ncat > a.yaml <<E\n"+text+"E\n```\n"), 0, "a.md shows 1 of kind"},
		"somebody else's":      {files("node_modules/a.yaml", text), 0, "there is no EncryptionConfiguration"},
	} {
		found, err := documents(c.files)
		if len(found) != c.n || (c.fails == "") != (err == nil) || c.fails != "" && !contains(err, c.fails) {
			t.Errorf("%s: found %q, error %v; want %d, error %q", name, found, err, c.n, c.fails)
		}
	}
}
