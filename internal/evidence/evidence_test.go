package evidence_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/evidence"
	"github.com/ekskms/ekskms/internal/evidence/evidencetest"
)

const (
	key    = "arn:aws:kms:eu-central-1:111122223333:key/c639a1da-c5a7-4742-2265-e05a310e579d"
	other  = "arn:aws:kms:eu-central-1:111122223333:key/99999999-aaaa-4bbb-8ccc-dddddddddddd"
	plugin = "arn:aws:iam::111122223333:role/plugin"
	admin  = "arn:aws:iam::111122223333:role/Admin"
)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func read(t *testing.T, s evidence.Store, o evidence.Options) *evidence.Logs {
	t.Helper()
	logs, err := evidence.Read(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return logs
}

func report(t *testing.T, s evidence.Store, o evidence.Options) *evidence.Report {
	t.Helper()
	r, err := read(t, s, o).Report(o.Key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rows are the uses in short.
func rows(r *evidence.Report) (all []string) {
	for _, u := range r.Uses {
		line := fmt.Sprintf("%s %s", u.Principal[strings.LastIndex(u.Principal, "/")+1:], u.Action)
		if u.Via != "" {
			line += " via " + u.Via
		}
		if u.Result != "" {
			line += " " + u.Result
		}
		all = append(all, fmt.Sprintf("%s (%s) %d", line, u.Context, u.Count))
	}
	slices.Sort(all)
	return all
}

// TestUses: all uses of the key are told, by any kind of caller and with any result, and none of
// other keys.
func TestUses(t *testing.T) {
	trail := evidencetest.New("111122223333", "eu-central-1")
	at := noon
	trail.Deliver(at,
		evidencetest.Event(at, "Decrypt", key, plugin, evidencetest.Context("ekskms:cluster-arn", "the-cluster")),
		evidencetest.Event(at.Add(time.Minute), "Decrypt", key, plugin, evidencetest.Context("ekskms:cluster-arn", "the-cluster")),
		evidencetest.Event(at, "Decrypt", key, plugin, evidencetest.Context("ekskms:cluster-arn", "the-cluster", "ekskms:tenant", "the-tenant")),
		evidencetest.Event(at, "Decrypt", key, plugin, evidencetest.Context("ekskms:cluster-arn", "the-cluster", "ekskms:tenant", "a-stranger")),
		evidencetest.Event(at, "Decrypt", key, "eks.amazonaws.com", evidencetest.Context("aws:eks:context", "the-context")),
		evidencetest.Event(at, "Decrypt", key, admin, map[string]any{"errorCode": "AccessDenied", "errorMessage": "User: x is not authorized to perform: kms:Decrypt on resource: " + key, "resources": nil, "requestParameters": nil}),
		evidencetest.Event(at, "Decrypt", key, admin, evidencetest.Context("secret-key", "a-value")),
		evidencetest.Event(at, "CreateGrant", key, admin, map[string]any{"userIdentity.invokedBy": "eks.amazonaws.com"}),
		evidencetest.Event(at, "Encrypt", key, "arn:aws:iam::111122223333:user/Alice", map[string]any{"resources": nil, "requestParameters.keyId": key[strings.LastIndex(key, "/")+1:]}),
		evidencetest.Event(at, "Decrypt", key, "x", map[string]any{"userIdentity": map[string]any{"type": "AWSAccount", "principalId": "AROAX:session", "accountId": "444455556666"}}),
		evidencetest.Event(at, "Decrypt", other, admin, nil),
		evidencetest.Event(at, "ReEncrypt", key, admin, map[string]any{"resources": []any{map[string]any{"ARN": other}, map[string]any{"ARN": key}}}),
		evidencetest.Event(at, "Decrypt", key, admin, map[string]any{"eventSource": "ec2.amazonaws.com"}),
		evidencetest.Event(at, "DescribeKey", key, admin, map[string]any{"errorCode": "NotFoundException", "requestParameters.keyId": "alias/none", "resources": nil}),
		evidencetest.Event(at, "Decrypt", key, admin, map[string]any{"errorCode": "InvalidCiphertextException", "requestParameters": nil, "resources": nil}),
	)
	want := []string{
		"Admin CreateGrant via eks.amazonaws.com (none) 1",
		"Admin Decrypt (keys secret-key) 1",
		"Admin Decrypt AccessDenied (none) 1",
		"Admin ReEncrypt (none) 1",
		"Alice Encrypt (none) 1",
		"account 444455556666, principal AROAX:session Decrypt (none) 1",
		"eks.amazonaws.com Decrypt (EKS) 1",
		"plugin Decrypt (plugin) 2",
		"plugin Decrypt (plugin, a tenant) 1",
		"plugin Decrypt (tenant payments) 1",
	}
	o := evidence.Options{Key: key, Tenant: func(cluster, name string) string {
		if cluster == "the-cluster" && name == "the-tenant" {
			return "tenant payments"
		}
		return ""
	}}
	r := report(t, trail, o)
	if diff := cmp.Diff(want, rows(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	o.Key = key[strings.LastIndex(key, "/")+1:]
	if diff := cmp.Diff(want, rows(report(t, trail, o))); diff != "" {
		t.Errorf("by the ID of the key (-want +got):\n%s", diff)
	}
	o.Key = ""
	var several evidence.ErrKeys
	if _, err := read(t, trail, o).Report("", nil); !errors.As(err, &several) || len(several.Keys) != 2 || several.Keys[0] != key {
		t.Errorf("of two keys: %v", err)
	}
	all, err := read(t, trail, o).Report(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, rows(all)); diff != "" {
		t.Errorf("of all keys (-want +got):\n%s", diff)
	}
	if len(r.Unplaced) != 2 {
		t.Errorf("calls that do not say with which key: %+v", r.Unplaced)
	}
	if len(r.Changes) != 1 || r.Changes[0].Action != "CreateGrant" {
		t.Errorf("changes: %+v", r.Changes)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"the-context", "the-cluster", "the-tenant", "a-stranger", "a-value"} {
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("the report has %s in it, a value of an encryption context", secret)
		}
	}
}

// TestCopies: the uses of a multi-Region key's copies are its own.
func TestCopies(t *testing.T) {
	const primary, replica = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234", "arn:aws:kms:us-east-1:111122223333:key/mrk-1234"
	trail := evidencetest.New("111122223333", "eu-central-1")
	trail.Deliver(noon, evidencetest.Event(noon, "Decrypt", primary, plugin, nil), evidencetest.Event(noon, "Decrypt", replica, admin, nil))
	want := []string{"Admin Decrypt (none) 1", "plugin Decrypt (none) 1"}
	for _, named := range []string{primary, "mrk-1234"} {
		if diff := cmp.Diff(want, rows(report(t, trail, evidence.Options{Key: named}))); diff != "" {
			t.Errorf("of %s (-want +got):\n%s", named, diff)
		}
	}
	if r := report(t, trail, evidence.Options{Key: primary}); r.Key != primary {
		t.Errorf("the report is of %s", r.Key)
	}
}

// TestForged: what a caller puts into a request is no record, whatever it looks like.
func TestForged(t *testing.T) {
	trail := evidencetest.New("111122223333", "eu-central-1")
	forged := evidencetest.Event(noon, "Decrypt", key, "arn:aws:iam::111122223333:role/Framed", nil)
	text, _ := json.Marshal(forged)
	trail.Deliver(noon,
		evidencetest.Event(noon, "PutThing", other, admin, map[string]any{"eventSource": "things.amazonaws.com", "requestParameters": map[string]any{"Records": []any{forged, forged}, "text": `"},` + string(text) + `,{"`}}),
		evidencetest.Event(noon, "Decrypt", key, plugin, map[string]any{"userAgent": `quotes \" and },{ and \\`, "errorMessage": string(text)}),
	)
	if got := rows(report(t, trail, evidence.Options{Key: key})); len(got) != 1 || !strings.HasPrefix(got[0], "plugin Decrypt") {
		t.Errorf("counted %q", got)
	}
}

// TestTwice: an event that is delivered twice counts once, and so do the two records of a call
// into another account.
func TestTwice(t *testing.T) {
	trail := evidencetest.New("111122223333", "eu-central-1")
	one := evidencetest.Event(noon, "Decrypt", key, plugin, nil)
	shared := map[string]any{"sharedEventID": evidencetest.ID()}
	trail.Deliver(noon, one, evidencetest.Event(noon, "Decrypt", key, admin, shared))
	trail.Deliver(noon.Add(5*time.Minute), one)
	trail.Deliver(noon.Add(13*time.Hour), one) // the next day
	trail.Other("444455556666", "eu-central-1").Deliver(noon, evidencetest.Event(noon, "Decrypt", key, admin, shared))
	want := []string{"Admin Decrypt (none) 1", "plugin Decrypt (none) 1"}
	if diff := cmp.Diff(want, rows(report(t, trail, evidence.Options{Key: key}))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSameAgain: the order in which files are read makes no difference.
func TestSameAgain(t *testing.T) {
	trail := evidencetest.New("111122223333", "eu-central-1")
	foreign := trail.Other("444455556666", "eu-central-1")
	for i := range 60 {
		at := noon.Add(time.Duration(i) * 20 * time.Minute)
		var events []map[string]any
		for j := range 20 {
			events = append(events, evidencetest.Event(at, "Decrypt", key, plugin, map[string]any{"sourceIPAddress": fmt.Sprintf("10.0.%d.%d", i, j)}), evidencetest.Event(at, "DisableKey", key, admin, nil))
		}
		shared := evidencetest.ID()
		// The owner's record names no principal, the caller's does.
		events = append(events, evidencetest.Event(at, "Decrypt", key, "x", map[string]any{"sharedEventID": shared, "userIdentity": map[string]any{"type": "AWSAccount", "principalId": "AROAX:session", "accountId": "444455556666"}}))
		foreign.Deliver(at, evidencetest.Event(at, "Decrypt", key, "arn:aws:iam::444455556666:role/Guest", map[string]any{"sharedEventID": shared}))
		trail.Deliver(at, events...)
	}
	var first []byte
	for range 8 {
		r := report(t, trail, evidence.Options{Key: key})
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
			if diff := cmp.Diff([]string{"Admin DisableKey (none) 1200", "Guest Decrypt (none) 60", "plugin Decrypt (none) 1200"}, rows(r)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, u := range r.Uses {
				if u.Principal == plugin && (len(u.Sources) != 500 || u.More != 700) {
					t.Errorf("%d sources, %d more", len(u.Sources), u.More)
				}
			}
		}
		if !bytes.Equal(first, data) {
			t.Fatal("the report is another one")
		}
	}
}

// TestSelection: only the days, accounts and Regions that are asked for are read.
func TestSelection(t *testing.T) {
	trail := evidencetest.New("111122223333", "eu-central-1")
	trail.Organization = "o-abc123"
	for day := range 40 {
		at := noon.AddDate(0, 0, day)
		for _, of := range []*evidencetest.Trail{trail, trail.Other("444455556666", "eu-central-1"), trail.Other("111122223333", "us-east-1")} {
			of.Deliver(at, evidencetest.Event(at, "Decrypt", key, fmt.Sprintf("arn:aws:iam::%s:role/%s", of.Account, of.Region), nil))
			of.Digest(at.Add(30 * time.Minute))
		}
	}
	trail.Reads = 0
	o := evidence.Options{Key: key, Selection: evidence.Selection{
		From: noon.AddDate(0, 0, 5).Truncate(24 * time.Hour), To: noon.AddDate(0, 0, 8).Truncate(24 * time.Hour), Accounts: []string{"111122223333"}, Regions: []string{"eu-central-1"},
	}}
	r := report(t, trail, o)
	if diff := cmp.Diff([]string{"eu-central-1 Decrypt (none) 3"}, rows(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if trail.Reads != 4 { // the day after may have what came late
		t.Errorf("%d files were read, want 4", trail.Reads)
	}
	if r.Uses[0].Days["2026-11-06"] != 1 || len(r.Uses[0].Days) != 3 {
		t.Errorf("days: %v", r.Uses[0].Days)
	}
	if got := len(rows(report(t, trail, evidence.Options{Key: key}))); got != 3 {
		t.Errorf("without a selection: %d rows", got)
	}
}

// TestUnread: what can't be read is said, and the rest is counted.
func TestUnread(t *testing.T) {
	trail := evidencetest.New("111122223333", "eu-central-1")
	trail.Deliver(noon, evidencetest.Event(noon, "Decrypt", key, plugin, nil))
	half := trail.Deliver(noon.Add(time.Minute), evidencetest.Event(noon, "Decrypt", key, plugin, nil))
	packed := trail.Objects[half]
	trail.Objects[half] = evidencetest.Object{Data: packed.Data[:len(packed.Data)/2]}
	text, _ := json.Marshal(map[string]any{"Records": []any{evidencetest.Event(noon, "Decrypt", key, plugin, nil), evidencetest.Event(noon, "Decrypt", key, plugin, nil)}})
	trail.DeliverText(noon.Add(2*time.Minute), text[:len(text)-20])
	trail.DeliverText(noon.Add(3*time.Minute), []byte(`{"other": 1}`))
	gone := trail.Deliver(noon.Add(4*time.Minute), evidencetest.Event(noon, "Decrypt", key, plugin, nil))
	trail.Fails = map[string]error{gone: errors.New("access denied")}
	r := report(t, trail, evidence.Options{Key: key})
	if diff := cmp.Diff([]string{"plugin Decrypt (none) 2"}, rows(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(r.Notes) != 4 {
		t.Errorf("notes: %+v", r.Notes)
	}
	// What there is not is told, too.
	for name, s := range map[string]*evidencetest.Store{"no log file was read": {}, "the trail may exclude": {Objects: map[string]evidencetest.Object{"a.json": {Data: []byte(`{"Records": []}`)}}}} {
		if r := report(t, s, evidence.Options{Key: key}); len(r.Notes) != 1 || !strings.Contains(r.Notes[0].Message, name) {
			t.Errorf("%s: %+v", name, r.Notes)
		}
	}
}

// TestLookup: what LookupEvents prints is read, too.
func TestLookup(t *testing.T) {
	record, _ := json.Marshal(evidencetest.Event(noon, "Decrypt", key, plugin, nil))
	data, _ := json.MarshalIndent(map[string]any{"Events": []any{map[string]any{"EventId": "x", "CloudTrailEvent": string(record)}}, "NextToken": "y"}, "", "  ")
	s := &evidencetest.Store{Objects: map[string]evidencetest.Object{"events.json": {Data: data}}}
	if diff := cmp.Diff([]string{"plugin Decrypt (none) 1"}, rows(report(t, s, evidence.Options{Key: key}))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// stopping ends the reading after some files.
type stopping struct {
	*evidencetest.Store
	left int
	stop context.CancelFunc
}

func (s *stopping) Read(ctx context.Context, name string) ([]byte, map[string]string, error) {
	if s.left--; s.left < 0 {
		s.stop()
	}
	return s.Store.Read(ctx, name)
}

func (s *stopping) AtOnce() int { return 1 }

// TestResumed: what was counted before an interrupt is not counted twice, and nothing is lost.
func TestResumed(t *testing.T) {
	trail := evidencetest.New("111122223333", "eu-central-1")
	for i := range 60 {
		at := noon.Add(time.Duration(i) * time.Hour)
		e := evidencetest.Event(at, "Decrypt", key, plugin, nil)
		trail.Deliver(at, e, evidencetest.Event(at, "DisableKey", key, admin, nil))
		trail.Deliver(at.Add(time.Minute), e)
	}
	want := report(t, trail, evidence.Options{Key: key})
	if got := rows(want); got[1] != "plugin Decrypt (none) 60" {
		t.Fatalf("%q", got)
	}
	for _, after := range []int{0, 1, 7, 50, 119} {
		var kept *evidence.State
		o := evidence.Options{Key: key, Save: func(s *evidence.State) error {
			data, err := json.Marshal(s) // as a file has it
			kept = &evidence.State{}
			return errors.Join(err, json.Unmarshal(data, kept))
		}}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := evidence.Read(ctx, &stopping{trail.Store, after, cancel}, o); !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d files: %v", after, err)
		}
		cancel()
		if len(kept.Files) > after {
			t.Errorf("%d files count as read after %d", len(kept.Files), after)
		}
		o.State = kept
		got := report(t, trail, o)
		if diff := cmp.Diff(rows(want), rows(got)); diff != "" || len(got.Changes) != 60 || got.Events != want.Events || got.Files != want.Files {
			t.Errorf("after %d files (-want +got):\n%s%d changes, %d events", after, diff, len(got.Changes), got.Events)
		}
		o.Key = other
		if _, err := evidence.Read(t.Context(), trail, o); err == nil || !strings.Contains(err.Error(), "is of another question") {
			t.Errorf("for another key: %v", err)
		}
	}
}

// TestVerdicts: what is unusual comes first.
func TestVerdicts(t *testing.T) {
	trail := evidencetest.New("111122223333", "eu-central-1")
	who := func(name string) string { return "arn:aws:iam::111122223333:role/" + name }
	trail.Deliver(noon,
		evidencetest.Event(noon, "Decrypt", key, who("Expected"), nil), evidencetest.Event(noon, "Decrypt", key, who("Unexpected"), nil), evidencetest.Event(noon, "Decrypt", key, who("Stranger"), nil),
		evidencetest.Event(noon, "Decrypt", key, who("path/Deleted"), nil), evidencetest.Event(noon, "Decrypt", key, who("Again"), nil),
		evidencetest.Event(noon, "Decrypt", key, who("Refused"), map[string]any{"errorCode": "AccessDenied"}), evidencetest.Event(noon, "Decrypt", key, who("Failed"), map[string]any{"errorCode": "DisabledException"}),
	)
	gone := func(at time.Time, name string) map[string]any {
		return evidencetest.Event(at, "DeleteRole", "", admin, map[string]any{"eventSource": "iam.amazonaws.com", "requestParameters": map[string]any{"roleName": name}, "resources": nil, "awsRegion": "us-east-1"})
	}
	trail.Other("111122223333", "us-east-1").Deliver(noon, gone(noon.Add(time.Hour), "Deleted"), gone(noon.Add(-time.Hour), "Again"))
	logs := read(t, trail, evidence.Options{Key: key})
	r, err := logs.Report(key, func(principal, _, _, _ string) (evidence.Verdict, string) {
		switch {
		case strings.HasSuffix(principal, "Unexpected"):
			return evidence.Unexpected, "IAM"
		case strings.HasSuffix(principal, "Stranger"):
			return evidence.NotAllowed, ""
		}
		return evidence.Expected, "named"
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range r.Uses {
		got = append(got, u.Principal[strings.LastIndex(u.Principal, "/")+1:]+": "+string(u.Verdict))
	}
	want := []string{
		"Stranger: not allowed by what is written", "Deleted: by a principal that was deleted since", "Unexpected: allowed, and not expected", "Refused: refused", "Failed: failed",
		"Again: expected", "Expected: expected",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(r.Unusual()) != 3 {
		t.Errorf("unusual: %+v", r.Unusual())
	}
	strangers, idle := r.Expect([]string{who("Expected"), who("Un*ed"), who("path/*"), who("Nobody")})
	if diff := cmp.Diff([]string{who("Again"), who("Stranger")}, strangers); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{who("Nobody")}, idle); diff != "" {
		t.Error(diff)
	}
}

// TestRotation: what is proven of each key material, and what is not.
func TestRotation(t *testing.T) {
	eks := func(material string) map[string]any {
		return evidencetest.Material(material, evidencetest.Context("aws:eks:context", "x"))
	}
	use := func(days int, material string) map[string]any {
		return evidencetest.Event(noon.AddDate(0, 0, days), "Decrypt", key, "eks.amazonaws.com", eks(material))
	}
	rotated := func(days int, previous, current string) map[string]any {
		return evidencetest.Rotation(noon.AddDate(0, 0, days), key, "AUTOMATIC", previous, current)
	}
	for name, tt := range map[string]struct {
		events []map[string]any
		listed []evidence.Rotated
		want   []string
	}{
		"no rotation":             {[]map[string]any{use(0, "one")}, nil, []string{"No rotation is on record between 2026-11-01 and 2026-11-01."}},
		"old data is still there": {[]map[string]any{use(0, "one"), rotated(10, "one", "two"), use(11, "two"), use(12, "one")}, nil, []string{"Material one, replaced at 2026-11-11 12:00:00Z: seen after the rotation, last at 2026-11-13 12:00:00Z, for EKS's own encryption context."}},
		"not seen since":          {[]map[string]any{use(0, "one"), rotated(10, "one", "two"), use(11, "two")}, nil, []string{"Material one, replaced at 2026-11-11 12:00:00Z: not seen since in Decrypt"}},
		"new one not used":        {[]map[string]any{use(0, "one"), rotated(10, "one", "two")}, nil, []string{"not seen since", "Material two, of the rotation at 2026-11-11 12:00:00Z: not seen in use yet."}},
		"IDs are not told":        {[]map[string]any{use(0, "one"), rotated(10, "", ""), use(11, "two")}, nil, []string{"Material one: when it was replaced is not told", "Material two: when it was replaced is not told"}},
		"KMS tells them": {
			[]map[string]any{use(0, "one"), rotated(10, "", ""), use(11, "two")}, []evidence.Rotated{{Time: noon.AddDate(0, 0, 10).Add(time.Second), Current: "two", From: "KMS"}},
			[]string{"Material one, replaced at 2026-11-11 12:00:00Z: not seen since"},
		},
		"rotated twice": {
			[]map[string]any{use(0, "one"), rotated(10, "one", "two"), use(11, "two"), rotated(20, "two", "three"), use(21, "three"), use(22, "two")}, nil,
			[]string{"Material one, replaced at 2026-11-11 12:00:00Z: not seen since", "Material two, replaced at 2026-11-21 12:00:00Z: seen after the rotation, last at 2026-11-23"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			trail := evidencetest.New("111122223333", "eu-central-1")
			trail.Deliver(noon, tt.events...)
			r := report(t, trail, evidence.Options{Key: key})
			r.Rotation.With(tt.listed, r.From, r.To)
			got := r.Rotation.Verdicts
			if len(got) != len(tt.want) {
				t.Fatalf("verdicts %q, want %q", got, tt.want)
			}
			for i, want := range tt.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("it says %q, want %q", got[i], want)
				}
			}
		})
	}
}

// hours is a trail of some hours, with a log file and a digest file in each.
func hours(n int) (*evidencetest.Trail, []string) {
	trail := evidencetest.New("111122223333", "eu-central-1")
	trail.Store.Name = trail.BucketName
	var digests []string
	for i := range n {
		at := noon.Add(time.Duration(i) * time.Hour)
		trail.Deliver(at.Add(20*time.Minute), evidencetest.Event(at.Add(15*time.Minute), "Decrypt", key, plugin, nil))
		digests = append(digests, trail.Digest(at.Add(time.Hour)))
	}
	return trail, digests
}

func validate(t *testing.T, s evidence.Store, trail *evidencetest.Trail) *evidence.Integrity {
	t.Helper()
	keys, err := evidence.ParsePublicKeys(trail.PublicKeys())
	if err != nil {
		t.Fatal(err)
	}
	logs := read(t, s, evidence.Options{Key: key, Sums: true})
	i, err := evidence.Validate(t.Context(), s, logs, keys)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func logOf(trail *evidencetest.Trail, digest string) string {
	return trail.ReadDigest(digest).LogFiles[0].Object
}

// TestTampered: each way to change the record is found, and the time in which it can't be
// trusted is told.
func TestTampered(t *testing.T) {
	day := func(from, to int) evidence.Period {
		return evidence.Period{From: noon.Add(time.Duration(from) * time.Hour), To: noon.Add(time.Duration(to) * time.Hour)}
	}
	for name, tt := range map[string]struct {
		tamper func(*evidencetest.Trail, []string)
		want   []string
		trust  []evidence.Period
	}{
		"nothing": {func(*evidencetest.Trail, []string) {}, nil, []evidence.Period{day(0, 8)}},
		"a byte of a log file": {func(trail *evidencetest.Trail, d []string) {
			name := logOf(trail, d[3])
			text := evidencetest.Unpack(trail.Objects[name].Data)
			trail.Objects[name] = evidencetest.Object{Data: evidencetest.Pack(bytes.Replace(text, []byte("plugin"), []byte("plugim"), 1))}
		}, []string{evidence.LogChanged}, []evidence.Period{day(0, 3), day(4, 8)}},
		"a log file that is cut": {func(trail *evidencetest.Trail, d []string) {
			name := logOf(trail, d[3])
			trail.Objects[name] = evidencetest.Object{Data: trail.Objects[name].Data[:40]}
		}, []string{evidence.LogChanged}, []evidence.Period{day(0, 3), day(4, 8)}},
		"a log file removed": {func(trail *evidencetest.Trail, d []string) { delete(trail.Objects, logOf(trail, d[3])) }, []string{evidence.LogGone}, []evidence.Period{day(0, 3), day(4, 8)}},
		"a log file added": {func(trail *evidencetest.Trail, _ []string) {
			at := noon.Add(3*time.Hour + 10*time.Minute)
			trail.Deliver(at, evidencetest.Event(at, "Decrypt", key, "arn:aws:iam::111122223333:role/Framed", nil))
		}, []string{evidence.LogUnknown}, []evidence.Period{day(0, 3), day(5, 8)}},
		"two log files exchanged": {func(trail *evidencetest.Trail, d []string) {
			a, b := logOf(trail, d[3]), logOf(trail, d[4])
			trail.Objects[a], trail.Objects[b] = trail.Objects[b], trail.Objects[a]
		}, []string{evidence.LogChanged, evidence.LogChanged}, []evidence.Period{day(0, 3), day(5, 8)}},
		"a digest file removed": {func(trail *evidencetest.Trail, d []string) { delete(trail.Objects, d[3]) }, []string{evidence.DigestGone, evidence.LogUnknown}, []evidence.Period{day(0, 3), day(5, 8)}},
		"a digest file and its log files removed": {func(trail *evidencetest.Trail, d []string) {
			delete(trail.Objects, logOf(trail, d[3]))
			delete(trail.Objects, d[3])
		}, []string{evidence.DigestGone}, []evidence.Period{day(0, 3), day(4, 8)}},
		"a digest file changed": {func(trail *evidencetest.Trail, d []string) {
			o := trail.Objects[d[3]]
			trail.Objects[d[3]] = evidencetest.Object{Data: evidencetest.Pack(bytes.Replace(evidencetest.Unpack(o.Data), []byte("logFiles"), []byte("logfiles"), 1)), Metadata: o.Metadata}
		}, []string{evidence.DigestChanged, evidence.DigestForged}, []evidence.Period{day(0, 3), day(4, 8)}},
		"a log file removed, and its digest signed again": {func(trail *evidencetest.Trail, d []string) {
			forger := evidencetest.New("111122223333", "eu-central-1")
			forger.Store = trail.Store
			digest := trail.ReadDigest(d[3])
			digest.LogFiles = nil
			digest.Fingerprint = trail.Fingerprint()
			delete(trail.Objects, logOf(trail, d[3]))
			forger.Sign(digest)
		}, []string{evidence.DigestChanged, evidence.DigestForged}, []evidence.Period{day(0, 3), day(4, 8)}},
		"signed with a key of their own": {func(trail *evidencetest.Trail, d []string) {
			forger := evidencetest.New("111122223333", "eu-central-1")
			forger.Store = trail.Store
			digest := trail.ReadDigest(d[3])
			digest.Fingerprint = forger.Fingerprint()
			forger.Sign(digest)
		}, []string{evidence.DigestChanged, evidence.DigestKey}, []evidence.Period{day(0, 3), day(4, 8)}},
		"two digest files exchanged": {func(trail *evidencetest.Trail, d []string) {
			trail.Objects[d[3]], trail.Objects[d[4]] = trail.Objects[d[4]], trail.Objects[d[3]]
		}, []string{evidence.DigestMoved, evidence.DigestMoved}, []evidence.Period{day(0, 3), day(5, 8)}},
		"a signature removed": {func(trail *evidencetest.Trail, d []string) {
			trail.Objects[d[7]] = evidencetest.Object{Data: trail.Objects[d[7]].Data}
		}, []string{evidence.DigestUnsigned}, []evidence.Period{day(0, 7)}},
		"another trail's digest file": {func(trail *evidencetest.Trail, d []string) {
			digest := trail.ReadDigest(d[3])
			digest.Bucket = "elsewhere"
			trail.Sign(digest)
		}, []string{evidence.DigestMoved}, []evidence.Period{day(0, 3), day(4, 8)}},
		"the latest hours removed": {func(trail *evidencetest.Trail, d []string) {
			for _, digest := range d[5:] {
				delete(trail.Objects, logOf(trail, digest))
				delete(trail.Objects, digest)
			}
		}, nil, []evidence.Period{day(0, 5)}}, // nothing tells of it, but the time that is trusted
	} {
		t.Run(name, func(t *testing.T) {
			trail, digests := hours(8)
			tt.tamper(trail, digests)
			i := validate(t, trail, trail)
			var kinds []string
			for _, f := range i.Faults {
				kinds = append(kinds, f.Kind)
			}
			slices.Sort(kinds)
			if diff := cmp.Diff(tt.want, kinds); diff != "" {
				t.Errorf("(-want +got):\n%s%+v", diff, i.Faults)
			}
			if diff := cmp.Diff(tt.trust, i.Trails[0].Periods); diff != "" {
				t.Errorf("trusted (-want +got):\n%s", diff)
			}
		})
	}
}

// TestClosed: what may not be read is not proven, and not called a fault.
func TestClosed(t *testing.T) {
	trail, digests := hours(6)
	trail.Fails = map[string]error{digests[2]: errors.New("access denied"), logOf(trail, digests[4]): errors.New("access denied")}
	i := validate(t, trail, trail)
	if len(i.Faults) > 0 || len(i.Trails[0].Periods) != 3 {
		t.Errorf("faults %+v, periods %+v", i.Faults, i.Trails[0].Periods)
	}
	if i.Trusted("111122223333", "eu-central-1", noon.Add(2*time.Hour+time.Minute)) || i.Trusted("111122223333", "eu-central-1", noon.Add(4*time.Hour+time.Minute)) || !i.Trusted("111122223333", "eu-central-1", noon.Add(3*time.Hour+time.Minute)) {
		t.Errorf("periods %+v", i.Trails[0].Periods)
	}
}

// TestStopped: when logging was stopped and begun again is told.
func TestStopped(t *testing.T) {
	trail, _ := hours(3)
	trail.Stop()
	for i := 6; i < 9; i++ {
		at := noon.Add(time.Duration(i) * time.Hour)
		trail.Deliver(at.Add(20*time.Minute), evidencetest.Event(at, "Decrypt", key, plugin, nil))
		trail.Digest(at.Add(time.Hour))
	}
	i := validate(t, trail, trail)
	if len(i.Faults) != 1 || i.Faults[0].Kind != evidence.ChainBegins || !i.Faults[0].From.Equal(noon.Add(3*time.Hour)) || !i.Faults[0].To.Equal(noon.Add(6*time.Hour)) {
		t.Errorf("faults %+v", i.Faults)
	}
	if len(i.Trails[0].Periods) != 2 || i.Trusted("111122223333", "eu-central-1", noon.Add(4*time.Hour)) || !i.Trusted("111122223333", "eu-central-1", noon.Add(7*time.Hour)) {
		t.Errorf("trusted %+v", i.Trails[0].Periods)
	}
}

// TestFolder: a copy of the bucket has no metadata, and all but the last digest file are verified
// all the same; with the signature beside it that, too.
func TestFolder(t *testing.T) {
	trail, digests := hours(4)
	for _, signatures := range []bool{false, true} {
		dir := t.TempDir()
		if err := trail.WriteTo(dir, signatures); err != nil {
			t.Fatal(err)
		}
		i := validate(t, evidence.Folder(dir), trail)
		switch {
		case signatures && (len(i.Faults) > 0 || i.Trails[0].Digests != 4):
			t.Errorf("with signatures: %+v", i)
		case !signatures && (len(i.Faults) != 1 || i.Faults[0].Kind != evidence.DigestUnsigned || path.Base(i.Faults[0].File) != path.Base(digests[3]) || i.Trails[0].Digests != 3):
			t.Errorf("without: %+v", i)
		}
	}
	// Without keys, or digest files, nothing is proven, and that is said.
	logs := read(t, trail, evidence.Options{Sums: true})
	if i, err := evidence.Validate(t.Context(), trail, logs, nil); err != nil || i.Checked || !strings.Contains(i.Why, "no public keys") {
		t.Errorf("without keys: %+v, %v", i, err)
	}
	maps.DeleteFunc(trail.Objects, func(name string, _ evidencetest.Object) bool { return strings.Contains(name, "Digest") })
	if i := validate(t, trail, trail); i.Checked || !strings.Contains(i.Why, "no digest files") {
		t.Errorf("without digest files: %+v", i)
	}
	for _, bad := range []string{"", "{}", `{"PublicKeyList": [{"Value": "!"}]}`, `{"PublicKeyList": [{"Value": "AAAA"}]}`} {
		if _, err := evidence.ParsePublicKeys([]byte(bad)); err == nil {
			t.Errorf("%q is taken for public keys", bad)
		}
	}
}

// FuzzRecords: whatever a file holds, reading it ends, and what is in it as a record is one of
// those that encoding/json finds.
func FuzzRecords(f *testing.F) {
	for _, seed := range []string{`{"Records":[{"a":"b\\\""},{}]}`, `{"x":[1,{"Records":[]}],"Records":[{"eventSource":"kms.amazonaws.com"}]}`, `{"Records":[{]}`, `{"Events":[{"CloudTrailEvent":"{}"}]}`, "{", `{"a`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &evidencetest.Store{Objects: map[string]evidencetest.Object{"a.json": {Data: data}}}
		logs := read(t, s, evidence.Options{})
		var of struct{ Records []json.RawMessage }
		if json.Unmarshal(data, &of) == nil && len(logs.Notes) == 0 && bytes.Count(data, []byte(`"Records"`)) == 1 && !bytes.Contains(data, []byte("Events")) && int64(len(of.Records)) != logs.Events {
			t.Errorf("%d records, want %d", logs.Events, len(of.Records))
		}
	})
}
