// Package inspect tells how the objects of a Kubernetes API server are stored in
// etcd: in the clear or encrypted, by which provider and under which key_id. It
// reads snapshots of etcd v3, and single values.
//
// It reads no more of an object than it takes to tell, and returns nothing of it:
// neither content nor ciphertext, and names of objects only when asked for.
package inspect

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/hint"
)

// DefaultPrefix is kube-apiserver's own default of --etcd-prefix.
const DefaultPrefix = "/registry"

// Options say what to look at and what to expect. The zero value reports
// everything and expects nothing.
type Options struct {
	// Prefix is the --etcd-prefix of the API server. Default: DefaultPrefix
	Prefix string
	// Resources are the resources to look at, as they are named in an
	// EncryptionConfiguration for the core group ("secrets") and for custom
	// resources ("widgets.example.com"). Of the other groups that Kubernetes
	// itself has, etcd does not know the name, apart from
	// apiregistration.k8s.io and apiextensions.k8s.io: "deployments", not
	// "deployments.apps". Default: all that are there
	Resources []string

	// ExpectEncrypted makes a finding of objects that are not encrypted.
	ExpectEncrypted bool
	// ExpectKeyID makes a finding of objects that are not encrypted with KMS v2
	// under this key_id. Default: any
	ExpectKeyID string
	// WholeFile expects the same of older revisions and of what lies on free
	// pages. Without it they are reported, and nothing is expected of them.
	WholeFile bool

	// List is the number of keys of objects to report, at most, that are not
	// stored as expected or, if nothing is expected, not encrypted. Default: 0
	List int
}

// Report says what a snapshot holds.
type Report struct {
	File string `json:"file"`
	// ChecksumVerified is false for a file that has no checksum, such as a copy
	// of member/snap/db: damage to values goes unseen there.
	ChecksumVerified bool `json:"checksumVerified"`
	// Revision is etcd's revision when the snapshot was taken.
	Revision int64 `json:"revision"`
	// CompactRevision is the revision of the last compaction that has finished,
	// 0 if there was none.
	CompactRevision int64 `json:"compactRevision"`
	// Objects is the number of objects below the prefix, of all resources, also
	// of those that were not asked for.
	Objects int `json:"objects"`
	// OtherKeys is the number of keys outside of the prefix.
	OtherKeys int `json:"otherKeys"`
	// Resources are sorted by name. Those that were asked for are always in it.
	Resources []Resource `json:"resources"`
	Pages     Pages      `json:"pages"`
	// Findings are what is not as expected.
	Findings []Finding `json:"findings"`
	// Offending are keys in etcd of objects that are not as expected, the ones
	// that were written last first. At most Options.List.
	Offending []string `json:"offending,omitempty"`
}

// Resource says how the objects of one resource are stored.
type Resource struct {
	Name string `json:"name"`
	// Live are the objects as an API server reads them.
	Live []Group `json:"live"`
	// Older are the earlier revisions of objects, also of those that were
	// deleted since, that no compaction has removed yet.
	Older []Group `json:"older,omitempty"`
	// Free are the copies found on pages that the file does not use any more and
	// that nothing has overwritten yet. There may be several copies of a
	// revision.
	Free []Group `json:"free,omitempty"`
}

// Group is how many objects, revisions or copies are stored in one way.
type Group struct {
	Storage
	Count int `json:"count"`
}

// Count returns the number of objects of some groups.
func Count(groups []Group) int {
	n := 0
	for _, g := range groups {
		n += g.Count
	}
	return n
}

// Pages are the pages of the file. Those that are free hold what was deleted
// until something else is written there, or a defragmentation makes a new file.
type Pages struct {
	Size  int64  `json:"size"` // in bytes
	Total uint64 `json:"total"`
	Free  uint64 `json:"free"`
	// Unread are the free pages that hold something else than zeros or whole
	// objects, such as the middle of a large object. It can be in the clear.
	Unread uint64 `json:"unread"`
}

// Finding is something that is not as expected.
type Finding struct {
	// Resource is empty if it is about the file.
	Resource string `json:"resource,omitempty"`
	Problem  string `json:"problem"`
	Fix      string `json:"fix"`
}

const (
	hintSnapshot = "take a snapshot with: etcdctl snapshot save FILE"

	fixLive  = "have the API server write them again: kubectl get RESOURCE --all-namespaces -o json | kubectl replace -f -"
	fixOlder = "compact etcd up to the current revision (etcdctl compact --physical REVISION), defragment it, and take a new snapshot"
	fixFree  = "defragment each member of etcd (etcdctl defrag), and take a new snapshot"
	fixNone  = "without objects nothing is proven: leave the resource out, or check its name against a report without --resource"
)

// Check says what is wrong with the way in which an object is stored, and the
// empty string if that is as expected.
func (o Options) Check(s Storage) string {
	switch {
	case !s.Encrypted() && (o.ExpectEncrypted || o.ExpectKeyID != ""):
		return s.String()
	case o.ExpectKeyID != "" && (s.Kind != KMSv2 || s.KeyID != o.ExpectKeyID):
		return "under another key: " + s.String()
	}
	return ""
}

func (o Options) expects() bool { return o.ExpectEncrypted || o.ExpectKeyID != "" }

// Snapshot reads a snapshot that 'etcdctl snapshot save' wrote, or a copy of the
// file member/snap/db of a member that was stopped. It never writes to the file,
// and takes memory for the keys that are in it (at most some 70 bytes each, garbage
// included, seen with a million) but not for the values. An error that is about the file is an [*hint.Error].
func Snapshot(path string, opts Options) (*Report, error) {
	report, err := snapshot(path, opts)
	var e *hint.Error
	if errors.As(err, &e) {
		return nil, &hint.Error{What: path + " " + e.What, Hint: e.Hint}
	}
	return report, err
}

func snapshot(path string, opts Options) (*Report, error) {
	// Before it is opened: to open a pipe would wait for a writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	switch {
	case info.IsDir():
		return nil, &hint.Error{What: "is a folder", Hint: "name the snapshot, or a copy of member/snap/db below etcd's data folder"}
	case !info.Mode().IsRegular():
		return nil, &hint.Error{What: "is no regular file", Hint: "write the snapshot to a file: it is not read from front to back"}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := lock(f); err != nil {
		return nil, err
	}
	// Once more: between the two, it could have become longer.
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	report, err := read(f, info.Size(), opts)
	if err != nil {
		return nil, err
	}
	report.File = path
	return report, nil
}

// read reads a snapshot of the given size.
func read(r io.ReaderAt, size int64, opts Options) (*Report, error) {
	if size == 0 {
		return nil, &hint.Error{What: "is empty", Hint: hintSnapshot}
	}
	// As etcdutl tells it (etcdutl/snapshot, hasChecksum): pages are multiples of
	// 512 bytes.
	verified := size%512 == sha256.Size
	if verified {
		size -= sha256.Size
	}
	db, err := openBolt(r, size)
	if err != nil {
		return nil, err
	}
	if verified {
		if err := verify(r, size); err != nil {
			return nil, err
		}
	}
	s := newScan(db, opts)
	if err := s.run(); err != nil {
		return nil, err
	}
	report := s.report()
	report.ChecksumVerified = verified
	return report, nil
}

// verify compares the SHA-256 that follows the database with the database.
func verify(r io.ReaderAt, size int64) error {
	hash := sha256.New()
	if _, err := io.CopyBuffer(hash, io.NewSectionReader(r, 0, size), make([]byte, 256<<10)); err != nil {
		return err
	}
	var want [sha256.Size]byte
	if _, err := r.ReadAt(want[:], size); err != nil {
		return err
	}
	if !bytes.Equal(hash.Sum(nil), want[:]) {
		return &hint.Error{What: "is damaged: its content does not match the SHA-256 at its end", Hint: hintSnapshot}
	}
	return nil
}

// foreign says what a file is that is no bolt file.
func (b *bolt) foreign() error {
	head, err := b.data.at(0, int(min(b.data.size, 512)))
	if err != nil {
		return err
	}
	switch {
	case bytes.HasPrefix(head, []byte(encPrefix)):
		return &hint.Error{What: "is one value of etcd, and no snapshot", Hint: "inspect it with --value"}
	case bytes.HasPrefix(head, []byte("SQLite format 3\x00")):
		return &hint.Error{What: "is an SQLite database, and no snapshot of etcd", Hint: "inspect single values with --value, if it is the store of kine"}
	case bytes.HasPrefix(head, []byte("\x1f\x8b")), bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return &hint.Error{What: "is compressed", Hint: "decompress it first"}
	}
	what := "is no snapshot of etcd"
	if kind := http.DetectContentType(head); kind != "application/octet-stream" {
		what += ", but " + kind
	}
	return &hint.Error{What: what, Hint: hintSnapshot}
}

// findings judges a report by what is expected.
func findings(r *Report, opts Options) []Finding {
	found := []Finding{}
	if !opts.expects() {
		return found
	}
	if r.Objects == 0 {
		found = append(found, Finding{Problem: "there is no object below the prefix", Fix: "check --prefix against the API server's --etcd-prefix"})
	}
	judge := func(resource string, groups []Group, one, many, fix string) {
		for _, g := range groups {
			if problem := opts.Check(g.Storage); problem != "" {
				noun := many
				if g.Count == 1 {
					noun = one
				}
				found = append(found, Finding{resource, fmt.Sprintf("%d %s %s", g.Count, noun, problem), fix})
			}
		}
	}
	for _, res := range r.Resources {
		judge(res.Name, res.Live, "object", "objects", fixLive)
		if len(res.Live) == 0 && slices.Contains(opts.Resources, res.Name) {
			found = append(found, Finding{res.Name, "no object", fixNone})
		}
	}
	if !opts.WholeFile {
		return found
	}
	for _, res := range r.Resources {
		judge(res.Name, res.Older, "older revision", "older revisions", fixOlder)
	}
	for _, res := range r.Resources {
		judge(res.Name, res.Free, "copy on a free page", "copies on free pages", fixFree)
	}
	if n := r.Pages.Unread; n > 0 {
		found = append(found, Finding{"", fmt.Sprintf("%d free page(s) hold bytes of which nothing can be told", n), fixFree})
	}
	return found
}

// cleanPrefix returns the prefix as the API server writes it, with a slash at its
// end.
func cleanPrefix(prefix string) string {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	prefix = "/" + strings.Trim(prefix, "/") + "/"
	if prefix == "//" {
		return "/"
	}
	return prefix
}
