package inspect

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ekskms/ekskms/internal/hint"
)

const (
	oldKey = "v1:7c9e:0000"
	newKey = "v1:7c9e:41aa"
)

func inspected(t testing.TB, content []byte, opts Options) *Report {
	t.Helper()
	r, err := Snapshot(save(t, content), opts)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(shown, []byte(secret)) {
		t.Errorf("the report shows content: %s", shown)
	}
	return r
}

// lines writes what was counted as lines, as a table of tests can hold them.
func lines(r *Report) []string {
	var all []string
	for _, res := range r.Resources {
		add := func(where string, groups []Group) {
			for _, g := range groups {
				all = append(all, fmt.Sprintf("%s %s %d %s", res.Name, where, g.Count, g.Storage))
			}
		}
		add("live", res.Live)
		add("older", res.Older)
		add("free", res.Free)
	}
	return all
}

func want(t *testing.T, r *Report, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, lines(r)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestMigration goes through a migration as an operator sees it, step by step.
func TestMigration(t *testing.T) {
	e := newEtcd(t)
	opts := Options{Resources: []string{"secrets"}, ExpectKeyID: newKey, WholeFile: true}
	problems := func(r *Report) (all []string) {
		for _, f := range r.Findings {
			all = append(all, f.Resource+": "+f.Problem)
		}
		return all
	}
	var keys []string
	for i := range 100 {
		keys = append(keys, fmt.Sprintf("/registry/secrets/default/s%d", i))
		e.put(keys[i], clearJSON)
	}
	r := inspected(t, e.snapshot(), opts)
	if live := r.Resources[0].Live; len(live) != 1 || live[0].Count != 100 || live[0].Kind != Clear {
		t.Errorf("before: %v", live)
	}

	for _, key := range keys {
		e.put(key, encrypted("kms-plugin", newKey))
	}
	r = inspected(t, e.snapshot(), opts)
	if got := problems(r); len(got) == 0 || got[0] != "secrets: 100 older revisions in the clear" {
		t.Errorf("after all was written again: %q", got)
	}
	r = inspected(t, e.snapshot(), Options{Resources: opts.Resources, ExpectKeyID: newKey})
	if len(r.Findings) > 0 {
		t.Errorf("of the live objects: %v", r.Findings)
	}

	e.compact()
	r = inspected(t, e.snapshot(), opts)
	if got := problems(r); len(got) == 0 || !strings.HasSuffix(got[0], "on free pages in the clear") || len(r.Resources[0].Older) != 0 {
		t.Errorf("after a compaction: %q, older %v", got, r.Resources[0].Older)
	}

	e.defragment()
	r = inspected(t, e.snapshot(), opts)
	want(t, r, "secrets live 100 kms v2, provider kms-plugin, key_id "+newKey)
	if got := problems(r); len(got) > 0 || r.Revision != 201 || r.CompactRevision != 201 || r.Objects != 100 || !r.ChecksumVerified {
		t.Errorf("after a defragmentation: %q, %+v", got, r)
	}
}

// TestExpectations: a snapshot that is as expected, and each way in which it can
// be otherwise.
func TestExpectations(t *testing.T) {
	good := encrypted("kms-plugin", newKey)
	plain, key, whole := Options{ExpectEncrypted: true}, Options{ExpectKeyID: newKey}, Options{ExpectKeyID: newKey, WholeFile: true}
	for _, tc := range []struct {
		name   string
		opts   Options
		change func(*etcd)
		want   string // the findings; empty means as expected
	}{
		{name: "encrypted", opts: plain},
		{name: "under the key", opts: key},
		{name: "under the key, in the whole file", opts: whole},
		{"in the clear, and nothing expected", Options{}, func(e *etcd) { e.put("/registry/secrets/a/x", clearJSON) }, ""},

		{"JSON in the clear", plain, func(e *etcd) { e.put("/registry/secrets/a/x", clearJSON) }, "secrets: 1 object in the clear"},
		{"in the clear where a key is expected", key, func(e *etcd) { e.put("/registry/secrets/a/x", clearJSON) }, "secrets: 1 object in the clear"},
		{"protobuf in the clear", plain, func(e *etcd) { e.put("/registry/secrets/a/x", clearProtobuf) }, "secrets: 1 object in the clear"},
		{"written over in the clear", plain, func(e *etcd) { e.put("/registry/secrets/a/1", clearJSON) }, "secrets: 1 object in the clear"},
		{"content behind a prefix", plain, func(e *etcd) { e.put("/registry/secrets/a/x", "k8s:enc:kms:v2:kms-plugin:"+clearJSON) },
			"secrets: 1 object not encrypted as far as known: k8s:enc:kms:v2: with a damaged message"},
		{"an unknown scheme", plain, func(e *etcd) { e.put("/registry/secrets/a/x", "k8s:enc:rot13:v1:k:"+clearJSON) },
			"secrets: 1 object not encrypted as far as known: k8s:enc:rot13:v1:, which this version does not know"},
		{"an empty value", plain, func(e *etcd) { e.put("/registry/secrets/a/x", "") },
			"secrets: 1 object not encrypted as far as known: an empty value"},

		{"another key", plain, func(e *etcd) { e.put("/registry/secrets/a/x", encrypted("kms-plugin", oldKey)) }, ""},
		{"another key where one is expected", key, func(e *etcd) { e.put("/registry/secrets/a/x", encrypted("kms-plugin", oldKey)) },
			"secrets: 1 object under another key: kms v2, provider kms-plugin, key_id " + oldKey},
		{"a key that begins like it", key, func(e *etcd) { e.put("/registry/secrets/a/x", encrypted("kms-plugin", newKey+"b")) },
			"secrets: 1 object under another key: kms v2, provider kms-plugin, key_id " + newKey + "b"},
		{"a local key of that name", key, func(e *etcd) {
			e.put("/registry/secrets/a/x", "k8s:enc:aescbc:v1:"+newKey+":"+strings.Repeat("x", 32))
		}, "secrets: 1 object under another key: aescbc, key v1"},

		{"an older revision in the clear", key, func(e *etcd) { e.put("/registry/secrets/a/x", clearJSON, "/registry/secrets/a/x", good) }, ""},
		{"an older revision in the clear, in the whole file", whole, func(e *etcd) {
			e.put("/registry/secrets/a/x", clearJSON, "/registry/secrets/a/x", good)
		}, "secrets: 1 older revision in the clear"},
		{"a deleted object", key, func(e *etcd) { e.put("/registry/secrets/a/x", clearJSON); e.remove("/registry/secrets/a/x") }, ""},
		{"a deleted object, in the whole file", whole, func(e *etcd) {
			e.put("/registry/secrets/a/x", clearJSON)
			e.remove("/registry/secrets/a/x")
			e.defragment()
		}, "secrets: 1 older revision in the clear"},
		{"a deleted object, in the clear again", key, func(e *etcd) {
			e.remove("/registry/secrets/a/1")
			e.put("/registry/secrets/a/1", clearJSON)
		}, "secrets: 1 object in the clear"},
		{"an older revision under the old key, in the whole file", whole, func(e *etcd) {
			e.put("/registry/secrets/a/x", encrypted("kms-plugin", oldKey), "/registry/secrets/a/x", good)
		}, "secrets: 1 older revision under another key: kms v2, provider kms-plugin, key_id " + oldKey},

		{"another resource in the clear", key, func(e *etcd) { e.put("/registry/configmaps/a/x", clearJSON) }, ""},
		{"a resource of which there is none", Options{Resources: []string{"secret"}, ExpectEncrypted: true}, nil, "secret: no object"},
		{"a resource of which there was one", Options{Resources: []string{"pods"}, ExpectEncrypted: true}, func(e *etcd) {
			e.put("/registry/pods/a/x", good)
			e.remove("/registry/pods/a/x")
		}, "pods: no object"},
		{"another prefix", Options{Prefix: "/kubernetes.io", Resources: []string{"secrets"}, ExpectEncrypted: true}, nil, ": there is no object below the prefix\nsecrets: no object"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEtcd(t)
			e.put("/registry/secrets/a/1", good, "/registry/secrets/a/2", good, "compact_rev_key", "17")
			if tc.change != nil {
				tc.change(e)
			}
			if tc.opts.WholeFile {
				e.defragment() // TestMigration looks at free pages
			}
			if tc.opts.Resources == nil {
				tc.opts.Resources = []string{"secrets"}
			}
			r := inspected(t, e.snapshot(), tc.opts)
			var got []string
			for _, f := range r.Findings {
				got = append(got, f.Resource+": "+f.Problem)
				if f.Fix == "" {
					t.Errorf("%s: there is no fix", f.Problem)
				}
			}
			if tc.want != strings.Join(got, "\n") {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

// TestNothingIsNoProof: an expectation of no objects at all is not met.
func TestNothingIsNoProof(t *testing.T) {
	e := newEtcd(t)
	e.put("/registry/pods/a/x", clearJSON)
	e.remove("/registry/pods/a/x")
	r := inspected(t, e.snapshot(), Options{ExpectEncrypted: true})
	if len(r.Findings) != 1 || r.Findings[0].Problem != "there is no object below the prefix" {
		t.Errorf("got %v", r.Findings)
	}
}

// TestResources names a resource for each form of a key.
func TestResources(t *testing.T) {
	for key, want := range map[string]string{
		"/registry/secrets/default/a":                                                  "secrets",
		"/registry/namespaces/default":                                                 "namespaces",
		"/registry/deployments/default/web":                                            "deployments",
		"/registry/clusterroles/system:node":                                           "clusterroles",
		"/registry/example.com/widgets/default/a":                                      "widgets.example.com",
		"/registry/apiregistration.k8s.io/apiservices/v1.apps":                         "apiservices.apiregistration.k8s.io",
		"/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.example.com": "customresourcedefinitions.apiextensions.k8s.io",
		"/registry/services/specs/default/kubernetes":                                  "services",
		"/registry/services/endpoints/default/kubernetes":                              "endpoints",
		"/registry/minions/node-1":                                                     "nodes",
		"/registry/controllers/default/rc":                                             "replicationcontrollers",
		"/registry/ingress/default/web":                                                "ingresses",
		"/registry/ranges/serviceips":                                                  "ranges",
		"/registry/masterleases/10.0.0.1":                                              "masterleases",
		"/registry/health":                                                             "health",
	} {
		t.Run(key, func(t *testing.T) {
			e := newEtcd(t)
			e.put(key, clearJSON)
			r := inspected(t, e.snapshot(), Options{Resources: []string{want}})
			if len(r.Resources) != 1 || Count(r.Resources[0].Live) != 1 {
				t.Errorf("got %v", lines(r))
			}
		})
	}
}

func TestPrefix(t *testing.T) {
	e := newEtcd(t)
	e.put("/kubernetes.io/secrets/a/x", clearJSON, "/registry/secrets/a/y", clearJSON, "/registryx/secrets/a/z", clearJSON, "compact_rev_key", "9")
	for _, prefix := range []string{"/kubernetes.io", "kubernetes.io/", "/registry", ""} {
		r := inspected(t, e.snapshot(), Options{Prefix: prefix})
		if r.Objects != 1 || r.OtherKeys != 3 {
			t.Errorf("%q: %d objects and %d other keys", prefix, r.Objects, r.OtherKeys)
		}
	}
}

// TestList names keys only when asked to, as many as asked for, and only those that
// are not as expected.
func TestList(t *testing.T) {
	e := newEtcd(t)
	e.put("/registry/secrets/a/old", encrypted("p", oldKey), "/registry/secrets/a/1", clearJSON, "/registry/secrets/a/2", clearJSON,
		"/registry/secrets/a/good", encrypted("p", newKey), "/registry/pods/a/other", clearJSON)
	for _, tc := range []struct {
		opts Options
		want []string
	}{
		{Options{}, nil},
		{Options{List: 1}, []string{"/registry/secrets/a/2"}},
		{Options{List: 9}, []string{"/registry/secrets/a/2", "/registry/secrets/a/1"}},
		{Options{List: 9, ExpectKeyID: newKey}, []string{"/registry/secrets/a/2", "/registry/secrets/a/1", "/registry/secrets/a/old"}},
	} {
		tc.opts.Resources = []string{"secrets"}
		if r := inspected(t, e.snapshot(), tc.opts); !slices.Equal(r.Offending, tc.want) {
			t.Errorf("%+v: got %q", tc.opts, r.Offending)
		}
	}
}

// TestPlainCopy: a copy of member/snap/db has no checksum, and may have been grown
// ahead of its use.
func TestPlainCopy(t *testing.T) {
	e := newEtcd(t)
	e.put("/registry/secrets/a/x", clearJSON)
	for name, content := range map[string][]byte{
		"a copy":       e.copy(),
		"grown ahead":  append(e.copy(), make([]byte, 64<<10)...),
		"with a tail":  append(e.copy(), bytes.Repeat([]byte("rest"), 1024)...),
		"16 KiB pages": rewritten(t, e, 16<<10),
		"64 KiB pages": rewritten(t, e, 64<<10),
	} {
		r := inspected(t, content, Options{})
		if r.ChecksumVerified || r.Objects != 1 {
			t.Errorf("%s: %+v", name, r)
		}
		if tail := name == "with a tail"; (r.Pages.Unread > 0) != tail {
			t.Errorf("%s: %+v", name, r.Pages)
		}
	}
}

// rewritten returns the same with pages of another size: etcd takes that of the
// machine.
func rewritten(t *testing.T, e *etcd, pageSize int) []byte {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{PageSize: pageSize, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := bbolt.Compact(db, e.db, 0); err != nil {
		t.Fatal(err)
	}
	return (&etcd{t: t, db: db}).copy()
}

// TestDamage: each file that is no snapshot has an error that names it and what to
// do, and none is read as one.
func TestDamage(t *testing.T) {
	e := newEtcd(t)
	for i := range 500 {
		e.put(fmt.Sprintf("/registry/secrets/a/%d", i), clearJSON)
	}
	e.defragment() // every page is in use
	good := e.copy()
	changed := func(at int, b byte) []byte {
		c := bytes.Clone(good)
		c[at] ^= b
		return c
	}
	page := func(flag byte) int { // the last page of a kind
		for at := len(good) - 4096; at > 0; at -= 4096 {
			if good[at+8] == flag {
				return at
			}
		}
		t.Fatal("there is no such page")
		return 0
	}
	leaf, branch := page(flagLeaf), page(flagBranch)
	other, err := bbolt.Open(filepath.Join(t.TempDir(), "other"), 0o600, &bbolt.Options{PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if err := other.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("boltdb")); return err }); err != nil {
		t.Fatal(err)
	}
	turned := bytes.Clone(good)
	for _, at := range []int{16, 4096 + 16} {
		slices.Reverse(turned[at : at+4])
	}

	for _, tc := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"empty", nil, "is empty"},
		{"a byte", []byte("x"), "is no snapshot of etcd, but text/plain; charset=utf-8"},
		{"text", []byte("apiVersion: v1\nkind: Secret\n"), "is no snapshot of etcd, but text/plain; charset=utf-8"},
		{"a PNG", append([]byte("\x89PNG\x0D\x0A\x1A\x0A"), make([]byte, 4096)...), "is no snapshot of etcd, but image/png"},
		{"SQLite", append([]byte("SQLite format 3\x00"), make([]byte, 4096)...), "is an SQLite database, and no snapshot of etcd"},
		{"gzip", append([]byte("\x1f\x8b\x08"), make([]byte, 4096)...), "is compressed"},
		{"zeros", make([]byte, 64<<10), "is no snapshot of etcd"},
		{"a value", []byte(encrypted("p", "k")), "is one value of etcd, and no snapshot"},
		{"another bolt database", (&etcd{t: t, db: other}).copy(), "is a bolt database, but not one of etcd"},
		{"of the other byte order", turned, "was written on a machine of the other byte order"},

		{"a changed byte", append(changed(leaf+3000, 1), e.snapshot()[len(good):]...), "is damaged: its content does not match the SHA-256 at its end"},
		{"a changed checksum", append(bytes.Clone(good), make([]byte, 32)...), "is damaged: its content does not match the SHA-256 at its end"},
		{"cut in half", good[:len(good)/8192*4096], fmt.Sprintf("is damaged: it is cut off: it has %d pages of 4096 bytes and should have %d", len(good)/8192, len(good)/4096)},
		{"without its end", e.snapshot()[:len(good)-4096+32], fmt.Sprintf("is damaged: it is cut off: it has %d pages of 4096 bytes and should have %d", len(good)/4096-1, len(good)/4096)},
		{"with something after it", append(bytes.Clone(good), "rest"...), fmt.Sprintf("is damaged: its %d bytes are no whole number of pages of 4096 bytes", len(good)+4)},
		{"both meta pages", append(append(changed(16+40, 1)[:4096:4096], changed(4096+16+40, 1)[4096:8192]...), good[8192:]...), "is damaged: neither of its two meta pages is whole"},

		{"a leaf's number", changed(leaf, 1), fmt.Sprintf("is damaged: page %d has no valid header", leaf/4096)},
		{"a leaf's kind", changed(leaf+8, 0x12), fmt.Sprintf("is damaged: page %d is no page of a tree", leaf/4096)},
		{"a leaf's count", changed(leaf+11, 0x80), fmt.Sprintf("is damaged: page %d has %d entries, for which it has no room", leaf/4096, int(good[leaf+10])+0x8000)},
		{"a leaf's overflow", changed(leaf+15, 0x80), fmt.Sprintf("is damaged: page %d has no valid header", leaf/4096)},
		{"where an entry lies", changed(leaf+16+7, 0x80), fmt.Sprintf("is damaged: page %d has an entry that lies outside of it or in another entry", leaf/4096)},
		{"how long a value is", changed(leaf+16+15, 0x80), fmt.Sprintf("is damaged: page %d has an entry that lies outside of it or in another entry", leaf/4096)},
		{"a value that runs into the next entry", func() []byte {
			c := bytes.Clone(good)
			c[leaf+16+12]++
			return c
		}(), fmt.Sprintf("is damaged: page %d has an entry that lies outside of it or in another entry", leaf/4096)},
		{"a branch's count", changed(branch+11, 0x80), fmt.Sprintf("is damaged: page %d has %d children, for which it has no room", branch/4096, int(good[branch+10])+0x8000)},
		{"a branch's child, out of range", changed(branch+16+8+7, 0x80), fmt.Sprintf("is damaged: it refers to page %d, its pages are 2 to %d",
			binary.LittleEndian.Uint64(good[branch+16+8:])|1<<63, len(good)/4096-1)},
		{"a branch that is its own child", func() []byte {
			c := bytes.Clone(good)
			binary.LittleEndian.PutUint64(c[branch+16+8:], uint64(branch/4096))
			return c
		}(), fmt.Sprintf("is damaged: page %d is in use twice", branch/4096)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := save(t, tc.content)
			r, err := Snapshot(path, Options{})
			var got *hint.Error
			if !errors.As(err, &got) || got.What != path+" "+tc.want || got.Hint == "" {
				t.Errorf("got  %v, %v\nwant %s", r, err, tc.want)
			}
		})
	}
}

// TestOneMetaPage: one of the two may be damaged, that is what they are two for.
func TestOneMetaPage(t *testing.T) {
	e := newEtcd(t)
	e.put("/registry/secrets/a/x", clearJSON)
	for _, at := range []int{16 + 40, 4096 + 16 + 40} {
		c := e.copy()
		c[at] ^= 1
		if r := inspected(t, c, Options{}); r.Objects != 1 {
			t.Errorf("%d objects", r.Objects)
		}
	}
}

// TestOrder: that the newest revision comes last is what everything rests on.
func TestOrder(t *testing.T) {
	e := newEtcd(t)
	for i := range 90 { // so that all keys and revisions are of one length
		e.put(fmt.Sprintf("/registry/secrets/a/%d", 10+i), clearJSON)
	}
	e.defragment()
	c := e.copy()
	length := 17 + len(message("/registry/secrets/a/10", 50, 1, clearJSON))
	i, j := bytes.Index(c, revision(50, "")), bytes.Index(c, revision(51, ""))
	if j-i != length {
		t.Fatalf("the entries are %d bytes apart, not %d", j-i, length)
	}
	swapped := slices.Concat(c[:i], c[j:j+length], c[i:j], c[j+length:])
	_, err := Snapshot(save(t, swapped), Options{})
	if err == nil || !strings.HasSuffix(err.Error(), "is damaged: its revisions are out of order") {
		t.Errorf("got %v", err)
	}
}

// TestNotLikeEtcd: what etcd does not write is an error, where it would otherwise
// be counted wrongly.
func TestNotLikeEtcd(t *testing.T) {
	put := func(key, value []byte) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket([]byte("key")).Put(key, value) }
	}
	object := message("/registry/secrets/a/x", 7, 1, clearJSON)
	for _, tc := range []struct {
		name   string
		change func(*bbolt.Tx) error
		want   string
	}{
		{"a revision of another number", put(revision(8, ""), object), "is damaged: revision 8 holds no key and value"},
		{"no message", put(revision(7, ""), []byte(clearJSON)), "is damaged: revision 7 holds no key and value"},
		{"a key that is no revision", put([]byte("/registry/secret"), object), "is damaged: a key in its bucket of keys is no revision"},
		{"one of the right length", put([]byte("/registry/secrets"), object), "is damaged: a key in its bucket of keys is no revision"},
		{"a negative revision", put(revision(-1, ""), object), "is damaged: a key in its bucket of keys is no revision"},
		{"a bucket in a bucket", func(tx *bbolt.Tx) error {
			_, err := tx.Bucket([]byte("lease")).CreateBucket([]byte("inner"))
			return err
		}, "is a bolt database, but not one of etcd"},
		{"no bucket of keys", func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("key")) }, "is a bolt database, but not one of etcd"},
		{"more groups than can be", func(tx *bbolt.Tx) error {
			for i := range int64(maxGroups + 1) {
				if err := put(revision(7+i, ""), message(fmt.Sprintf("/registry/resource%d/x", i), 7+i, 1, clearJSON))(tx); err != nil {
					return err
				}
			}
			return nil
		}, "has more kinds of resources and keys than an API server"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEtcd(t)
			e.update(tc.change)
			path := save(t, e.copy())
			_, err := Snapshot(path, Options{})
			var got *hint.Error
			if !errors.As(err, &got) || got.What != path+" "+tc.want || got.Hint == "" {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

// TestRevision: the last revision may be a deletion that a compaction has removed.
// TestRestored: etcdutl snapshot restore --bump-revision puts a revision without
// key and value above the others.
func TestRestored(t *testing.T) {
	e := newEtcd(t)
	e.put("/registry/secrets/default/a", "k8s\x00old")
	e.rev += 1_000_000
	e.update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("key")).Put(revision(e.rev, ""), nil) })
	e.put("/registry/secrets/default/b", "k8s\x00new")
	r := inspected(t, e.snapshot(), Options{})
	if r.Objects != 2 || r.Revision != e.rev {
		t.Errorf("%d objects, revision %d, want 2 and %d", r.Objects, r.Revision, e.rev)
	}
}

func TestRevision(t *testing.T) {
	e := newEtcd(t)
	e.put("/registry/secrets/a/x", clearJSON, "/registry/secrets/a/y", clearJSON)
	e.remove("/registry/secrets/a/y")
	if r := inspected(t, e.copy(), Options{}); r.Revision != 4 || r.CompactRevision != 0 {
		t.Errorf("before a compaction: %d, %d", r.Revision, r.CompactRevision)
	}
	e.compact()
	if r := inspected(t, e.copy(), Options{}); r.Revision != 4 || r.CompactRevision != 4 {
		t.Errorf("after it: %d, %d", r.Revision, r.CompactRevision)
	}
}

// leafPage returns a page with its number, and the pages that it overflows to.
func leafPage(id uint64, flags byte, entries ...string) []byte {
	le := binary.LittleEndian
	table, content := []byte{}, ""
	for i := 0; i < len(entries); i += 2 {
		key, value := entries[i], entries[i+1]
		pos := headerSize + elementSize*len(entries)/2 + len(content) - headerSize - len(table)
		table = le.AppendUint32(table, uint32(flags))
		table = le.AppendUint32(table, uint32(pos))
		table = le.AppendUint32(table, uint32(len(key)))
		table = le.AppendUint32(table, uint32(len(value)))
		content += key + value
	}
	pages := (headerSize + len(table) + len(content) + 4095) / 4096
	p := le.AppendUint64(nil, id)
	p = le.AppendUint16(p, flagLeaf)
	p = le.AppendUint16(p, uint16(len(entries)/2))
	p = le.AppendUint32(p, uint32(pages-1))
	p = append(append(p, table...), content...)
	return append(p, make([]byte, pages*4096-len(p))...)
}

// TestFreePages looks at each form in which deleted objects can be left. The pages
// are appended to a file: those beyond the ones in use are free as well.
func TestFreePages(t *testing.T) {
	e := newEtcd(t)
	e.put("/registry/secrets/a/x", clearJSON)
	e.defragment()
	file := e.copy()
	base := inspected(t, file, Options{})
	first := uint64(len(file) / 4096)

	rev := string(revision(7, ""))
	object := string(message("/registry/secrets/a/y", 7, 1, clearJSON))
	big := string(message("/registry/secrets/a/y", 7, 1, clearJSON+strings.Repeat(" ", 6000)))
	whole := leafPage(first, 0, rev, object)
	overflowing := leafPage(first, 0, rev, big)
	inline := leafPage(0, 0, rev, object)[:500]
	overlapping := leafPage(first, 0, string(revision(6, "")), object, rev, object)
	overlapping[16+12]++ // the length of the first value
	for _, tc := range []struct {
		name         string
		pages        []byte
		free, unread uint64
		copies       int
	}{
		{"zeros", make([]byte, 8192), 2, 0, 0},
		{"a leaf", whole, 1, 0, 1},
		{"the same leaf twice", append(bytes.Clone(whole), leafPage(first+1, 0, rev, object)...), 2, 0, 2},
		{"a leaf that overflows", overflowing, 2, 0, 1},
		{"its second page is another one now", append(overflowing[:4096:4096], leafPage(first+1, 0, rev, object)...), 2, 1, 1},
		{"its second page is not there", overflowing[:4096], 1, 1, 0},
		{"its second page alone", append(make([]byte, 4096), bytes.Repeat([]byte(secret), 200)[:4096]...), 2, 1, 0},
		{"a leaf of another place", leafPage(first+1, 0, rev, object), 1, 1, 0},
		{"a bucket that was inline", leafPage(first, flagBucket, "key", string(make([]byte, bucketSize))+string(inline)), 1, 0, 1},
		{"a bucket that was not", leafPage(first, flagBucket, "key", "\x05"+string(make([]byte, bucketSize-1))), 1, 0, 0},
		{"entries of another bucket", leafPage(first, 0, "consistent_index", "12345678"), 1, 0, 0},
		{"a deletion", leafPage(first, 0, rev+"t", object), 1, 0, 0},
		{"an object of another prefix", leafPage(first, 0, rev, string(message("/other/a", 7, 1, clearJSON))), 1, 0, 0},
		{"a revision of another number", leafPage(first, 0, string(revision(8, "")), object), 1, 1, 0},
		{"no message", leafPage(first, 0, rev, "?"), 1, 1, 0},
		{"entries that overlap", overlapping, 1, 1, 1},
		{"more entries than there is room for", append(bytes.Clone(whole[:10]), append([]byte{0xff, 0xff}, whole[12:]...)...), 1, 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := inspected(t, append(bytes.Clone(file), tc.pages...), Options{ExpectEncrypted: true, WholeFile: true})
			copies := Count(r.Resources[0].Free) - Count(base.Resources[0].Free)
			if free, unread := r.Pages.Free-base.Pages.Free, r.Pages.Unread-base.Pages.Unread; free != tc.free || unread != tc.unread || copies != tc.copies {
				t.Errorf("%d pages are free, %d unread, %d copies: want %d, %d, %d", free, unread, copies, tc.free, tc.unread, tc.copies)
			}
			finding := slices.ContainsFunc(r.Findings, func(f Finding) bool { return strings.Contains(f.Problem, "of which nothing can be told") })
			if finding != (tc.unread > 0) {
				t.Errorf("findings: %v", r.Findings)
			}
		})
	}
}

// TestDepth: a tree that is made to be deep does not fill the stack.
func TestDepth(t *testing.T) {
	const pages = 1000
	le := binary.LittleEndian
	file := make([]byte, pages*4096)
	m := file[headerSize:]
	le.PutUint32(m, boltMagic)
	le.PutUint32(m[4:], boltVersion)
	le.PutUint32(m[8:], 4096)
	le.PutUint64(m[16:], 2)
	le.PutUint64(m[32:], noFreelist)
	le.PutUint64(m[40:], pages)
	h := fnv.New64a()
	_, _ = h.Write(m[:56])
	le.PutUint64(m[56:], h.Sum64())
	for id := uint64(2); id < pages; id++ {
		p := file[id*4096:]
		le.PutUint64(p, id)
		le.PutUint16(p[8:], flagBranch)
		le.PutUint16(p[10:], 1)
		le.PutUint64(p[headerSize+8:], id+1)
	}
	_, err := read(bytes.NewReader(file), int64(len(file)), Options{})
	if err == nil || err.Error() != "is damaged: its tree is over 64 levels deep" {
		t.Errorf("got %v", err)
	}
}

func TestWindow(t *testing.T) {
	w := &window{r: strings.NewReader("0123456789"), size: 10}
	for _, tc := range []struct {
		off  int64
		n    int
		want string
	}{{0, 10, "0123456789"}, {9, 1, "9"}, {10, 0, ""}, {3, 2, "34"}} {
		if got, err := w.at(tc.off, tc.n); err != nil || string(got) != tc.want {
			t.Errorf("%d bytes at %d: %q, %v", tc.n, tc.off, got, err)
		}
	}
	for _, at := range [][2]int64{{-1, 1}, {0, -1}, {10, 1}, {0, 11}, {1 << 62, 1}, {0, maxRead + 1}} {
		if got, err := w.at(at[0], int(at[1])); err == nil {
			t.Errorf("%d bytes at %d: %q", at[1], at[0], got)
		}
	}
}

func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	var e *hint.Error
	if _, err := Snapshot(dir, Options{}); !errors.As(err, &e) || e.What != dir+" is a folder" || e.Hint == "" {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Snapshot(os.DevNull, Options{}); !errors.As(err, &e) || e.What != os.DevNull+" is no regular file" || e.Hint == "" {
		t.Errorf("a device: %v", err)
	}
	path := filepath.Join(dir, "none")
	if _, err := Snapshot(path, Options{}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
}

// TestFileInUse: etcd holds an exclusive lock on its file, here held by bbolt as in
// etcd.
func TestFileInUse(t *testing.T) {
	e := newEtcd(t)
	e.put("/registry/secrets/a/x", clearJSON)
	_, err := Snapshot(e.path, Options{})
	var got *hint.Error
	if !errors.As(err, &got) || got.What != e.path+" is in use by another process, such as a running etcd" || got.Hint == "" {
		t.Errorf("got %v", err)
	}
	if err := e.db.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(e.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(e.path, 0o400); err != nil {
		t.Fatal(err)
	}
	if r, err := Snapshot(e.path, Options{}); err != nil || r.Objects != 1 {
		t.Errorf("after etcd has stopped: %v, %v", r, err)
	}
	after, err := os.ReadFile(e.path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed: %v", err)
	}
}

// TestShrinkingFile: what is cut off while it is read is an error, as it is with
// ReadAt, and no fault, as it is with a mapped file.
func TestShrinkingFile(t *testing.T) {
	e := newEtcd(t)
	for i := range 500 {
		e.put(fmt.Sprintf("/registry/secrets/a/%d", i), clearJSON)
	}
	c := e.copy()
	for left := 0; left < len(c); left += 4096 {
		_, err := read(bytes.NewReader(c[:left]), int64(len(c)), Options{})
		var got *hint.Error
		if !errors.As(err, &got) || got.What != "is damaged: it became shorter while it was read" {
			t.Errorf("with %d bytes left: %v", left, err)
		}
	}
}

// failing is a disk that has a bad block.
type failing struct {
	io.ReaderAt
	from, to int64
}

var errDisk = errors.New("input/output error")

func (f failing) ReadAt(b []byte, off int64) (int, error) {
	if off < f.to && off+int64(len(b)) > f.from {
		return 0, errDisk
	}
	return f.ReaderAt.ReadAt(b, off)
}

// TestFailingDisk: what can't be read is not left out, wherever it lies.
func TestFailingDisk(t *testing.T) {
	e := newEtcd(t)
	for i := range 100 {
		e.put(fmt.Sprintf("/registry/secrets/a/%d", i), clearJSON)
	}
	c := e.snapshot()
	for at := int64(0); at < int64(len(c)); at += 4096 {
		if _, err := read(failing{bytes.NewReader(c), at, at + 1}, int64(len(c)), Options{}); !errors.Is(err, errDisk) {
			t.Errorf("at %d: %v", at, err)
		}
		plain := c[:len(c)-32]
		if _, err := read(failing{bytes.NewReader(plain), at, at + 1}, int64(len(plain)), Options{}); at < int64(len(plain)) && !errors.Is(err, errDisk) {
			t.Errorf("without a checksum, at %d: %v", at, err)
		}
	}
}

// TestLikeBbolt compares with bbolt what is in the trees, and which pages are
// free, in files that were written at random.
func TestLikeBbolt(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		e := newEtcd(t)
		for range 60 {
			switch r.IntN(10) {
			case 0:
				e.compact()
			case 1:
				e.remove(fmt.Sprintf("/registry/secrets/a/%d", r.IntN(20)))
			default:
				var pairs []string
				for range 1 + r.IntN(20) {
					pairs = append(pairs, fmt.Sprintf("/registry/secrets/a/%d", r.IntN(200)), clearJSON+strings.Repeat(" ", r.IntN(1<<r.IntN(15))))
				}
				e.put(pairs...)
			}
		}
		var all []string
		free := uint64(0)
		if err := e.db.View(func(tx *bbolt.Tx) error {
			stats := e.db.Stats()
			free = uint64(stats.FreePageN + stats.PendingPageN)
			return tx.Bucket([]byte("key")).ForEach(func(k, v []byte) error {
				all = append(all, string(k)+string(v))
				return nil
			})
		}); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(all)

		c := e.copy()
		db, err := openBolt(bytes.NewReader(c), int64(len(c)))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		s := newScan(db, Options{})
		err = db.walk(db.root, 0, func(root entry) error {
			name := c[root.key.off:root.key.end]
			return db.bucket(root.value, func(e entry) error {
				if string(name) == "key" {
					got = append(got, string(c[e.key.off:e.value.end]))
				}
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, all) {
			t.Errorf("seed %d: %d entries, bbolt has %d, or they differ", seed, len(got), len(all))
		}
		if err := s.freePages(); err != nil {
			t.Fatal(err)
		}
		if s.result.Pages.Free != free {
			t.Errorf("seed %d: %d free pages, bbolt has %d", seed, s.result.Pages.Free, free)
		}
	}
}

// allocated returns the bytes that an inspection allocates: its heap can't be
// larger at any time.
func allocated(t *testing.T, path string) uint64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Snapshot(path, Options{}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestMemory: values take no memory, whatever their size, keys take little.
func TestMemory(t *testing.T) {
	file := func(objects int, value string) string {
		e := newEtcd(t)
		for i := range objects {
			e.put(fmt.Sprintf("/registry/secrets/default/%d", i), value)
		}
		return save(t, e.snapshot())
	}
	large := strings.Repeat("x", 1<<20)
	inClear := `{"data":"` + large + `"}`
	inKMS := "k8s:enc:kms:v2:p:" + encryptedObject(func(n protowire.Number) string {
		return map[protowire.Number]string{1: large, 2: newKey, 3: "seed"}[n]
	})
	small := allocated(t, file(20, clearJSON))
	for name, value := range map[string]string{"in the clear": inClear, "encrypted": inKMS} {
		if got := allocated(t, file(20, value)); got > small+64<<10 {
			t.Errorf("%s: 20 objects of 1 MiB take %d bytes, small ones %d", name, got, small)
		}
	}
	const objects = 5000
	if got := allocated(t, file(objects, clearJSON)); got > small+100*objects {
		t.Errorf("%d objects take %d bytes, 20 take %d", objects, got, small)
	}
}

// FuzzSnapshot: whatever is damaged in a file, there is a report or an error of
// ours, and no content in either. What is fuzzed is where the damage is: four bytes
// for each byte of the file that is changed, its offset and what it becomes.
func FuzzSnapshot(f *testing.F) {
	// What is a ciphertext here may be shown if a length before it is damaged.
	encrypted := func(provider, keyID string) string {
		return strings.ReplaceAll(encrypted(provider, keyID), secret, strings.Repeat("x", len(secret)))
	}
	e := newEtcd(f)
	e.put("/registry/secrets/a/x", clearJSON, "/registry/secrets/a/y", encrypted("kms-plugin", oldKey))
	files := [][]byte{e.copy()}
	for i := range 80 {
		e.put(fmt.Sprintf("/registry/example.com/widgets/a/%d", i%30), clearProtobuf, "/registry/secrets/a/y", encrypted("kms-plugin", newKey))
	}
	e.put("/registry/secrets/a/large", clearJSON+strings.Repeat(" ", 10<<10))
	files = append(files, e.copy())
	e.compact()
	files = append(files, e.copy())
	e.defragment()
	files = append(files, e.copy())

	at := func(page, offset int, b byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(page*4096+offset))[1:], b)
	}
	for i := range files {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), at(0, 16+8, 0x20))                           // the page size
		f.Add(uint8(i), append(at(0, 16+16, 2), at(1, 16+16, 2)...)) // the root
		for page := 2; page < 12; page++ {
			f.Add(uint8(i), at(page, 8, 0x10))    // a page's kind
			f.Add(uint8(i), at(page, 10, 0xff))   // its count
			f.Add(uint8(i), at(page, 12, 1))      // its overflow
			f.Add(uint8(i), at(page, 16+4, 0))    // where an entry lies
			f.Add(uint8(i), at(page, 16+8, 3))    // a child or the length of a key
			f.Add(uint8(i), at(page, 2000, 0xff)) // content
		}
	}
	f.Fuzz(func(t *testing.T, file uint8, changes []byte) {
		c := bytes.Clone(files[int(file)%len(files)])
		for ; len(changes) >= 4; changes = changes[4:] {
			offset := int(changes[0])<<16 | int(changes[1])<<8 | int(changes[2])
			c[offset%len(c)] = changes[3]
		}
		for _, meta := range [][]byte{c[16:], c[4096+16:]} { // or a change to it would not get far
			h := fnv.New64a()
			_, _ = h.Write(meta[:56])
			binary.LittleEndian.PutUint64(meta[56:], h.Sum64())
		}
		r, err := read(bytes.NewReader(c), int64(len(c)), Options{ExpectEncrypted: true, WholeFile: true})
		if err != nil {
			var e *hint.Error
			if !errors.As(err, &e) || e.Hint == "" || strings.Contains(e.What, secret) {
				t.Errorf("the error is %v", err)
			}
			return
		}
		shown, err := json.Marshal(r)
		if err != nil || bytes.Contains(shown, []byte(secret)) {
			t.Errorf("the report shows content: %s, %v", shown, err)
		}
		for _, res := range r.Resources {
			if Count(res.Live)+Count(res.Older)+Count(res.Free) > len(c) {
				t.Errorf("more objects than bytes: %s", shown)
			}
		}
	})
}
