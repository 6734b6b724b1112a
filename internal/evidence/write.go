package evidence

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/terminal"
)

// WriteJSON writes the report.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r)
}

type text struct {
	strings.Builder
	style terminal.Style
}

func (t *text) p(format string, args ...any) { fmt.Fprintf(t, format, args...) }
func (t *text) title(format string, args ...any) {
	t.p("\n%s\n", t.style.Paint(terminal.Bold, fmt.Sprintf(format, args...)))
}

// head says of what the report is, and whether it can be trusted.
func (t *text) head(r *Report) {
	t.p("Key %s\n", r.Key)
	span := "nothing of KMS"
	if !r.From.IsZero() {
		span = "of KMS from " + when(r.From) + " to " + when(r.To)
	}
	t.p("Logs: %s files, %s events, %s\n", number(r.Files), number(r.Events), span)
	t.integrity(r)
}

func (t *text) integrity(r *Report) {
	i := r.Integrity
	switch {
	case i == nil:
		return
	case !i.Checked:
		t.p("%s\n", t.style.Wrap("Record: ", "        ", "not verified, for "+i.Why))
		return
	}
	for _, trust := range i.Trails {
		var periods []string
		for _, p := range trust.Periods {
			periods = append(periods, "from "+when(p.From)+" to "+when(p.To))
		}
		what := "nothing is proven"
		if len(periods) > 0 {
			what = "nothing was changed, removed or added " + strings.Join(periods, ", and ")
		}
		t.p("%s\n", t.style.Wrap("Record: ", "        ", fmt.Sprintf("trail %s, account %s in %s: %s (%d digest files, %d log files verified)", trust.Trail, trust.Account, trust.Region, what, trust.Digests, trust.LogFiles)))
	}
	if len(i.Faults) > 0 {
		t.title("What is wrong with the record")
		for _, f := range i.Faults {
			t.p("%s\n", t.style.Wrap("  ", "    ", fmt.Sprintf("%s: %s %s", t.style.Paint(terminal.Red, f.Kind), f.File, f.Message)))
		}
	}
}

// WriteUse writes who used the key, the unusual first, and who changed it.
func (r *Report) WriteUse(w io.Writer, style terminal.Style) error {
	t := &text{style: style}
	t.head(r)
	if r.Compared != "" {
		t.title("Who used the key, compared with %s", r.Compared)
	} else {
		t.title("Who used the key (compared with nothing: give --file or --against)")
	}
	if len(r.Uses) == 0 {
		t.p("  nobody, as far as these logs tell\n")
	}
	last := Verdict("")
	for i := 0; i < len(r.Uses); {
		j := i
		for j < len(r.Uses) && r.Uses[j].Verdict == r.Uses[i].Verdict {
			j++
		}
		if r.Uses[i].Verdict != last && r.Compared != "" || r.Uses[i].Verdict == Gone {
			last = r.Uses[i].Verdict
			color := terminal.Dim
			if slices.Contains([]Verdict{NotAllowed, Gone, Unexpected}, last) {
				color = terminal.Red
			}
			t.p("  %s\n", style.Paint(color, strings.ToUpper(string(last[:1]))+string(last[1:])))
		}
		rows := [][]string{}
		for _, u := range r.Uses[i:j] {
			who := u.Principal
			if arn, ok := place.ParseARN(who); ok && arn.Service == "iam" {
				who = arn.AccountID + " " + arn.Resource
			}
			if u.Via != "" {
				who += " via " + u.Via
			}
			what := u.Action
			if u.Result != "" {
				what += " " + u.Result
			}
			context := ""
			if u.Context != ContextNone {
				context = u.Context
			}
			rows = append(rows, []string{who, what, context, number(u.Count), when(u.First), when(u.Last), sources(u)})
		}
		t.p("%s", style.Table("    ", rows))
		for _, u := range r.Uses[i:j] {
			if u.Why != "" && (u.Verdict == NotAllowed || u.Verdict == Unexpected || u.Verdict == Gone) {
				t.p("%s\n", style.Wrap("    ", "      ", u.Principal+" "+u.Action+": "+u.Why))
			}
		}
		i = j
	}
	t.days(r)
	t.changes("Changes of the key and of who may use it", r.Changes)
	t.changes("Changes of the record", r.Record)
	if len(r.Unplaced) > 0 {
		t.title("Calls that do not say which key they are about, and so may be about this one")
		rows := [][]string{}
		for _, u := range r.Unplaced {
			rows = append(rows, []string{u.Principal, u.Action + " " + u.Result, u.Key, number(u.Count), when(u.First), when(u.Last)})
		}
		t.p("%s", style.Table("    ", rows))
	}
	t.notes(r)
	t.p("\n%s\n", style.Wrap("", "", "A call into this key from another account that was refused is in that account's record alone. Who read a secret is not here: the API server's audit log has it."))
	_, err := io.WriteString(w, t.String())
	return err
}

// days says how often the key was used on each day.
func (t *text) days(r *Report) {
	days := r.ByDay()
	if len(days) < 2 {
		return
	}
	t.title("By day")
	var all []string
	for _, day := range slices.Sorted(maps.Keys(days)) {
		all = append(all, day+" "+number(days[day]))
	}
	t.p("%s\n", t.style.Wrap("    ", "    ", strings.Join(all, ", ")))
}

func (t *text) changes(title string, all []Change) {
	if len(all) == 0 {
		return
	}
	t.title("%s", title)
	rows := [][]string{}
	for _, c := range all {
		who := c.Principal
		if c.Via != "" {
			who += " via " + c.Via
		}
		rows = append(rows, []string{when(c.Time), c.Action, c.Result, who, c.Source})
	}
	t.p("%s", t.style.Table("    ", rows))
}

func (t *text) notes(r *Report) {
	notes := slices.Clone(r.Notes)
	if r.Integrity != nil {
		notes = append(notes, r.Integrity.Notes...)
	}
	for i, n := range notes {
		if i == 0 {
			t.p("\n")
		}
		what := n.Message
		if n.File != "" {
			what = n.File + " " + what
		}
		t.p("%s\n", t.style.Wrap("note: ", "      ", what))
	}
}

// WriteRotation writes whether the key was rotated, and whether the data followed.
func (r *Report) WriteRotation(w io.Writer, style terminal.Style) error {
	t := &text{style: style}
	t.head(r)
	t.title("Rotations")
	rows := [][]string{}
	for _, o := range r.Rotation.Rotations {
		rows = append(rows, []string{when(o.Time), o.Type, short(o.Previous), "->", short(o.Current), "says " + o.From})
	}
	if len(rows) == 0 {
		t.p("  none on record\n")
	}
	t.p("%s", style.Table("  ", rows))
	if len(r.Rotation.Materials) > 0 {
		t.title("Key materials in use")
		rows = [][]string{}
		for _, m := range r.Rotation.Materials {
			state := "replaced " + when(m.Replaced)
			switch {
			case m.Current:
				state = "current"
			case m.Replaced.IsZero():
				state = ""
			}
			if m.Encrypted != nil {
				rows = append(rows, []string{short(m.ID), state, "Encrypt, GenerateDataKey", number(m.Encrypted.Count), when(m.Encrypted.First), when(m.Encrypted.Last)})
			}
			for _, context := range slices.Sorted(maps.Keys(m.Decrypted)) {
				s := m.Decrypted[context]
				rows = append(rows, []string{short(m.ID), state, "Decrypt, " + ofContext(context), number(s.Count), when(s.First), when(s.Last)})
			}
		}
		t.p("%s", style.Table("  ", rows))
	}
	t.title("What that proves")
	for _, v := range r.Rotation.Verdicts {
		t.p("%s\n", style.Wrap("  ", "    ", v))
	}
	t.p("%s\n", style.Wrap("  ", "    ", "Of a control plane of your own, 'ekskms evidence etcd SNAPSHOT' proves under which key each object lies. EKS gives no access to its etcd."))
	t.notes(r)
	_, err := io.WriteString(w, t.String())
	return err
}

func sources(u Use) string {
	var all []string
	for i, s := range u.Sources {
		if i == 2 {
			break
		}
		all = append(all, s.Address)
	}
	if n := len(u.Sources) - 2; n > 0 || u.More > 0 {
		more := strconv.Itoa(max(n, 1)) + " more"
		if u.More > 0 {
			more = "many more"
		}
		all = append(all, more)
	}
	return "from " + strings.Join(all, ", ")
}

// number is one with commas.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
