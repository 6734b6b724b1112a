package config

import (
	"bytes"
	_ "embed" // of the default and the schema
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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
	f, err := Parse("default.yaml", defaultYAML)
	if err != nil {
		panic(fmt.Errorf("config: the embedded default: %w", err))
	}
	return f
}

// Schema returns the JSON Schema of ekskms.yaml, draft 2020-12. It says all that
// JSON Schema can say; [Parse] also checks what lies between fields.
func Schema() []byte { return bytes.Clone(schema) }

// Load reads and parses a file.
func Load(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no %s: %w", path, fs.ErrNotExist)
		}
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	return Read(path, f)
}

// FileName is the file that is read where none is named.
const FileName = "ekskms.yaml"

// LoadOrDefault reads the file that is named, or [FileName] in the working
// directory if the path is empty, or takes the built-in default if there is none.
func LoadOrDefault(path string) (file *File, builtIn bool, err error) {
	if path == "" {
		path = FileName
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return Default(), true, nil
		}
	}
	file, err = Load(path)
	return file, false, err
}

// Read reads and parses all that r gives. filename is for messages only.
func Read(filename string, r io.Reader) (*File, error) {
	// One byte more than Parse takes is enough for it to refuse the file.
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return Parse(filename, data)
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

// Parse reads a configuration and fills in its defaults. filename is for messages
// only. An error is always [Faults], and holds everything that is wrong.
func Parse(filename string, data []byte) (*File, error) {
	d := &decoder{file: filename, nodes: map[string]*yaml.Node{}, bad: map[string]bool{}}
	file := &File{}
	if root := d.document(data); root != nil {
		d.value(root, "", reflect.ValueOf(file).Elem(), nil)
		for i := range file.Clusters {
			d.cluster(&file.Clusters[i], fmt.Sprintf("clusters[%d]", i))
		}
	}
	if len(d.faults) > 0 {
		d.faults.sort()
		return nil, d.faults
	}
	return file, nil
}

// document returns the top node of the one document in data, or nil after a fault.
func (d *decoder) document(data []byte) *yaml.Node {
	fail := func(line int, message string) *yaml.Node {
		// The YAML package may point behind the end.
		line = max(1, min(line, 1+bytes.Count(bytes.TrimRight(data, "\n"), []byte("\n"))))
		d.faults = append(d.faults, Fault{File: d.file, Line: line, Message: message})
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
