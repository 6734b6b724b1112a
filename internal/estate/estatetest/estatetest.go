// Package estatetest changes templates, for tests that break them on purpose. What is
// not there to be changed panics: the test is wrong then.
package estatetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/estate"
)

// Golden reads a template that the snapshot tests hold, by its name, from a
// package two folders below the module.
func Golden(t *testing.T, name string) Template {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../test/snapshot/testdata", name+".golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	var read Template
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	return read
}

// Estate reads a template for account 111122223333 in eu-central-1.
func Estate(t testing.TB, template any) *estate.Estate {
	t.Helper()
	data, err := json.Marshal(template)
	if err != nil {
		t.Fatal(err)
	}
	a, err := cfn.Parse("template.json", data, cfn.Environment{Account: "111122223333", Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	return estate.FromTemplates(a)
}

// BesideAnother reads a template as Estate does, in a cloud assembly with a second
// stack: another one that is good and has the same logical IDs, in account 444455556666.
func BesideAnother(t *testing.T, template any) *estate.Estate {
	t.Helper()
	dir := t.TempDir()
	artifacts, shared := map[string]any{}, map[string]bool{}
	for id := range Golden(t, "default")["Resources"].(map[string]any) {
		shared[id] = true // so that they are named alike whatever was dropped from the first
	}
	for name, stack := range map[string]struct {
		account  string
		template any
	}{"first": {"111122223333", template}, "second": {"444455556666", Golden(t, "default")}} {
		data, err := json.Marshal(stack.template)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		artifacts[name] = map[string]any{
			"type": "aws:cloudformation:stack", "environment": "aws://" + stack.account + "/eu-central-1", "properties": map[string]any{"templateFile": name + ".json"},
		}
	}
	manifest, err := json.Marshal(map[string]any{"artifacts": artifacts})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := cfn.Load(dir, cfn.Environment{Shared: shared})
	if err != nil {
		t.Fatal(err)
	}
	return estate.FromTemplates(a)
}

// WithAnother reads a template as Estate does, with a second cluster in the same stack:
// the good one with all that belongs to it, under other logical IDs and names, which end
// in and begin with Another.
func WithAnother(t *testing.T, template Template) *estate.Estate {
	t.Helper()
	good := Golden(t, "default")
	var renames []string
	for id := range good["Resources"].(map[string]any) {
		renames = append(renames, strconv.Quote(id), strconv.Quote(id+Another))
	}
	data, err := json.Marshal(good["Resources"])
	if err != nil {
		t.Fatal(err)
	}
	var second map[string]any
	text := strings.NewReplacer(append(renames, "ekskms", strings.ToLower(Another), "EncryptedCluster/", Another+"/")...).Replace(string(data))
	if err := json.Unmarshal([]byte(text), &second); err != nil {
		t.Fatal(err)
	}
	maps.Copy(second, template["Resources"].(map[string]any))
	both := maps.Clone(template)
	both["Resources"] = second
	return Estate(t, both)
}

// Another marks what belongs to the second cluster of a stack.
const Another = "Another"

// Template is a template as encoding/json reads it.
type Template map[string]any

// Change is one change of a template.
type Change func(Template)

// Resource returns a resource by its logical ID.
func (t Template) Resource(id string) map[string]any {
	r, ok := t["Resources"].(map[string]any)[id].(map[string]any)
	if !ok {
		panic("no resource " + id)
	}
	return r
}

// Set changes what is below a path such as "EventSelectors.0.ReadWriteType". A
// value of nil takes it away.
func Set(in any, path string, value any) {
	head, rest, more := strings.Cut(path, ".")
	switch in := in.(type) {
	case map[string]any:
		switch {
		case more:
			Set(in[head], rest, value)
		case value == nil:
			if _, ok := in[head]; !ok {
				panic("nothing to take away: " + path)
			}
			delete(in, head)
		default:
			in[head] = value
		}
	case []any:
		i, err := strconv.Atoi(head)
		if err != nil {
			panic(err)
		}
		if !more {
			in[i] = value
			return
		}
		Set(in[i], rest, value)
	default:
		panic(fmt.Sprintf("no %s in %v", path, in))
	}
}

// All makes one change of several.
func All(changes ...Change) Change {
	return func(t Template) {
		for _, c := range changes {
			c(t)
		}
	}
}

// Property sets a property of a resource, or takes it away.
func Property(id, path string, value any) Change {
	return func(t Template) { Set(t.Resource(id)["Properties"], path, value) }
}

// Attribute sets an attribute beside the properties, or takes it away.
func Attribute(id, name string, value any) Change {
	return func(t Template) { Set(t.Resource(id), name, value) }
}

// Add adds a resource.
func Add(id, kind string, properties map[string]any) Change {
	return func(t Template) {
		t["Resources"].(map[string]any)[id] = map[string]any{"Type": kind, "Properties": properties}
	}
}

// Drop takes resources away.
func Drop(ids ...string) Change {
	return func(t Template) {
		for _, id := range ids {
			t.Resource(id)
			delete(t["Resources"].(map[string]any), id)
		}
	}
}
