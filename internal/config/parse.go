package config

import (
	"bytes"
	_ "embed" // of the default and the schema
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxSize is far beyond any honest configuration. It bounds what a hostile one can cost.
const maxSize = 1 << 20

//go:embed default.yaml
var defaultYAML []byte

//go:embed ekskms.schema.json
var schema []byte

// DefaultYAML returns the configuration that is used where none is given: one
// cluster, named ekskms, all defaults.
func DefaultYAML() []byte { return bytes.Clone(defaultYAML) }

// Default returns the model of [DefaultYAML].
func Default() *File {
	f, err := Parse(Source{"default.yaml", defaultYAML})
	if err != nil {
		panic(fmt.Errorf("config: the embedded default: %w", err))
	}
	return f
}

// Schema returns the JSON Schema of ekskms.yaml, draft 2020-12. It says all that
// JSON Schema can say; [Parse] also checks what lies between fields.
func Schema() []byte { return bytes.Clone(schema) }

// FileName is the file that is read where none is named.
const FileName = "ekskms.yaml"

// Load reads and parses files, of which later ones merge over earlier ones. Without a
// path it reads [FileName] in the working directory, and takes the built-in default if
// that is not there.
func Load(paths ...string) (*File, error) {
	var sources []Source
	for _, path := range paths {
		source, err := Open(path)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source)
	}
	sources, _, err := OrDefault(sources...)
	if err != nil {
		return nil, err
	}
	file, err := Parse(sources...)
	if err != nil {
		return nil, err
	}
	if err := file.ReadOutputs(sources[0].Name); err != nil {
		return nil, err
	}
	if _, err := file.ReadLock(sources[0].Name); err != nil {
		return nil, err
	}
	if err := file.Unlocked(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, LockHint)
	}
	return file, nil
}

// ReadOutputs reads the ARNs of central keys from the file that a configuration names, in the
// folder of the configuration. A file that is not there is none yet.
func (f *File) ReadOutputs(path string) error {
	if f.Shared == nil || f.Shared.KeyAccount == nil {
		return nil
	}
	name := filepath.Join(filepath.Dir(path), f.Shared.KeyAccount.Outputs)
	data, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("reading the outputs of the keys: %w", err)
	}
	return f.UseOutputs(name, data)
}

// Open reads a file, and does not parse it.
func Open(path string) (Source, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Source{}, fmt.Errorf("there is no %s: %w", path, fs.ErrNotExist)
	} else if err != nil {
		return Source{}, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	return Read(path, f)
}

// Read reads all that r gives, and does not parse it. name is for messages only.
func Read(name string, r io.Reader) (Source, error) {
	// One byte more than Parse takes is enough for it to refuse the file.
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return Source{}, fmt.Errorf("reading the configuration: %w", err)
	}
	return Source{name, data}, nil
}

// OrDefault are the sources, or if there are none [FileName] in the working directory,
// or the built-in default if that is not there.
func OrDefault(sources ...Source) (found []Source, builtIn bool, err error) {
	if len(sources) > 0 {
		return sources, false, nil
	}
	source, err := Open(FileName)
	if errors.Is(err, fs.ErrNotExist) {
		return []Source{{"default.yaml", defaultYAML}}, true, nil
	}
	return []Source{source}, false, err
}

// Is tells whether a file is meant as an ekskms.yaml, right or wrong, and not as
// something else in YAML, such as a template.
func Is(data []byte) bool { return has(data, "clusters") && !IsTemplate(data) }

// IsTemplate tells whether a file is a CloudFormation template.
func IsTemplate(data []byte) bool { return has(data, "Resources") }

func has(data []byte, field string) bool {
	var top map[string]yaml.Node
	if yaml.Unmarshal(data, &top) != nil {
		return false
	}
	_, found := top[field]
	return found
}

// Parse reads a configuration and fills in its defaults. Later sources merge over
// earlier ones: field by field, a list whole, clusters by their names. An error is
// always [Faults], and holds everything that is wrong.
func Parse(sources ...Source) (*File, error) {
	file, _, err := Resolve(sources...)
	return file, err
}

// Resolve is [Parse], and tells where each value stands, by its path in the result. Of
// what can't be read it tells nothing.
func Resolve(sources ...Source) (*File, map[string]Place, error) {
	d := &decoder{sources: sources, origins: origins{}, seen: map[string]int{}, nodes: map[string]*yaml.Node{}, bad: map[string]bool{}}
	var roots []*yaml.Node
	for _, s := range sources {
		if root := d.document(s); root != nil {
			d.origins.add(s.Name, root, "", root.Line)
			roots = append(roots, root)
		}
	}
	file := &File{}
	if len(roots) == len(sources) {
		root := d.merge(roots)
		d.nameClusters(root)
		d.value(root, "", reflect.ValueOf(file).Elem(), nil)
		for i := range file.Clusters {
			d.cluster(&file.Clusters[i], fmt.Sprintf("clusters[%d]", i))
		}
		d.fleet(file)
	}
	places := map[string]Place{}
	for path, n := range d.nodes {
		if o, ok := d.origins[n]; ok {
			o.Line = o.field
			places[path] = o.Place
		}
	}
	if len(d.faults) > 0 {
		d.faults.sort(sources)
		return nil, places, d.faults
	}
	return file, places, nil
}

// document returns the top node of the one document in a source, or nil after a fault.
func (d *decoder) document(source Source) *yaml.Node {
	data := source.Data
	fail := func(line int, message string) *yaml.Node {
		// The YAML package may point behind the end.
		line = max(1, min(line, 1+bytes.Count(bytes.TrimRight(data, "\n"), []byte("\n"))))
		d.faults = append(d.faults, Fault{File: source.Name, Line: line, Message: message})
		return nil
	}
	if len(data) > maxSize {
		return fail(1, "the file is larger than 1 MiB")
	}
	// The YAML package would also read UTF-16, but its line numbers would then
	// be none that an editor shows.
	if !utf8.Valid(data) {
		valid := data
		for i := 0; i < len(data); {
			r, n := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && n == 1 {
				valid = data[:i]
				break
			}
			i += n
		}
		return fail(1+bytes.Count(valid, []byte("\n")), "must be text in UTF-8")
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	const empty = "the file is empty: it must have a list named clusters"
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return fail(1, empty)
	} else if err != nil {
		return fail(syntaxError(err, data))
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return fail(second.Line, "must be one YAML document: another begins here")
	} else if !errors.Is(err, io.EOF) {
		return fail(syntaxError(err, data))
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Value == "" && root.ShortTag() == "!!null" {
		return fail(1, empty)
	}
	return root
}

var (
	syntaxRE = regexp.MustCompile(`^(?:yaml: )?(?:line ([0-9]+): )?((?s).*)$`)
	// These come from the parser, which counts lines from 0; all others come from
	// the scanner, which counts them from 1.
	fromParserRE = regexp.MustCompile(`^did not find expected (<|node content|key$|'-' indicator|',' or)`)
)

func syntaxError(err error, data []byte) (line int, message string) {
	m := syntaxRE.FindStringSubmatch(err.Error())
	line, _ = strconv.Atoi(m[1])
	if fromParserRE.MatchString(m[2]) {
		line++
	}
	// Where a tab indents, the scanner names the line that it continues.
	if strings.Contains(m[2], "tab character") {
		for i, text := range strings.Split(string(data), "\n") {
			indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
			if i+1 >= line && strings.Contains(indent, "\t") {
				line = i + 1
				break
			}
		}
	}
	return line, "is not valid YAML: " + strings.ReplaceAll(m[2], "\n", " ")
}
