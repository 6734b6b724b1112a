package inspect

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
)

// etcd lays out a file as etcd v3.6 does: server/v3 storage/mvcc and
// storage/schema. That a real one does it so is tested in test/e2e.
type etcd struct {
	t        testing.TB
	path     string
	db       *bbolt.DB
	rev      int64
	versions map[string]int64
}

func open(t testing.TB) (string, *bbolt.DB) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		PageSize:       4096, // as on most machines, and the same on all
		NoSync:         true,
		NoFreelistSync: true, // as etcd does on Linux
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return path, db
}

func newEtcd(t testing.TB) *etcd {
	t.Helper()
	path, db := open(t)
	e := &etcd{t: t, path: path, db: db, rev: 1, versions: map[string]int64{}}
	e.update(func(tx *bbolt.Tx) error {
		for _, name := range []string{"alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members", "members_removed", "meta"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte("meta")).Put([]byte("consistent_index"), make([]byte, 8))
	})
	return e
}

func (e *etcd) update(do func(*bbolt.Tx) error) {
	e.t.Helper()
	if err := e.db.Update(do); err != nil {
		e.t.Fatal(err)
	}
}

func revision(main int64, suffix string) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(main))
	b = append(b, '_')
	return append(binary.BigEndian.AppendUint64(b, 0), suffix...)
}

// put writes keys and values in turn, each in a revision of its own and all in one
// transaction of the file, as etcd does it with what comes within 100 ms.
func (e *etcd) put(pairs ...string) {
	e.t.Helper()
	e.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("key"))
		b.FillPercent = 0.9
		for i := 0; i < len(pairs); i += 2 {
			key, value := pairs[i], pairs[i+1]
			e.rev++
			e.versions[key]++
			if err := b.Put(revision(e.rev, ""), message(key, e.rev, e.versions[key], value)); err != nil {
				return err
			}
		}
		return nil
	})
}

func message(key string, rev, version int64, value string) []byte {
	var m []byte
	m = protowire.AppendTag(m, 1, protowire.BytesType)
	m = protowire.AppendString(m, key)
	for i, n := range []int64{rev - version + 1, rev, version} {
		m = protowire.AppendTag(m, protowire.Number(i+2), protowire.VarintType)
		m = protowire.AppendVarint(m, uint64(n))
	}
	m = protowire.AppendTag(m, 5, protowire.BytesType)
	m = protowire.AppendString(m, value)
	m = protowire.AppendTag(m, 6, protowire.VarintType)
	return protowire.AppendVarint(m, 0x1234) // a lease
}

func (e *etcd) remove(key string) {
	e.t.Helper()
	e.rev++
	delete(e.versions, key)
	e.update(func(tx *bbolt.Tx) error {
		m := protowire.AppendTag(nil, 1, protowire.BytesType)
		return tx.Bucket([]byte("key")).Put(revision(e.rev, "t"), protowire.AppendString(m, key))
	})
}

// compact removes the revisions that are superseded.
func (e *etcd) compact() {
	e.t.Helper()
	e.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("key"))
		newest := map[string]bool{}
		var old [][]byte
		c := b.Cursor()
		for k, v := c.Last(); k != nil; k, v = c.Prev() {
			_, _, n := protowire.ConsumeTag(v)
			key, _ := protowire.ConsumeBytes(v[n:])
			if newest[string(key)] || len(k) > 17 {
				old = append(old, bytes.Clone(k))
			}
			newest[string(key)] = true
		}
		for _, k := range old {
			if err := b.Delete(k); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte("meta")).Put([]byte("finishedCompactRev"), revision(e.rev, ""))
	})
}

// defragment writes what is in use to a new file.
func (e *etcd) defragment() {
	e.t.Helper()
	path, db := open(e.t)
	if err := bbolt.Compact(db, e.db, 0); err != nil {
		e.t.Fatal(err)
	}
	e.path, e.db = path, db
}

// copy returns what lies in member/snap/db, up to the last page that was ever
// used.
func (e *etcd) copy() []byte {
	e.t.Helper()
	var b bytes.Buffer
	if err := e.db.View(func(tx *bbolt.Tx) error { _, err := tx.WriteTo(&b); return err }); err != nil {
		e.t.Fatal(err)
	}
	return b.Bytes()
}

// snapshot returns what 'etcdctl snapshot save' writes.
func (e *etcd) snapshot() []byte {
	e.t.Helper()
	return signed(e.copy())
}

func signed(db []byte) []byte {
	sum := sha256.Sum256(db)
	return append(db, sum[:]...)
}

// save writes a file for a test.
func save(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
