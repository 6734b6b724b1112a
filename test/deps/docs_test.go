package deps

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// TestPropsAreDocumented: every prop says that it is required, or ends with what
// happens without it. A comment may stand for the fields right below it.
func TestPropsAreDocumented(t *testing.T) {
	props := 0
	for _, dir := range []string{"../../constructs/ekskms", "../../stacks"} {
		//nolint:staticcheck // the files of one folder, all without build tags
		packages, err := parser.ParseDir(token.NewFileSet(), dir, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, pkg := range packages {
			if strings.HasSuffix(pkg.Name, "_test") {
				continue
			}
			ast.Inspect(pkg, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok || !strings.HasSuffix(spec.Name.Name, "Props") {
					return true
				}
				doc := ""
				for _, field := range spec.Type.(*ast.StructType).Fields.List {
					if field.Doc != nil {
						doc = field.Doc.Text()
					}
					lines := strings.Split(strings.TrimSpace(doc), "\n")
					last := strings.Join(lines[max(0, len(lines)-3):], " ")
					if !strings.HasSuffix(last, "Required.") && !strings.Contains(last, "Default: ") {
						t.Errorf("%s.%s: the comment of %s ends in neither Required nor Default", dir, spec.Name.Name, field.Names[0].Name)
					}
					props++
				}
				return false
			})
		}
	}
	if props < 40 {
		t.Errorf("found %d props", props)
	}
}
