package evidence

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/value"
)

// Verdict is what is expected of a use.
type Verdict string

// The verdicts, the most unusual first.
const (
	// NotAllowed is a use that nothing which is known allows: who could do it got the right
	// elsewhere, or the policy was another then.
	NotAllowed Verdict = "not allowed by what is written"
	// Gone is a use by a principal that was deleted since.
	Gone Verdict = "by a principal that was deleted since"
	// Unexpected is allowed, and by nothing that names the principal.
	Unexpected Verdict = "allowed, and not expected"
	// Refused is one that AWS refused.
	Refused Verdict = "refused"
	// Failed is one that ended otherwise.
	Failed Verdict = "failed"
	// Unjudged is one that was compared with nothing.
	Unjudged Verdict = "not compared"
	// Expected is by somebody whom the key policy names, or by AWS as the call book has it.
	Expected Verdict = "expected"
)

var verdicts = []Verdict{NotAllowed, Gone, Unexpected, Refused, Failed, Unjudged, Expected}

// Use is who did what with the key, how often and when.
type Use struct {
	identity
	Span
	Verdict Verdict `json:"verdict"`
	// Why is what allows it, or what is missing.
	Why       string           `json:"why,omitempty"`
	Days      map[string]int64 `json:"days"`
	Sources   []Source         `json:"sources"`
	Materials map[string]*Span `json:"materials,omitempty"`
	// More are the uses from other sources.
	More int64 `json:"more,omitempty"`
}

// Source is from where a key was used.
type Source struct {
	Address string `json:"address"`
	Count   int64  `json:"count"`
}

// Judge says what is expected of a use, and why. It is asked of what AWS did.
type Judge func(principal, via, action, context string) (Verdict, string)

// Report is what the logs say of a key.
type Report struct {
	Key string `json:"key"`
	// From and To are the first and the last event that was counted, of any key.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Files, Events and Bytes are how much was read.
	Files  int64 `json:"files"`
	Events int64 `json:"events"`
	Bytes  int64 `json:"bytes"`
	// Compared tells with what the uses were. Empty: with nothing.
	Compared string `json:"compared,omitempty"`

	Uses     []Use      `json:"uses"`
	Changes  []Change   `json:"changes"`
	Record   []Change   `json:"record,omitempty"`
	Unplaced []Unplaced `json:"unplaced,omitempty"`

	Rotation  *Rotation  `json:"rotation,omitempty"`
	Integrity *Integrity `json:"integrity,omitempty"`
	Notes     []Note     `json:"notes,omitempty"`
}

// Unplaced are calls that failed, and do not say with which key.
type Unplaced struct {
	identity
	Span
}

// ErrKeys is that the logs hold several keys, and none was named.
type ErrKeys struct{ Keys []string }

func (e ErrKeys) Error() string {
	return fmt.Sprintf("the logs hold %d keys", len(e.Keys))
}

// Keys are those of the logs, the most used first.
func (l *Logs) Keys() []string {
	uses := map[string]int64{}
	for id, c := range l.rows {
		uses[id.Key] += c.Count
	}
	return slices.SortedFunc(maps.Keys(uses), func(a, b string) int {
		return cmp.Or(cmp.Compare(uses[b], uses[a]), strings.Compare(a, b))
	})
}

// Report makes that of a key: its ARN, its ID, or empty if the logs hold one.
func (l *Logs) Report(key string, judge Judge) (*Report, error) {
	keys := l.Keys()
	switch {
	case key == "" && len(keys) > 1:
		return nil, ErrKeys{keys}
	case key == "" && len(keys) == 1:
		key = keys[0]
	}
	r := &Report{Key: key, From: l.oldest, To: l.newest, Files: l.Files, Events: l.Events, Bytes: l.Bytes, Uses: []Use{}, Changes: []Change{}, Record: slices.Clone(l.record), Notes: slices.Clone(l.Notes)}
	if i := slices.IndexFunc(keys, func(arn string) bool { return meant(arn, key) }); i >= 0 && !strings.HasPrefix(key, "arn:") {
		r.Key = keys[i]
	}
	for id, c := range l.rows {
		if !meant(id.Key, key) {
			continue
		}
		u := Use{identity: id, Span: c.Span, Days: c.Days, Materials: c.Materials, More: c.More}
		for _, from := range slices.Sorted(maps.Keys(c.Sources)) {
			u.Sources = append(u.Sources, Source{from, c.Sources[from]})
		}
		slices.SortStableFunc(u.Sources, func(a, b Source) int { return cmp.Compare(b.Count, a.Count) })
		u.Verdict, u.Why = l.verdict(u, judge)
		r.Uses = append(r.Uses, u)
	}
	slices.SortFunc(r.Uses, func(a, b Use) int {
		return cmp.Or(
			cmp.Compare(slices.Index(verdicts, a.Verdict), slices.Index(verdicts, b.Verdict)),
			cmp.Compare(b.Count, a.Count),
			strings.Compare(fmt.Sprint(a.identity), fmt.Sprint(b.identity)),
		)
	})
	for _, c := range l.changes {
		if meant(c.Key, key) {
			r.Changes = append(r.Changes, c)
		}
	}
	for id, s := range l.unplaced {
		r.Unplaced = append(r.Unplaced, Unplaced{id, *s})
	}
	slices.SortFunc(r.Unplaced, func(a, b Unplaced) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(fmt.Sprint(a.identity), fmt.Sprint(b.identity)))
	})
	byTime := func(a, b Change) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.EventID, b.EventID)) }
	slices.SortFunc(r.Changes, byTime)
	slices.SortFunc(r.Record, byTime)
	note := func(format string, args ...any) { r.Notes = append(r.Notes, Note{"", fmt.Sprintf(format, args...)}) }
	if l.left > 0 {
		note("%d changes of keys are left out of the list, for it has %d", l.left, maxChanges)
	}
	if l.unread > 0 {
		note("%d records are no JSON, and were not read", l.unread)
	}
	if l.Files == 0 {
		note("no log file was read: nothing can be said of who used the key")
	}
	if l.oldest.IsZero() && l.Files > 0 {
		note("the logs hold no event of KMS: the trail may exclude kms.amazonaws.com, and then nobody knows who used the key")
	}
	r.Rotation = l.rotation(r)
	return r, nil
}

// refusals are the codes of calls that were not allowed.
func refused(code string) bool { return strings.HasPrefix(code, "AccessDenied") }

func (l *Logs) verdict(u Use, judge Judge) (Verdict, string) {
	switch {
	case refused(u.Result):
		return Refused, ""
	case u.Result != "":
		return Failed, u.Result
	}
	if at := l.goneAt(u.Principal); !at.IsZero() && !at.Before(u.Last) {
		return Gone, "deleted at " + at.UTC().Format(time.RFC3339)
	}
	if judge == nil {
		return Unjudged, ""
	}
	return judge(u.Principal, u.Via, u.Action, u.Context)
}

// goneAt is when a role or a user was deleted, which the logs name without its path.
func (l *Logs) goneAt(principal string) time.Time {
	arn, ok := place.ParseARN(principal)
	if !ok {
		return time.Time{}
	}
	kind, _, _ := strings.Cut(arn.Resource, "/")
	name := arn.Resource[strings.LastIndex(arn.Resource, "/")+1:]
	for who, at := range l.gone {
		of, _ := place.ParseARN(who)
		if of.AccountID == arn.AccountID && of.Resource == kind+"/"+name {
			return at
		}
	}
	return time.Time{}
}

// ByDay says how often the key was used on each day, by its date.
func (r *Report) ByDay() map[string]int64 {
	days := map[string]int64{}
	for _, u := range r.Uses {
		for day, n := range u.Days {
			days[day] += n
		}
	}
	return days
}

// Unusual are the uses that somebody should look at.
func (r *Report) Unusual() []Use {
	return slices.DeleteFunc(slices.Clone(r.Uses), func(u Use) bool {
		return u.Verdict != NotAllowed && u.Verdict != Unexpected && u.Verdict != Gone
	})
}

// Expect compares with a list of principals, in which a * stands for any text: those who used
// the key and are not in it, and those in it who did not.
func (r *Report) Expect(expected []string) (strangers, idle []string) {
	seen := map[string]bool{}
	for _, u := range r.Uses {
		if u.Result != "" || seen[u.Principal] || u.Principal == byKMS {
			continue
		}
		seen[u.Principal] = true
		if !slices.ContainsFunc(expected, func(p string) bool { return value.Glob(p, u.Principal) }) {
			strangers = append(strangers, u.Principal)
		}
	}
	for _, p := range expected {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(seen)), func(who string) bool { return value.Glob(p, who) }) {
			idle = append(idle, p)
		}
	}
	slices.Sort(strangers)
	return strangers, idle
}

// byKMS is who does what KMS does by itself, such as rotation.
const byKMS = "AWS Internal"
