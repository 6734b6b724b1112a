package inspect

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ekskms/ekskms/internal/hint"
)

// part is where in the file a revision lies.
type part int

const (
	live part = iota
	older
	free
)

// groupKey is what is counted.
type groupKey struct {
	resource string
	part     part
	storage  Storage
}

// maxGroups is more than any API server has, and keeps a file that is not of one
// from filling the memory.
const maxGroups = 10_000

// maxKey is how much of a key is looked at, apart from its hash. Prefix,
// resource, namespace and name of an object are shorter.
const maxKey = 1 << 10

// scan is a walk through a database of etcd.
type scan struct {
	db       *bolt
	opts     Options
	prefix   []byte
	selected map[string]bool // empty means all

	names     interner
	resources map[string]string // by the beginning of their keys
	counts    map[groupKey]int
	// seen are the keys of which a newer revision was met, by the first half of
	// their SHA-256: 16 bytes for each key that is in the file, and with the
	// map's own room up to 40. Anyone who can choose names could make two equal only
	// with 2^64 attempts, so an object can't be hidden behind another.
	seen   map[[16]byte]struct{}
	hash   hash.Hash
	sum    [sha256.Size]byte
	last   [revLen]byte // the revision met last
	result Report
}

func newScan(db *bolt, opts Options) *scan {
	s := &scan{
		db:        db,
		opts:      opts,
		prefix:    []byte(cleanPrefix(opts.Prefix)),
		selected:  map[string]bool{},
		names:     interner{},
		resources: map[string]string{},
		counts:    map[groupKey]int{},
		seen:      map[[16]byte]struct{}{},
		hash:      sha256.New(),
	}
	for _, r := range opts.Resources {
		s.selected[r] = true
	}
	return s
}

// run reads all buckets of etcd (server/v3 storage/schema), and then the pages
// that no bucket uses.
func (s *scan) run() error {
	type bucket struct {
		name  string
		value span
	}
	var buckets []bucket
	err := s.db.walk(s.db.root, 0, func(e entry) error {
		const most = 64 // of etcd's buckets, which are ten; and their names are shorter
		if !e.bucket || e.key.len() > most || len(buckets) == most {
			return errNotEtcd
		}
		name, err := s.db.data.at(e.key.off, int(e.key.len()))
		if err != nil {
			return err
		}
		buckets = append(buckets, bucket{string(name), e.value})
		return nil
	})
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(buckets, func(b bucket) bool { return b.name == "key" }) {
		return errNotEtcd
	}
	for _, b := range buckets {
		visit := func(entry) error { return nil }
		switch b.name {
		case "key":
			visit = s.revision
		case "meta":
			visit = s.meta
		}
		err := s.db.bucket(b.value, func(e entry) error {
			if e.bucket {
				return errNotEtcd // there are no buckets inside of buckets
			}
			return visit(e)
		})
		if err != nil {
			return err
		}
	}
	// What compaction removes may have been the last revision.
	s.result.Revision = max(s.result.Revision, s.result.CompactRevision)
	return s.freePages()
}

var errNotEtcd = &hint.Error{What: "is a bolt database, but not one of etcd", Hint: hintSnapshot}

// meta reads the revision of the last compaction.
func (s *scan) meta(e entry) error {
	const name = "finishedCompactRev"
	if e.key.len() != int64(len(name)) || e.value.len() != revLen {
		return nil
	}
	key, err := s.db.data.at(e.key.off, len(name))
	if err != nil || string(key) != name {
		return err
	}
	value, err := s.db.data.at(e.value.off, revLen)
	if err != nil {
		return err
	}
	s.result.CompactRevision = int64(binary.BigEndian.Uint64(value)) //nolint:gosec // a wrong number is shown as it is
	return nil
}

// revLen is the length of a revision as a key of the bucket: server/v3
// storage/mvcc/revision.go. A tombstone has a letter t after it.
const revLen = 8 + 1 + 8

// revision is called with the entries of the bucket of keys, the newest first. So
// the first one of a key is the one that counts, unless it is a tombstone.
func (s *scan) revision(e entry) error {
	rev, tombstone, err := s.revisionKey(e.key)
	if err != nil {
		return err
	}
	// That the newest is met first rests on the order of the file.
	if s.last != [revLen]byte{} && bytes.Compare(rev[:], s.last[:]) >= 0 {
		return damaged("its revisions are out of order")
	}
	s.last = rev
	main := int64(binary.BigEndian.Uint64(rev[:])) //nolint:gosec // revisionKey has checked it
	s.result.Revision = max(s.result.Revision, main)
	if e.value.len() == 0 {
		// No object: what a restore with --bump-revision leaves there, to go on with
		// later numbers (etcdutl/snapshot, unsafeBumpBucketsRevision).
		return nil
	}

	kv, err := s.keyValue(e.value)
	if errors.Is(err, errMessage) || err == nil && !tombstone && kv.modRevision != main {
		return damaged("revision %d holds no key and value", main)
	}
	if err != nil {
		return err
	}
	key, err := s.digest(kv.key)
	if err != nil {
		return err
	}
	_, superseded := s.seen[key]
	s.seen[key] = struct{}{}
	switch {
	case tombstone:
		return nil
	case superseded:
		return s.count(kv, older)
	}
	return s.count(kv, live)
}

var errRevision = damaged("a key in its bucket of keys is no revision")

func (s *scan) revisionKey(key span) (rev [revLen]byte, tombstone bool, err error) {
	if key.len() != revLen && key.len() != revLen+1 {
		return rev, false, errRevision
	}
	raw, err := s.db.data.at(key.off, int(key.len()))
	if err != nil {
		return rev, false, err
	}
	if raw[0] >= 0x80 || raw[8] != '_' || raw[9] >= 0x80 { // negative ones
		return rev, false, errRevision
	}
	copy(rev[:], raw)
	return rev, len(raw) > revLen && raw[revLen] == 't', nil
}

// keyValue is etcd's message of that name: api/v3 mvccpb/kv.proto.
type keyValue struct {
	key, value  span
	modRevision int64
}

func (s *scan) keyValue(message span) (keyValue, error) {
	var kv keyValue
	for message.len() > 0 {
		f, rest, err := s.db.data.field(message)
		if err != nil {
			return kv, err
		}
		switch {
		case f.num == 1 && f.typ == protowire.BytesType:
			kv.key = f.body
		case f.num == 3 && f.typ == protowire.VarintType:
			kv.modRevision = int64(f.varint) //nolint:gosec // as protobuf has it
		case f.num == 5 && f.typ == protowire.BytesType:
			kv.value = f.body
		}
		message = rest
	}
	if kv.key.len() == 0 {
		return kv, errMessage
	}
	return kv, nil
}

func (s *scan) digest(key span) (d [16]byte, err error) {
	s.hash.Reset()
	for off := key.off; off < key.end; off += maxRead {
		b, err := s.db.data.at(off, int(min(maxRead, key.end-off)))
		if err != nil {
			return d, err
		}
		_, _ = s.hash.Write(b)
	}
	copy(d[:], s.hash.Sum(s.sum[:0]))
	return d, nil
}

// count counts a revision if it is one of an object that is asked for.
func (s *scan) count(kv keyValue, where part) error {
	key, err := s.db.data.at(kv.key.off, int(min(kv.key.len(), maxKey)))
	if err != nil {
		return err
	}
	rest, ok := bytes.CutPrefix(key, s.prefix)
	if where == live {
		if ok {
			s.result.Objects++
		} else {
			s.result.OtherKeys++
		}
	}
	if !ok {
		return nil
	}
	resource := s.resource(rest)
	if len(s.selected) > 0 && !s.selected[resource] {
		return nil
	}
	storage, err := classify(&s.db.data, kv.value, s.names)
	if err != nil {
		return err
	}
	s.counts[groupKey{resource, where, storage}]++
	if len(s.counts) > maxGroups {
		return errGroups
	}
	if where == live && len(s.result.Offending) < s.opts.List && s.offends(storage) {
		key, err := s.db.data.at(kv.key.off, int(min(kv.key.len(), maxKey)))
		if err != nil {
			return err
		}
		s.result.Offending = append(s.result.Offending, string(key))
	}
	return nil
}

var errGroups = &hint.Error{
	What: "has more kinds of resources and keys than an API server",
	Hint: "check --prefix against the API server's --etcd-prefix, or ask for a --resource",
}

func (s *scan) offends(storage Storage) bool {
	if s.opts.expects() {
		return s.opts.Check(storage) != ""
	}
	return !storage.Encrypted()
}

// special are the resources whose keys do not begin with their name:
// SpecialDefaultResourcePrefixes of k8s.io/kubernetes v1.36
// pkg/kubeapiserver/default_storage_factory_builder.go.
var special = map[string]string{
	"controllers":        "replicationcontrollers",
	"services/endpoints": "endpoints",
	"services/specs":     "services",
	"minions":            "nodes",
	"ingress":            "ingresses",
}

// resource returns the resource of a key without its prefix. The first part of a
// key is the resource, or the group of a custom resource, which has a dot
// (k8s.io/apiextensions-apiserver, ValidateCustomResourceDefinition).
func (s *scan) resource(key []byte) string {
	first, rest, _ := bytes.Cut(key, []byte("/"))
	second, _, _ := bytes.Cut(rest, []byte("/"))
	two := len(second) > 0 && (bytes.IndexByte(first, '.') >= 0 || string(first) == "services")
	if !two {
		return s.intern(first, func(name string) string { return cmp.Or(special[name], name) })
	}
	return s.intern(key[:len(first)+1+len(second)], func(name string) string {
		if plural, ok := special[name]; ok {
			return plural
		}
		group, resource, _ := strings.Cut(name, "/")
		if group == "services" {
			return group
		}
		return resource + "." + group
	})
}

// intern keeps one copy of what is made of each name, for as many names as there
// can be groups.
func (s *scan) intern(raw []byte, name func(string) string) string {
	if done, ok := s.resources[string(raw)]; ok {
		return done
	}
	done := name(string(raw))
	if len(s.resources) < maxGroups {
		s.resources[string(raw)] = done
	}
	return done
}

// freePages counts the objects that are left on free pages. What it finds is
// there; what it does not find may be there as well, in parts of which the
// beginning is overwritten: those pages are counted as unread.
func (s *scan) freePages() error {
	pages := &s.result.Pages
	pages.Size, pages.Total = s.db.pageSize, s.db.total
	for id := uint64(2); id < s.db.total; id++ {
		if s.db.used.has(id) {
			continue
		}
		p, err := s.db.header(id)
		if err != nil {
			return err
		}
		if !p.isPage(id) {
			pages.Free++
			zero, err := s.db.isZero(id)
			if err != nil {
				return err
			}
			if !zero {
				pages.Unread++
			}
			continue
		}
		// With the pages that it overflows to, as far as they are still its own.
		last := id
		for last < id+p.overflow && last+1 < s.db.total && !s.db.used.has(last+1) {
			next, err := s.db.header(last + 1)
			if err != nil {
				return err
			}
			if next.isPage(last + 1) {
				break
			}
			last++
		}
		p.end += int64(last-id) * s.db.pageSize
		pages.Free += last - id + 1
		if p.flags == flagLeaf {
			whole, err := s.leftover(p)
			if err != nil {
				return err
			}
			if !whole {
				pages.Unread += last - id + 1
			}
		}
		id = last
	}
	return nil
}

// leftover counts the objects of a leaf that is free. It is false for one of which
// something can't be read, which is no error: a part of it may be overwritten.
func (s *scan) leftover(p page) (whole bool, err error) {
	if p.table() > p.len() {
		return false, nil
	}
	whole = true
	end := p.end
	for i := p.count - 1; i >= 0; i-- {
		e, err := s.db.entry(p, i, end)
		if err == nil {
			end = e.key.off
			err = s.leftoverEntry(e)
		}
		var content *hint.Error
		switch {
		case err == nil:
		case errors.Is(err, errGroups):
			return false, err
		case errors.Is(err, errMessage), errors.As(err, &content):
			whole = false
		default:
			return false, err
		}
	}
	return whole, nil
}

func (s *scan) leftoverEntry(e entry) error {
	if e.bucket {
		return s.leftoverBucket(e.value)
	}
	rev, tombstone, err := s.revisionKey(e.key)
	if errors.Is(err, errRevision) || tombstone || e.value.len() == 0 {
		return nil // an entry of another bucket, or one without an object
	}
	if err != nil {
		return err
	}
	kv, err := s.keyValue(e.value)
	if err != nil {
		return err
	}
	if kv.modRevision != int64(binary.BigEndian.Uint64(rev[:])) { //nolint:gosec // revisionKey has checked it
		return errMessage
	}
	return s.count(kv, free)
}

// leftoverBucket counts the objects of a bucket that was so small that it lay
// inside the root bucket.
func (s *scan) leftoverBucket(value span) error {
	root, inline, err := s.db.bucketHeader(value)
	if err != nil || root != 0 {
		return err
	}
	p, err := s.db.headerAt(inline)
	if err != nil {
		return err
	}
	return s.db.leaf(p, func(e entry) error {
		if e.bucket {
			return errMessage
		}
		return s.leftoverEntry(e)
	})
}

// report puts together what was counted.
func (s *scan) report() *Report {
	r := &s.result
	resources := map[string]*Resource{}
	resource := func(name string) *Resource {
		if resources[name] == nil {
			resources[name] = &Resource{Name: name, Live: []Group{}}
		}
		return resources[name]
	}
	for _, name := range s.opts.Resources {
		resource(name)
	}
	for key, n := range s.counts {
		res, group := resource(key.resource), Group{key.storage, n}
		switch key.part {
		case live:
			res.Live = append(res.Live, group)
		case older:
			res.Older = append(res.Older, group)
		case free:
			res.Free = append(res.Free, group)
		}
	}
	r.Resources = []Resource{}
	for _, name := range slices.Sorted(maps.Keys(resources)) {
		res := resources[name]
		for _, groups := range [][]Group{res.Live, res.Older, res.Free} {
			slices.SortFunc(groups, func(a, b Group) int { return compare(a.Storage, b.Storage) })
		}
		r.Resources = append(r.Resources, *res)
	}
	r.Findings = findings(r, s.opts)
	return r
}

// compare puts first what is not encrypted.
func compare(a, b Storage) int {
	if a.Encrypted() != b.Encrypted() {
		if b.Encrypted() {
			return -1
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Provider, b.Provider),
		cmp.Compare(a.KeyID, b.KeyID),
		cmp.Compare(a.KeyName, b.KeyName),
		cmp.Compare(a.Detail, b.Detail),
	)
}
