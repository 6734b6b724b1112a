package config

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Lines are the lines of what stands in a configuration, from 1, by the paths that faults
// have, such as clusters[0].key. Of what can't be read there is nothing.
func Lines(data []byte) map[string]int {
	lines := map[string]int{}
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		switch n.Kind {
		case yaml.DocumentNode:
			for _, c := range n.Content {
				walk(c, path)
			}
		case yaml.SequenceNode:
			for i, c := range n.Content {
				at := fmt.Sprintf("%s[%d]", path, i)
				lines[at] = c.Line
				walk(c, at)
			}
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				at := join(path, n.Content[i].Value)
				lines[at] = n.Content[i].Line
				walk(n.Content[i+1], at)
			}
		}
	}
	var doc yaml.Node
	if yaml.Unmarshal(data, &doc) == nil {
		walk(&doc, "")
	}
	return lines
}

// Parent cuts the last step off a path.
func Parent(path string) string { return parent(path) }
