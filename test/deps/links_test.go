package deps

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// documents are all pages in Markdown that a reader is sent to, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all[strings.TrimPrefix(path, root+"/")] = string(data)
		}
	}
	return all
}

var (
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are those that GitHub makes of the headings of a page.
func anchors(page string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		text := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(m[1], "$1")
		all[strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(text), ""), " ", "-")] = true
	}
	return all
}

// TestLinks: every link to a file or a heading of this repository leads somewhere.
func TestLinks(t *testing.T) {
	pages, links := documents(t), 0
	for name, page := range pages {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			} else if anchor != "" && !anchors(pages[target])[anchor] {
				t.Errorf("%s links to %s, and there is no such heading", name, m[1])
			}
		}
	}
	if links < 100 {
		t.Errorf("found %d links", links)
	}
}

// TestIndex: docs/README.md leads to every page.
func TestIndex(t *testing.T) {
	pages := documents(t)
	for name := range pages {
		if rest, ok := strings.CutPrefix(name, "docs/"); ok && rest != "README.md" && !strings.Contains(pages["docs/README.md"], "("+rest+")") {
			t.Errorf("docs/README.md does not list %s", name)
		}
	}
}

// TestCommandsOfDocs: every command of ekskms that a page tells its reader to type is run by
// a script. Blocks of hosted-control-planes.md are run by test/e2e as they stand, and the
// reference of the commands by the test of its examples.
func TestCommandsOfDocs(t *testing.T) {
	ran := map[string]bool{}
	scripts, err := filepath.Glob(filepath.Join(root, "test/script/testdata/*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range scripts {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			line = regexp.MustCompile(`^(\[[^\]]*\] )?(exec|exits \d) `).ReplaceAllString(strings.TrimSpace(line), "")
			ran[line] = true
		}
	}
	commands := 0
	for name, page := range documents(t) {
		if name == "docs/reference/commands.md" || name == "docs/howto/hosted-control-planes.md" || name == "CHANGELOG.md" {
			continue
		}
		for _, block := range regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```").FindAllStringSubmatch(page, -1) {
			for line := range strings.Lines(block[1]) {
				line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
				line, _, _ = strings.Cut(strings.TrimSpace(line), " > ")
				line = strings.Replace(line, "go run ./cmd/ekskms", "ekskms", 1)
				if !strings.HasPrefix(line, "ekskms ") {
					continue
				}
				commands++
				if !ran[line] {
					t.Errorf("%s says %q, and no script runs it", name, line)
				}
			}
		}
	}
	if commands < 20 {
		t.Errorf("found %d commands", commands)
	}
}

// TestTargetsOfDocs: every target of make that a page names is there.
func TestTargetsOfDocs(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for name, page := range documents(t) {
		for _, m := range regexp.MustCompile("(?m)(?:`|^)make ([a-z-]+)").FindAllStringSubmatch(page, -1) {
			if !strings.Contains(string(makefile), "\n"+m[1]+":") {
				t.Errorf("%s names make %s", name, m[1])
			}
		}
	}
}
