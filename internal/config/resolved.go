package config

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Commented is a configuration in YAML with every default filled in. Each value has a
// comment with where it stands, which [Resolve] has found.
func Commented(file *File, places map[string]Place) ([]byte, error) {
	var root yaml.Node
	if err := root.Encode(file); err != nil {
		return nil, err
	}
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				walk(n.Content[i+1], join(path, n.Content[i].Value))
			}
		case yaml.SequenceNode:
			for i, c := range n.Content {
				walk(c, fmt.Sprintf("%s[%d]", path, i))
			}
		default:
			n.LineComment = "built in"
			if p, ok := places[path]; ok {
				n.LineComment = p.File
				if p.Line > 0 {
					n.LineComment += fmt.Sprintf(":%d", p.Line)
				}
				if strings.HasPrefix(p.Path, "defaults.") {
					n.LineComment += ", defaults"
				}
			}
		}
	}
	walk(&root, "")
	var b strings.Builder
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&root); err != nil {
		return nil, err
	}
	return []byte(b.String()), enc.Close()
}

// Parent cuts the last step off a path.
func Parent(path string) string { return parent(path) }
