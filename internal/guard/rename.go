package guard

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/value"
)

// renames are the clusters of the same logical ID that have another name afterwards: the
// old names by the new ones. A name that the deployed templates have too, in whatever
// place, could stand for something else, and is left out.
func renames(before, after *estate.Estate) map[string]string {
	c := newComparison(before, after)
	names := map[string]string{}
	for _, earlier := range before.Clusters {
		now := c.now(earlier.Thing)
		if now == nil {
			continue
		}
		if old, new := value.Text(earlier.Settings["Name"]), value.Text(now.Settings["Name"]); old != "" && new != "" && old != new {
			names[new] = old
		}
	}
	for name := range names {
		there := false
		before.Rewritten(func(s string) string {
			there = there || replaceWord(s, name, "") != s
			return s
		})
		if there {
			delete(names, name)
		}
	}
	return names
}

// replaceWord replaces a name where it is no part of a longer word.
func replaceWord(text, name, by string) string {
	inWord := func(s string) bool { return s != "" && letterOrDigit.MatchString(s) }
	var b strings.Builder
	for rest := text; ; {
		i := strings.Index(rest, name)
		if i < 0 {
			return b.String() + rest
		}
		end := i + len(name)
		b.WriteString(rest[:i])
		before := b.String()
		if inWord(before[max(0, len(before)-1):]) || inWord(rest[end:min(len(rest), end+1)]) {
			b.WriteString(name)
		} else {
			b.WriteString(by)
		}
		rest = rest[end:]
	}
}

var letterOrDigit = regexp.MustCompile(`[A-Za-z0-9]`)

// backwards gives clusters their old names in a text.
func backwards(text string, names map[string]string) string {
	for name, old := range names {
		text = replaceWord(text, name, old)
	}
	return text
}

// withoutConsequences leaves out what follows from the new names of clusters alone: it is
// not found if the clusters have their old names. Principals that are not in the templates
// keep theirs: who may use a key is no consequence of a name.
func withoutConsequences(all *finding.Report, before, after *estate.Estate, names map[string]string, opts Options) error {
	principal := regexp.MustCompile(`^arn:[^:]*:(iam|sts)::`)
	same, err := compare(before, after.Rewritten(func(s string) string {
		if principal.MatchString(s) && after.Lookup(s) == nil {
			return s
		}
		return backwards(s, names)
	}), opts)
	if err != nil {
		return err
	}
	id := func(f finding.Finding) string {
		return strings.Join([]string{f.Stack, f.LogicalID, f.Rule, backwards(f.Message, names)}, "\n")
	}
	left := map[string]finding.Finding{}
	for _, f := range same.Findings {
		left[id(f)] = f
	}
	var kept []finding.Finding
	var where []string
	replaced := -1
	for _, f := range all.Findings {
		_, ok := left[id(f)]
		delete(left, id(f))
		switch {
		case f.Rule == "cluster-replaced" && strings.HasPrefix(f.Message, "Name changes"):
			if replaced < 0 {
				replaced = len(kept)
			}
			kept = append(kept, f)
		case ok:
			kept = append(kept, f)
		case !slices.Contains(where, f.Resource):
			where = append(where, f.Resource)
		}
	}
	if len(where) > 0 {
		kept[replaced].Message += fmt.Sprintf("; what is named after it changes with it, which is not listed again: %s", strings.Join(where, ", "))
	}
	for _, f := range same.Findings {
		if _, ok := left[id(f)]; ok {
			kept = append(kept, f)
		}
	}
	all.Findings = kept
	return nil
}

// withStack leaves out what goes with a stack whose cluster or key goes: that is said there.
func (c *comparison) withStack() {
	for _, t := range c.before.Stacks {
		if c.stacks[t] != nil {
			continue
		}
		goes := func(f finding.Finding) bool {
			return f.Stack == t.Name && strings.HasSuffix(f.Message, c.gone(&estate.Thing{In: t}))
		}
		first := func(f finding.Finding) bool { return goes(f) && f.Severity == finding.Critical }
		if !slices.ContainsFunc(c.report.Findings, first) {
			continue
		}
		var where []string
		c.report.Findings = slices.DeleteFunc(c.report.Findings, func(f finding.Finding) bool {
			lesser := goes(f) && f.Severity < finding.Critical
			if lesser && !slices.Contains(where, f.Resource) {
				where = append(where, f.Resource)
			}
			return lesser
		})
		if len(where) > 0 {
			c.report.Findings[slices.IndexFunc(c.report.Findings, first)].Message += "; with it go " + strings.Join(where, ", ")
		}
	}
}
