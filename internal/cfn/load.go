package cfn

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ekskms/ekskms/internal/place"
)

// maxSize bounds a file: CloudFormation takes 1 MB, and an assembly's template may
// be larger before it is split.
const maxSize = 64 << 20

// Load reads a template in JSON or YAML, a cloud assembly's folder, or the
// manifest.json in it.
func Load(path string, env Environment) (*Assembly, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	l := &loader{env: env}
	switch {
	case info.IsDir():
		if _, err := os.Stat(filepath.Join(path, "manifest.json")); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: is no cloud assembly, for it has no manifest.json: run 'cdk synth' or 'ekskms synth' first", path)
		}
		err = l.assembly(path)
	case filepath.Base(path) == "manifest.json":
		err = l.assembly(filepath.Dir(path))
	default:
		err = l.template(filepath.Base(path), path, "", nil)
	}
	if err != nil {
		return nil, err
	}
	return l.resolve()
}

// Parse reads one template in JSON or YAML. The name stands for the file.
func Parse(name string, data []byte, env Environment) (*Assembly, error) {
	raw, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	l := &loader{env: env}
	if err := l.add(name, name, raw, "", nil); err != nil {
		return nil, err
	}
	return l.resolve()
}

// Part is one of several templates that belong together.
type Part struct {
	// Name is that of the stack.
	Name string
	Data []byte
	// Account and Region of the stack, if they are known.
	Account, Region string
}

// ParseAll reads several templates in JSON or YAML, which were made of one file.
func ParseAll(file string, parts []Part, env Environment) (*Assembly, error) {
	l := &loader{env: env}
	for _, part := range parts {
		raw, err := decode(part.Data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.Name, err)
		}
		environment := "aws://" + cmp.Or(part.Account, "unknown-account") + "/" + cmp.Or(part.Region, "unknown-region")
		if err := l.add(part.Name, file, raw, environment, nil); err != nil {
			return nil, err
		}
	}
	return l.resolve()
}

// loader collects templates, which are resolved when all are there.
type loader struct {
	env       Environment
	facts     facts
	asking    sync.Mutex // of what conditions have asked:
	open      []question
	undecided bool // tells that there were some
	resolvers []*resolver
	exports   map[string][]exported // by their names, once one is imported
	names     *strings.Replacer     // of keys whose ARNs are known
	depth     int
	ahead     map[string]file // what was read already
}

// given resolves the same templates again, where some facts are given.
func (l *loader) given(f facts) (*Assembly, error) {
	n := &loader{env: l.env, facts: f}
	now := map[*resolver]*resolver{}
	for _, r := range l.resolvers {
		t := *r.template
		t.unknowns = map[string]bool{}
		parent := r.parent
		if parent != nil {
			parent = &nesting{now[parent.resolver], parent.id}
		}
		now[r] = newResolver(&t, r.raw, n, parent)
		n.resolvers = append(n.resolvers, now[r])
	}
	for _, r := range l.resolvers {
		for id, nested := range r.nested {
			now[r].nested[id] = now[nested]
		}
	}
	return n.resolve()
}

// maxDepth bounds stages in stages and stacks in stacks.
const maxDepth = 20

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSize {
		return nil, fmt.Errorf("%s: has %d bytes, must be at most %d", path, info.Size(), maxSize)
	}
	return os.ReadFile(path)
}

// assembly reads the stacks of a folder that CDK wrote, and of the stages in it.
func (l *loader) assembly(dir string) error {
	if l.depth++; l.depth > maxDepth {
		return fmt.Errorf("%s: stages are nested more than %d deep", dir, maxDepth)
	}
	defer func() { l.depth-- }()
	path := filepath.Join(dir, "manifest.json")
	data, err := readFile(path)
	if err != nil {
		return err
	}
	var manifest struct {
		Artifacts map[string]struct {
			Type        string
			Environment string
			Properties  struct {
				TemplateFile, StackName, DirectoryName string
			}
		}
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		return fmt.Errorf("%s: is no manifest of a cloud assembly: %w", path, err)
	}
	var files []string
	for _, artifact := range manifest.Artifacts {
		if artifact.Type == "aws:cloudformation:stack" {
			files = append(files, filepath.Join(dir, artifact.Properties.TemplateFile))
		}
	}
	l.readAhead(files)
	before := len(l.resolvers)
	for _, id := range slices.Sorted(maps.Keys(manifest.Artifacts)) {
		artifact := manifest.Artifacts[id]
		switch artifact.Type {
		case "aws:cloudformation:stack":
			name := artifact.Properties.StackName
			if name == "" {
				name = id
			}
			err = l.template(name, filepath.Join(dir, artifact.Properties.TemplateFile), artifact.Environment, nil)
		case "cdk:cloud-assembly":
			err = l.assembly(filepath.Join(dir, artifact.Properties.DirectoryName))
		}
		if err != nil {
			return err
		}
	}
	if len(l.resolvers) == before {
		return fmt.Errorf("%s: names no CloudFormation stack", path)
	}
	return nil
}

// file is a template that was read.
type file struct {
	raw *document
	err error
}

func read(path string) (f file) {
	var data []byte
	if data, f.err = readFile(path); f.err != nil {
		return f
	}
	if f.raw, f.err = decode(data); f.err != nil {
		f.err = fmt.Errorf("%s: %w", path, f.err)
	}
	return f
}

// readAhead reads files at once, for template to take.
func (l *loader) readAhead(paths []string) {
	files := make([]file, len(paths))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, path := range paths {
		group.Go(func() error {
			files[i] = read(path)
			return nil
		})
	}
	_ = group.Wait() // each file has its own error
	if l.ahead == nil {
		l.ahead = map[string]file{}
	}
	for i, path := range paths {
		l.ahead[path] = files[i]
	}
}

func (l *loader) template(name, path, environment string, parent *nesting) error {
	f, there := l.ahead[path]
	if delete(l.ahead, path); !there {
		f = read(path)
	}
	if f.err != nil {
		return f.err
	}
	return l.add(name, path, f.raw, environment, parent)
}

// nesting says where a nested stack stands.
type nesting struct {
	resolver *resolver
	id       string
}

func (l *loader) add(name, path string, raw *document, environment string, parent *nesting) error {
	t := &Template{Name: name, File: path, Account: l.env.Account, Region: l.env.Region, unknowns: map[string]bool{}}
	account, region, _ := strings.Cut(strings.TrimPrefix(environment, "aws://"), "/")
	if t.Account == "" && account != "unknown-account" {
		t.Account = account
	}
	if t.Region == "" && region != "unknown-region" {
		t.Region = region
	}
	if parent != nil {
		of := parent.resolver.template
		t.Account, t.Region, t.Assumed = of.Account, of.Region, of.Assumed
	}
	t.Account, t.Region = cmp.Or(t.Account, l.env.ElseAccount), cmp.Or(t.Region, l.env.ElseRegion)
	if t.Account == "" {
		t.Account, t.Assumed = ExampleAccount, true
	}
	if t.Region == "" {
		t.Region, t.Assumed = ExampleRegion, true
	}
	t.Partition = place.Partition(t.Region)
	r := newResolver(t, raw, l, parent)
	l.resolvers = append(l.resolvers, r)
	return l.nested(r, filepath.Dir(path))
}

// nested reads the templates of nested stacks, which CDK leaves beside that of
// their parent.
func (l *loader) nested(r *resolver, dir string) error {
	if l.depth++; l.depth > maxDepth {
		return fmt.Errorf("%s: stacks are nested more than %d deep", r.template.File, maxDepth)
	}
	defer func() { l.depth-- }()
	for _, id := range slices.Sorted(maps.Keys(r.raw.resources)) {
		resource := r.raw.resources[id]
		metadata, _ := resource["Metadata"].(map[string]any)
		file, ok := metadata["aws:asset:path"].(string)
		if resource["Type"] != "AWS::CloudFormation::Stack" || !ok {
			continue
		}
		path := filepath.Join(dir, file)
		if !filepath.IsLocal(file) {
			return fmt.Errorf("%s: %s: the nested stack's template %s is outside the assembly", r.template.File, id, file)
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue // a template by itself: the nested one is not at hand
		}
		at := len(l.resolvers)
		if err := l.template(r.template.Name+"/"+id, path, "", &nesting{r, id}); err != nil {
			return err
		}
		r.nested[id] = l.resolvers[at]
	}
	return nil
}

func (l *loader) resolve() (*Assembly, error) {
	a := &Assembly{Shared: maps.Clone(l.env.Shared), Planned: l.env.Planned, loader: l}
	if a.Shared == nil {
		a.Shared = map[string]bool{}
	}
	uses := map[string]int{}
	for _, r := range l.resolvers {
		for id := range r.raw.resources {
			uses[id]++
		}
	}
	for id, n := range uses {
		if n > 1 {
			a.Shared[id] = true
		}
	}
	for _, r := range l.resolvers {
		r.shared, r.template.known = a.Shared, nil
	}
	// A key that is known to have an ARN is the one that other templates name by it.
	var names []string
	for _, r := range l.resolvers {
		for _, id := range slices.Sorted(maps.Keys(r.raw.resources)) {
			metadata, _ := r.raw.resources[id]["Metadata"].(map[string]any)
			if arn, _ := metadata[ARNMetadata].(string); arn != "" && r.arn(id) != "" {
				names = append(names, arn, r.arn(id))
			}
			others, _ := metadata[NamesMetadata].([]any)
			for _, name := range others {
				if text, ok := name.(string); ok && text != "" {
					names = append(names, text, r.name(id))
				}
			}
			if arn := r.known(id); arn != "" {
				names = append(names, arn, r.arn(id))
				r.template.known = append(r.template.known, fmt.Sprintf("key %s: its metadata %q says that it is the key %s, which was taken for true", id, place.KeyIDMetadata, arn))
			}
		}
	}
	l.names = nil
	if names != nil {
		l.names = strings.NewReplacer(names...)
	}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	if slices.ContainsFunc(l.resolvers, func(r *resolver) bool { return r.raw.imports || r.parent != nil }) {
		group.SetLimit(1) // one looks into another
	}
	for _, r := range l.resolvers {
		a.Templates = append(a.Templates, r.template)
		group.Go(func() error {
			if err := r.run(); err != nil {
				return fmt.Errorf("%s: %w", r.template.File, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	a.buildIndex(l.resolvers)
	return a, nil
}
