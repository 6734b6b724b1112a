package explain

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/terminal"
)

// summed are the actions that a summary counts principals of, with the headings.
var summed = []struct{ action, heading string }{
	{"kms:Decrypt", "Decrypt"}, {"kms:CreateGrant", "CreateGrant"}, {"kms:PutKeyPolicy", "PutKeyPolicy"}, {"kms:ScheduleKeyDeletion", "ScheduleKeyDeletion"},
}

// member is a key in a summary.
type member struct {
	*Matrix
	account, region string
	counts          []string
	// may are the answers other than no, by action and principal, with what is different
	// for each key, such as its account, left out.
	may   map[[2]string]string
	group int
}

// plain leaves out of a text what is different for each key that is made alike.
func (m *Matrix) plain() func(string) string {
	key, _ := place.ParseARN(m.Key)
	stack, _, _ := strings.Cut(m.Path, "/")
	words := []string{".amazonaws.com.cn", ".amazonaws.com"}
	for _, w := range [][2]string{
		{m.Key, "the key"}, {strings.TrimPrefix(key.Resource, "key/"), "KEY"}, {key.AccountID, "ACCOUNT"}, {key.Region, "REGION"}, {"arn:" + key.Partition + ":", "arn:"},
		{m.account, "CLUSTER-ACCOUNT"},
	} {
		if w[0] != "" {
			words = append(words, w[0], w[1])
		}
	}
	replacer := strings.NewReplacer(words...)
	name := regexp.MustCompile(`\b` + regexp.QuoteMeta(m.cluster) + `\b`)
	return func(text string) string {
		text = strings.ReplaceAll(text, stack+"/", "")
		if m.cluster != "" {
			text = name.ReplaceAllLiteralString(text, "CLUSTER")
		}
		return replacer.Replace(text)
	}
}

func newMember(m *Matrix) member {
	key, _ := place.ParseARN(m.Key)
	one := member{Matrix: m, account: key.AccountID, region: key.Region, may: map[[2]string]string{}}
	plain := m.plain()
	names := make([]string, len(m.Principals))
	for i, p := range m.Principals {
		names[i] = plain(p.What)
		if strings.HasPrefix(p.ARN, "arn:") && !p.stands && !strings.Contains(p.What, "/") {
			names[i] = plain(last(p.ARN))
		}
	}
	count := map[string]int{}
	away := m.away()
	for _, row := range m.Rows {
		for i, c := range row.Cells {
			if c.Answer == No || away[i] {
				continue
			}
			if c.Answer != Denied {
				count[row.Action]++
			}
			one.may[[2]string{row.Action, names[i]}] = plain(fmt.Sprint(c.Answer, c.When, c.Unless))
		}
	}
	for _, s := range summed {
		one.counts = append(one.counts, fmt.Sprint(count[s.action]))
	}
	return one
}

// away are the roles of other stacks that only their own policies let read about the key:
// each of them may read about every key around it.
func (m *Matrix) away() []bool {
	stack, _, _ := strings.Cut(m.Path, "/")
	all := make([]bool, len(m.Principals))
	for i, p := range m.Principals {
		home, _, inTemplates := strings.Cut(p.What, "/")
		all[i] = p.unnamed && inTemplates && home != stack && !slices.ContainsFunc(m.Rows, func(r Row) bool {
			return r.Class != iampolicy.Read && r.Cells[i].Answer != No
		})
	}
	return all
}

// who are the principals that may do something, in words.
func (m member) who(action string) string {
	var all []string
	for at, answer := range m.may {
		if at[0] == action && !strings.HasPrefix(answer, string(Denied)) {
			all = append(all, at[1]+map[bool]string{true: " (under a condition)"}[strings.HasPrefix(answer, string(Conditional))])
		}
	}
	slices.Sort(all)
	return cmp.Or(strings.Join(all, ", "), "nobody")
}

// difference says what is not as with another key, with the actions of one kind of
// difference and one principal together.
func (m member) difference(other member) []string {
	actions := map[[2]string][]string{}
	add := func(kind string, at [2]string) {
		actions[[2]string{kind, at[1]}] = append(actions[[2]string{kind, at[1]}], at[0])
	}
	for at, answer := range m.may {
		switch was, found := other.may[at]; {
		case !found && strings.HasPrefix(answer, string(Denied)):
			add("is denied", at)
		case !found:
			add("may also", at)
		case was != answer:
			add("under another condition", at)
		}
	}
	for at := range other.may {
		if _, found := m.may[at]; !found {
			add("may not", at)
		}
	}
	var lines []string
	for at, names := range actions {
		slices.Sort(names)
		lines = append(lines, fmt.Sprintf("%s %s: %s", at[1], at[0], strings.Join(names, ", ")))
	}
	slices.Sort(lines)
	return lines
}

// WriteSummary writes who may do what with several keys: how many principals with each,
// who they are for most keys, and what is different for the others.
func WriteSummary(w io.Writer, style terminal.Style, all []*Matrix) error {
	var members []member
	var groups [][]int
	var notes []string
	for i, m := range all {
		one := newMember(m)
		g := slices.IndexFunc(groups, func(g []int) bool { return len(members[g[0]].difference(one)) == 0 })
		if g < 0 {
			g = len(groups)
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], i)
		members = append(members, one)
		for _, n := range m.Notes {
			if !slices.Contains(notes, n) {
				notes = append(notes, n)
			}
		}
	}
	slices.SortStableFunc(groups, func(a, b []int) int { return len(b) - len(a) })
	for g, in := range groups {
		for _, i := range in {
			members[i].group = g
		}
	}
	var b strings.Builder
	line := func(first, next, text string) { b.WriteString(style.Wrap(first, next, text) + "\n") }
	line("", "", fmt.Sprintf("%d keys, with the number of principals that may call each action; roles of other stacks that may only read about a key are left out. --key shows who may do what with one of them, --details with all.", len(all)))
	b.WriteByte('\n')
	heads := []string{"Key", "Account", "Region"}
	for _, s := range summed {
		heads = append(heads, s.heading)
	}
	heads = append(heads, "As")
	for i, h := range heads {
		heads[i] = style.Paint(terminal.Bold, h)
	}
	table := [][]string{heads}
	for _, m := range members {
		row := append([]string{strings.TrimSuffix(cmp.Or(m.Path, m.Key)+", "+m.In, ", "), m.account, m.region}, m.counts...)
		table = append(table, append(row, Letter(m.group)))
	}
	b.WriteString(style.Table("", table))
	for g, in := range groups {
		first := members[in[0]]
		keys := fmt.Sprintf("%d keys", len(in))
		if len(in) == 1 {
			keys = "1 key"
		}
		b.WriteString("\n" + style.Paint(terminal.Bold, fmt.Sprintf("%s, %s", Letter(g), keys)) + "\n")
		if g == 0 {
			for _, s := range summed {
				line("  "+s.action+": ", "      ", first.who(s.action))
			}
			continue
		}
		b.WriteString("  as A, but\n")
		for _, d := range first.difference(members[groups[0][0]]) {
			line("  ", "      ", d)
		}
	}
	for i, n := range notes {
		if i == 0 {
			b.WriteByte('\n')
		}
		line("note: ", "  ", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
