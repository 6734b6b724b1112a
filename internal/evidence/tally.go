package evidence

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ekskms/ekskms/internal/place"
)

// identity is what makes a row: who did what with which key, and how it ended.
type identity struct {
	Key       string `json:"key"`
	Principal string `json:"principal"`
	Via       string `json:"via,omitempty"`
	Action    string `json:"action"`
	Result    string `json:"result,omitempty"`
	Context   string `json:"context"`
}

// Span is how often something was seen, and from when to when.
type Span struct {
	Count int64     `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

func (s *Span) see(at time.Time) { s.add(Span{1, at, at}) }

func (s *Span) add(o Span) {
	if s.Count == 0 || o.First.Before(s.First) {
		s.First = o.First
	}
	if s.Count == 0 || o.Last.After(s.Last) {
		s.Last = o.Last
	}
	s.Count += o.Count
}

// counted is what is known of a row.
type counted struct {
	Span
	// Days by their dates, and Materials by their IDs, which Decrypt says.
	Days      map[string]int64 `json:"days"`
	Materials map[string]*Span `json:"materials,omitempty"`
	// Sources are addresses or services, at most maxSources: those whose hashes are the least,
	// so that it does not matter in which order files are read.
	Sources map[string]int64 `json:"sources"`
	// More are the uses from others.
	More int64 `json:"more,omitempty"`
}

const (
	maxSources = 500
	maxChanges = 20000
)

// Change is a call that changes a key, or the record.
type Change struct {
	Time      time.Time `json:"time"`
	Key       string    `json:"key,omitempty"`
	Action    string    `json:"action"`
	Principal string    `json:"principal"`
	Via       string    `json:"via,omitempty"`
	Source    string    `json:"source,omitempty"`
	Result    string    `json:"result,omitempty"`
	EventID   string    `json:"eventId"`
	// Rotation, of RotateKey, is AUTOMATIC or ON_DEMAND, with the IDs of the key materials where
	// the event says them.
	Rotation string `json:"rotation,omitempty"`
	Previous string `json:"previous,omitempty"`
	Current  string `json:"current,omitempty"`
}

// tally is what is counted.
type tally struct {
	rows map[identity]*counted
	// changes of keys, record of the trails, and gone the principals that were deleted.
	changes, record []Change
	gone            map[string]time.Time
	// left are changes beyond maxChanges, twins events that were delivered twice, unread
	// records that are no JSON, and unplaced calls that failed and do not say with which key.
	left, twins, unread int64
	unplaced            map[identity]*Span
	newest, oldest      time.Time // of what was counted
}

func newTally() *tally {
	return &tally{rows: map[identity]*counted{}, gone: map[string]time.Time{}, unplaced: map[identity]*Span{}}
}

func (t *tally) add(o *tally) {
	for id, c := range o.rows {
		of := t.rows[id]
		if of == nil {
			t.rows[id] = c
			continue
		}
		of.add(c.Span)
		for day, n := range c.Days {
			of.Days[day] += n
		}
		for material, s := range c.Materials {
			of.material(material).add(*s)
		}
		of.More += c.More
		for source, n := range c.Sources {
			of.source(source, n)
		}
	}
	for who, at := range o.gone {
		if at.After(t.gone[who]) {
			t.gone[who] = at
		}
	}
	for id, s := range o.unplaced {
		if t.unplaced[id] == nil {
			t.unplaced[id] = &Span{}
		}
		t.unplaced[id].add(*s)
	}
	t.record = append(t.record, o.record...)
	t.changes = append(t.changes, o.changes...)
	t.left, t.twins, t.unread = t.left+o.left, t.twins+o.twins, t.unread+o.unread
	t.seeTime(o.oldest)
	t.seeTime(o.newest)
}

func (t *tally) seeTime(at time.Time) {
	if at.IsZero() {
		return
	}
	if t.newest.IsZero() || at.After(t.newest) {
		t.newest = at
	}
	if t.oldest.IsZero() || at.Before(t.oldest) {
		t.oldest = at
	}
}

func (c *counted) material(id string) *Span {
	if c.Materials == nil {
		c.Materials = map[string]*Span{}
	}
	if c.Materials[id] == nil {
		c.Materials[id] = &Span{}
	}
	return c.Materials[id]
}

func (c *counted) source(from string, n int64) {
	c.Sources[from] += n
	if len(c.Sources) <= maxSources {
		return
	}
	greatest, at := "", uint64(0)
	for name := range c.Sources {
		h := fnv.New64a()
		_, _ = h.Write([]byte(name))
		if sum := h.Sum64(); greatest == "" || sum > at || sum == at && name > greatest {
			greatest, at = name, sum
		}
	}
	c.More += c.Sources[greatest]
	delete(c.Sources, greatest)
}

// endDay puts the changes of a day in order, and leaves out what is too much.
func (t *tally) endDay() {
	slices.SortStableFunc(t.changes, func(a, b Change) int {
		return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.EventID, b.EventID), strings.Compare(a.Key, b.Key))
	})
	if len(t.changes) > maxChanges {
		t.left += int64(len(t.changes) - maxChanges)
		t.changes = t.changes[:maxChanges:maxChanges]
	}
}

// count counts an event.
func (r *reader) count(e *event, t *tally) {
	s := r.options.Selection
	if !s.From.IsZero() && e.EventTime.Before(s.From) || !s.To.IsZero() && !e.EventTime.Before(s.To) {
		return
	}
	ofKMS := e.EventSource == "kms.amazonaws.com"
	switch {
	case !ofKMS && e.EventSource != "iam.amazonaws.com" && e.EventSource != "cloudtrail.amazonaws.com":
		return
	case e.EventSource == "iam.amazonaws.com" && e.ErrorCode != "":
		return
	}
	keys := e.keys()
	if ofKMS && r.options.Key != "" {
		placed := slices.ContainsFunc(keys, isKey)
		keys = slices.DeleteFunc(keys, func(arn string) bool { return isKey(arn) && !meant(arn, r.options.Key) })
		if len(keys) == 0 && placed {
			return // of another key
		}
	}
	if e.SharedID != "" {
		r.hold(e, keys, t)
		return
	}
	if !r.seen.first(e.EventID) {
		t.twins++
		return
	}
	r.add(e, keys, t)
}

// hold keeps an event until the day was read: of a call into another account both accounts have
// a record, and that of the caller says more.
func (r *reader) hold(e *event, keys []string, t *tally) {
	r.held.Lock()
	defer r.held.Unlock()
	if r.held.events == nil {
		r.held.events = map[string]heldEvent{}
	}
	other, known := r.held.events[e.SharedID]
	if known {
		t.twins++
		better := other.Identity.ARN == "" && e.Identity.ARN != ""
		if (e.Identity.ARN == "") == (other.Identity.ARN == "") {
			better = e.EventID < other.EventID
		}
		if !better {
			return
		}
	}
	r.held.events[e.SharedID] = heldEvent{e, keys}
}

// release counts the events of a day that were held. One whose other record was counted the day
// before is not counted again.
func (r *reader) release(t *tally) {
	for _, id := range slices.Sorted(maps.Keys(r.held.events)) {
		if held := r.held.events[id]; r.seen.first(id) {
			r.add(held.event, held.keys, t)
		} else {
			t.twins++
		}
	}
	r.held.events = nil
}

type heldEvent struct {
	*event
	keys []string
}

// add adds an event to what is counted.
func (r *reader) add(e *event, keys []string, t *tally) {
	ofKMS := e.EventSource == "kms.amazonaws.com"
	t.seeTime(e.EventTime)
	who, via := e.principal()
	switch {
	case e.EventSource == "iam.amazonaws.com":
		name := map[string]string{"DeleteRole": "role/" + e.request.Role, "DeleteUser": "user/" + e.request.User}[e.EventName]
		if name != "" {
			t.gone[place.In(e.Recipient, e.Region).IAM(name)] = e.EventTime
		}
		return
	case !ofKMS:
		t.record = append(t.record, r.change(e, "", who, via))
		return
	}
	if !slices.ContainsFunc(keys, isKey) {
		// CreateKey, a list, or a call that failed before KMS knew of which key.
		if e.ErrorCode != "" || len(keys) > 0 {
			id := identity{Key: strings.Join(keys, ", "), Principal: who, Via: via, Action: e.EventName, Result: e.ErrorCode, Context: e.context(r.tenant)}
			if t.unplaced[id] == nil {
				t.unplaced[id] = &Span{}
			}
			t.unplaced[id].see(e.EventTime)
		}
		return
	}
	for _, key := range keys {
		if !isKey(key) {
			continue
		}
		id := identity{Key: key, Principal: who, Via: via, Action: e.EventName, Result: e.ErrorCode, Context: e.context(r.tenant)}
		c := t.rows[id]
		if c == nil {
			c = &counted{Days: map[string]int64{}, Sources: map[string]int64{}}
			t.rows[id] = c
		}
		c.see(e.EventTime)
		c.Days[e.EventTime.UTC().Format(time.DateOnly)]++
		if e.SourceIP != "" {
			c.source(e.SourceIP, 1)
		}
		if e.Additional.Material != "" && e.ErrorCode == "" {
			c.material(e.Additional.Material).see(e.EventTime)
		}
		if IsChange(e.EventName) && !e.everyday() {
			t.changes = append(t.changes, r.change(e, key, who, via))
		}
	}
}

func (r *reader) tenant(cluster, name string) string {
	if r.options.Tenant == nil {
		return ""
	}
	return r.options.Tenant(cluster, name)
}

func (r *reader) change(e *event, key, who, via string) Change {
	c := Change{Time: e.EventTime.UTC(), Key: key, Action: e.EventName, Principal: who, Via: via, Source: e.SourceIP, Result: e.ErrorCode, EventID: e.EventID}
	if e.EventName == "RotateKey" {
		c.Rotation, c.Previous, c.Current = e.Service.Type, e.Service.Previous, e.Service.Current
		if c.Current == "" {
			c.Current = e.Service.Material
		}
	}
	return c
}

// seen are the IDs of the events of two days. CloudTrail may deliver one twice; that it does so
// within a day is inferred.
type seen struct {
	shards [64]struct {
		sync.Mutex
		now, before map[[16]byte]struct{}
	}
}

func (s *seen) first(id string) bool {
	key, ok := compact(id)
	if !ok {
		return true
	}
	shard := &s.shards[key[0]%64]
	shard.Lock()
	defer shard.Unlock()
	if _, known := shard.before[key]; known {
		return false
	}
	if _, known := shard.now[key]; known {
		return false
	}
	if shard.now == nil {
		shard.now = map[[16]byte]struct{}{}
	}
	shard.now[key] = struct{}{}
	return true
}

func (s *seen) nextDay() {
	for i := range s.shards {
		s.shards[i].before, s.shards[i].now = s.shards[i].now, nil
	}
}

// compact is a UUID in 16 bytes.
func compact(id string) (key [16]byte, ok bool) {
	n := 0
	for _, c := range []byte(id) {
		var v byte
		switch {
		case c == '-':
			continue
		case c >= '0' && c <= '9':
			v = c - '0'
		case c >= 'a' && c <= 'f':
			v = c - 'a' + 10
		case c >= 'A' && c <= 'F':
			v = c - 'A' + 10
		default:
			return key, false
		}
		if n >= 32 {
			return key, false
		}
		key[n/2] |= v << (4 * (1 - n%2))
		n++
	}
	return key, n == 32
}

// State is what was counted so far, to go on with it.
type State struct {
	Version int
	// For is what was asked: another question can't go on with the answers to this.
	For      string
	Files    []string
	Rows     []stateRow
	Unplaced []stateRow
	Changes  []Change
	Record   []Change
	Gone     map[string]time.Time
	Notes    []Note
	Counts   [6]int64
	Oldest   time.Time
	Newest   time.Time
	Recent   []string
}

type stateRow struct {
	identity
	counted
}

const stateVersion = 1

func (r *reader) asked() string {
	s := r.options.Selection
	data, _ := json.Marshal([]any{r.options.Key, s.From, s.To, s.Accounts, s.Regions})
	return string(data)
}

func (r *reader) state() *State {
	t := r.out.tally
	s := &State{
		Version: stateVersion, For: r.asked(), Files: slices.Sorted(maps.Keys(r.done)), Changes: t.changes, Record: t.record, Gone: t.gone, Notes: r.out.Notes,
		Counts: [6]int64{r.out.Files, r.out.Events, r.out.Bytes, t.left, t.twins, t.unread}, Oldest: t.oldest, Newest: t.newest,
	}
	for id, c := range t.rows {
		s.Rows = append(s.Rows, stateRow{id, *c})
	}
	for id, span := range t.unplaced {
		s.Unplaced = append(s.Unplaced, stateRow{id, counted{Span: *span}})
	}
	for i := range r.seen.shards {
		for _, ids := range []map[[16]byte]struct{}{r.seen.shards[i].before, r.seen.shards[i].now} {
			for id := range ids {
				s.Recent = append(s.Recent, fmt.Sprintf("%x", id))
			}
		}
	}
	slices.Sort(s.Recent)
	return s
}

func (r *reader) resume(s *State) error {
	if s.Version != stateVersion || s.For != r.asked() {
		return fmt.Errorf("is of another question: it was made for %s, and this is %s", s.For, r.asked())
	}
	r.done = map[string]bool{}
	for _, name := range s.Files {
		r.done[name] = true
	}
	t := r.out.tally
	for _, row := range s.Rows {
		t.rows[row.identity] = &row.counted
	}
	for _, row := range s.Unplaced {
		t.unplaced[row.identity] = &row.Span
	}
	t.changes, t.record, r.out.Notes = s.Changes, s.Record, s.Notes
	for who, at := range s.Gone {
		t.gone[who] = at
	}
	r.out.Files, r.out.Events, r.out.Bytes = s.Counts[0], s.Counts[1], s.Counts[2]
	t.left, t.twins, t.unread = s.Counts[3], s.Counts[4], s.Counts[5]
	t.oldest, t.newest = s.Oldest, s.Newest
	for _, id := range s.Recent {
		r.seen.first(id)
	}
	return nil
}
