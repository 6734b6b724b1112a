package evidence

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Rotation says whether the key was rotated, and whether the data followed.
type Rotation struct {
	// Rotations are those that the record, or KMS itself, tells of, the earliest first.
	Rotations []Rotated `json:"rotations"`
	// Materials are the key materials, the oldest first where the order is known.
	Materials []Material `json:"materials"`
	// Verdicts say in words what is proven of each old material, and what is not.
	Verdicts []string `json:"verdicts"`
}

// Rotated is a rotation.
type Rotated struct {
	Time time.Time `json:"time"`
	// Type is AUTOMATIC or ON_DEMAND, and Previous and Current are the IDs of the key materials,
	// each empty if it is not told.
	Type     string `json:"type,omitempty"`
	Previous string `json:"previous,omitempty"`
	Current  string `json:"current,omitempty"`
	// From is who says it: CloudTrail or KMS.
	From string `json:"from"`
}

// Material is a key material, as its use shows.
type Material struct {
	ID string `json:"id"`
	// Current tells that it is that of the last rotation, as far as that is told.
	Current bool `json:"current"`
	// Replaced is when a rotation took its place. Zero if that is not told.
	Replaced time.Time `json:"replaced,omitzero"`
	// Decrypted is the use for Decrypt, by encryption context, and Encrypted for the rest.
	Decrypted map[string]*Span `json:"decrypted,omitempty"`
	Encrypted *Span            `json:"encrypted,omitempty"`
}

// Seen is its use for Decrypt, under any encryption context.
func (m Material) Seen() (all Span) {
	for _, s := range m.Decrypted {
		all.add(*s)
	}
	return all
}

// ListedRotations reads what 'aws kms list-key-rotations' prints.
//
// Source: AWS KMS API Reference, RotationsListEntry.
func ListedRotations(data []byte) ([]Rotated, error) {
	var list struct {
		Rotations []struct {
			RotationDate                 json.RawMessage
			RotationType, KeyMaterialID  string
			KeyMaterialState, ImportName string
		}
	}
	if err := json.Unmarshal(data, &list); err != nil || list.Rotations == nil {
		return nil, fmt.Errorf("is not what 'aws kms list-key-rotations' prints: it has no list Rotations")
	}
	var all []Rotated
	for _, r := range list.Rotations {
		if r.RotationDate == nil { // the first material, which no rotation made
			continue
		}
		at, err := listedTime(r.RotationDate)
		if err != nil {
			return nil, fmt.Errorf("has a rotation whose RotationDate is %s", r.RotationDate)
		}
		all = append(all, Rotated{Time: at, Type: r.RotationType, Current: r.KeyMaterialID, From: "KMS"})
	}
	slices.SortFunc(all, func(a, b Rotated) int { return a.Time.Compare(b.Time) })
	return all, nil
}

// listedTime is a time as the AWS CLI prints it: a text, or seconds.
func listedTime(raw json.RawMessage) (time.Time, error) {
	var seconds float64
	if json.Unmarshal(raw, &seconds) == nil {
		return time.UnixMicro(int64(seconds * 1e6)).UTC(), nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	return at.UTC(), err
}

// rotation is what the uses and changes of a report say.
func (l *Logs) rotation(r *Report) *Rotation {
	rot := &Rotation{Rotations: []Rotated{}, Materials: []Material{}}
	for _, c := range r.Changes {
		if c.Action == "RotateKey" && c.Result == "" {
			rot.Rotations = append(rot.Rotations, Rotated{c.Time, c.Rotation, c.Previous, c.Current, "CloudTrail"})
		}
	}
	materials := map[string]*Material{}
	of := func(id string) *Material {
		if materials[id] == nil {
			materials[id] = &Material{ID: id}
		}
		return materials[id]
	}
	for _, u := range r.Uses {
		for id, s := range u.Materials {
			m := of(id)
			if u.Action != "Decrypt" {
				if m.Encrypted == nil {
					m.Encrypted = &Span{}
				}
				m.Encrypted.add(*s)
				continue
			}
			if m.Decrypted == nil {
				m.Decrypted = map[string]*Span{}
			}
			if m.Decrypted[u.Context] == nil {
				m.Decrypted[u.Context] = &Span{}
			}
			m.Decrypted[u.Context].add(*s)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(materials)) {
		rot.Materials = append(rot.Materials, *materials[id])
	}
	return rot
}

// With adds rotations that KMS itself lists to those of the record, and judges.
func (r *Rotation) With(listed []Rotated, oldest, newest time.Time) {
	for _, l := range listed {
		// CloudTrail and KMS tell of the same within the hour.
		i := slices.IndexFunc(r.Rotations, func(o Rotated) bool { return o.Time.Sub(l.Time).Abs() < time.Hour })
		if i < 0 {
			r.Rotations = append(r.Rotations, l)
			continue
		}
		r.Rotations[i].From = "CloudTrail and KMS"
		r.Rotations[i].Current = cmp.Or(r.Rotations[i].Current, l.Current)
		r.Rotations[i].Type = cmp.Or(r.Rotations[i].Type, l.Type)
	}
	slices.SortFunc(r.Rotations, func(a, b Rotated) int { return a.Time.Compare(b.Time) })
	r.judge(oldest, newest)
}

// judge says of each material that a rotation replaced whether it was used after that.
func (r *Rotation) judge(oldest, newest time.Time) {
	r.Verdicts = nil
	say := func(format string, args ...any) { r.Verdicts = append(r.Verdicts, fmt.Sprintf(format, args...)) }
	n := len(r.Rotations)
	if n == 0 {
		say("No rotation is on record between %s and %s.", day(oldest), day(newest))
	}
	for i := range r.Materials {
		m := &r.Materials[i]
		m.Current = n > 0 && r.Rotations[n-1].Current == m.ID
		m.Replaced = r.replaced(m)
	}
	slices.SortStableFunc(r.Materials, func(a, b Material) int {
		order := func(m Material) time.Time {
			if m.Replaced.IsZero() {
				return time.Unix(1<<40, 0)
			}
			return m.Replaced
		}
		return order(a).Compare(order(b))
	})
	for _, m := range r.Materials {
		if m.Replaced.IsZero() {
			if n > 0 && !m.Current {
				say("Material %s: when it was replaced is not told, so nothing is said of it.", short(m.ID))
			}
			continue
		}
		for _, context := range slices.Sorted(maps.Keys(m.Decrypted)) {
			s := m.Decrypted[context]
			if s.Last.After(m.Replaced) {
				say("Material %s, replaced at %s: seen after the rotation, last at %s, for %s. Data that needs it is there, or was there then.", short(m.ID), when(m.Replaced), when(s.Last), ofContext(context))
			} else {
				say("Material %s, replaced at %s: not seen since in Decrypt for %s. That proves nothing alone: an API server asks for a key once and keeps it, and a quiet cluster shows nothing.", short(m.ID), when(m.Replaced), ofContext(context))
			}
		}
		if len(m.Decrypted) == 0 {
			say("Material %s, replaced at %s: not seen in Decrypt at all. That proves nothing alone.", short(m.ID), when(m.Replaced))
		}
	}
	seen := func(id string) bool {
		return slices.ContainsFunc(r.Materials, func(m Material) bool { return m.ID == id })
	}
	for _, rotated := range r.Rotations {
		if rotated.Current != "" && !seen(rotated.Current) {
			say("Material %s, of the rotation at %s: not seen in use yet.", short(rotated.Current), when(rotated.Time))
		}
	}
}

// replaced is when a rotation took the place of a material: that which names it as the previous
// one, or the first after that which made it.
func (r *Rotation) replaced(m *Material) time.Time {
	made := -1
	for i, o := range r.Rotations {
		if o.Previous == m.ID {
			return o.Time
		}
		if o.Current == m.ID {
			made = i
		}
	}
	switch {
	case made >= 0 && made+1 < len(r.Rotations):
		return r.Rotations[made+1].Time
	case made >= 0 || len(r.Rotations) == 0:
		return time.Time{}
	}
	// No rotation names it: it is older than the first, if all others are named.
	if slices.ContainsFunc(r.Rotations, func(o Rotated) bool { return o.Current == "" }) {
		return time.Time{}
	}
	return r.Rotations[0].Time
}

func ofContext(context string) string {
	switch context {
	case ContextNone:
		return "data without an encryption context"
	case ContextEKS:
		return "EKS's own encryption context"
	}
	return "the encryption context of " + strings.TrimPrefix(context, "keys ")
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
func day(t time.Time) string  { return t.UTC().Format(time.DateOnly) }

// short is enough of the ID of a material to tell it from another.
func short(id string) string {
	if len(id) > 12 {
		return id[:12] + "..."
	}
	return id
}
