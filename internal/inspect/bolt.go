package inspect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"

	"github.com/ekskms/ekskms/internal/hint"
)

// The layout of a bolt file: go.etcd.io/bbolt v1.4.3, internal/common. Its
// numbers are in the byte order of the machine that wrote it: here
// little-endian, as on amd64 and arm64.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	headerSize  = 16 // id 8, flags 2, count 2, overflow 4
	metaSize    = 64
	elementSize = 16 // of a branch: pos 4, ksize 4, page 8; of a leaf: flags 4, pos 4, ksize 4, vsize 4
	bucketSize  = 16 // root page 8, sequence 8; root 0 means that a page follows inline

	minPageSize = 1 << 10
	maxPageSize = 16 << 20 // what bbolt looks for

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf's element
	noFreelist   = math.MaxUint64

	// A tree of this depth would hold more pages than a disk, as a page of a
	// tree has at least two children when bbolt writes it.
	maxDepth = 64
)

// span is a range of bytes of the file.
type span struct{ off, end int64 }

func (s span) len() int64 { return s.end - s.off }

// window reads a file through a buffer of fixed size, so that the memory which
// it takes does not depend on the sizes that the file speaks of.
type window struct {
	r     io.ReaderAt
	size  int64
	start int64
	valid []byte
	buf   [2 * maxRead]byte
}

const maxRead = 4 << 10

// at returns n bytes, at most maxRead. They are valid until the next call.
func (w *window) at(off int64, n int) ([]byte, error) {
	if off < 0 || n < 0 || n > maxRead || off > w.size-int64(n) {
		return nil, damaged("%d bytes at offset %d lie outside of the file", n, off)
	}
	if off < w.start || off+int64(n) > w.start+int64(len(w.valid)) {
		// Blocks, and not just what is asked for: entries are read backwards.
		w.start = off - off%maxRead
		buf := w.buf[:min(int64(len(w.buf)), w.size-w.start)]
		read, err := w.r.ReadAt(buf, w.start)
		w.valid = buf[:read]
		if read < len(buf) {
			w.valid = nil
			if err == nil || errors.Is(err, io.EOF) {
				return nil, damaged("it became shorter while it was read")
			}
			return nil, err
		}
	}
	return w.valid[off-w.start:][:n], nil
}

// bolt is a bolt file.
//
// It is read with ReadAt and checks of bounds, and not with bbolt: bbolt maps
// the file and follows the page numbers and offsets in it unchecked. On a
// damaged file that ends in a panic, in a fault or in a loop that never ends, and
// a recover stops only the first. Nor does bbolt let one see the pages that are
// free, which is where deleted data goes on to lie.
type bolt struct {
	index    window // headers and elements
	data     window // keys and values: apart, so that the two don't chase each other
	pageSize int64
	root     uint64 // page of the root bucket
	pages    uint64 // page numbers in use are below it
	total    uint64 // pages of the file: more than that, if it was grown ahead
	used     bitmap // pages that the trees have led to, and those that are not data
}

type bitmap []uint64

func (b bitmap) has(i uint64) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitmap) set(i uint64)      { b[i/64] |= 1 << (i % 64) }

// page is a page of a tree, or the one inside a bucket that is stored inline.
type page struct {
	span     // with the pages that it overflows to
	id       uint64
	flags    uint16
	count    int
	overflow uint64
}

// entry is a key and a value of a leaf.
type entry struct {
	bucket     bool
	key, value span
}

func openBolt(r io.ReaderAt, size int64) (*bolt, error) {
	b := &bolt{}
	b.index.r, b.index.size = r, size
	b.data.r, b.data.size = r, size
	m, err := b.findMeta()
	if err != nil {
		return nil, err
	}
	b.pageSize, b.root, b.pages = m.pageSize, m.root, m.pages
	b.total = uint64(size / b.pageSize) //nolint:gosec // sizes of files are not negative
	if b.pages < 3 || b.pages > b.total {
		return nil, damaged("it is cut off: it has %d pages of %d bytes and should have %d", b.total, b.pageSize, b.pages)
	}
	if size%b.pageSize != 0 {
		return nil, damaged("its %d bytes are no whole number of pages of %d bytes", size, b.pageSize)
	}
	b.used = make(bitmap, b.total/64+1)
	b.used.set(0)
	b.used.set(1)
	if m.freelist != noFreelist { // etcd on Linux writes none
		p, err := b.page(m.freelist)
		if err != nil {
			return nil, err
		}
		if p.flags != flagFreelist {
			return nil, damaged("page %d is no list of free pages", p.id)
		}
	}
	return b, nil
}

type meta struct {
	pageSize              int64
	root, freelist, pages uint64
	txid                  uint64
}

// findMeta returns the newer of the two meta pages: the state after the last
// transaction that was written completely.
func (b *bolt) findMeta() (meta, error) {
	var found []meta
	seen := false // that it is a bolt file, at least
	look := func(off int64) error {
		if off > b.index.size-headerSize-metaSize {
			return nil
		}
		raw, err := b.index.at(off+headerSize, metaSize)
		if err != nil {
			return err
		}
		magic := binary.LittleEndian.Uint32(raw)
		if magic == 0xEDDA0CED { // boltMagic, turned around
			return &hint.Error{What: "was written on a machine of the other byte order", Hint: "inspect it on a machine of that kind, such as the one that it was taken on"}
		}
		seen = seen || magic == boltMagic
		if m, ok := parseMeta(raw); ok && (off == 0 || m.pageSize == off) {
			found = append(found, m)
		}
		return nil
	}
	if err := look(0); err != nil {
		return meta{}, err
	}
	if len(found) > 0 {
		// Only there: anywhere else, a value could look like a meta page.
		if err := look(found[0].pageSize); err != nil {
			return meta{}, err
		}
	} else {
		for size := int64(minPageSize); size <= maxPageSize && len(found) == 0; size *= 2 {
			if err := look(size); err != nil {
				return meta{}, err
			}
		}
	}
	if len(found) == 0 {
		if seen {
			return meta{}, damaged("neither of its two meta pages is whole")
		}
		return meta{}, b.foreign()
	}
	newest := found[0]
	for _, m := range found[1:] {
		if m.txid > newest.txid {
			newest = m
		}
	}
	return newest, nil
}

func parseMeta(raw []byte) (meta, bool) {
	le := binary.LittleEndian
	sum := fnv.New64a()
	_, _ = sum.Write(raw[:56])
	m := meta{
		pageSize: int64(le.Uint32(raw[8:])),
		root:     le.Uint64(raw[16:]),
		freelist: le.Uint64(raw[32:]),
		pages:    le.Uint64(raw[40:]),
		txid:     le.Uint64(raw[48:]),
	}
	ok := le.Uint32(raw) == boltMagic && le.Uint32(raw[4:]) == boltVersion && le.Uint64(raw[56:]) == sum.Sum64() &&
		m.pageSize >= minPageSize && m.pageSize <= maxPageSize && m.pageSize&(m.pageSize-1) == 0
	return m, ok
}

// header reads a page's header. What it says is not checked.
func (b *bolt) header(id uint64) (page, error) {
	start := int64(id) * b.pageSize //nolint:gosec // id is below total, so that this is below the file's size
	return b.headerAt(span{start, start + b.pageSize})
}

func (b *bolt) headerAt(s span) (page, error) {
	raw, err := b.index.at(s.off, headerSize)
	if err != nil {
		return page{}, err
	}
	le := binary.LittleEndian
	return page{
		span:     s,
		id:       le.Uint64(raw),
		flags:    le.Uint16(raw[8:]),
		count:    int(le.Uint16(raw[10:])),
		overflow: uint64(le.Uint32(raw[12:])),
	}, nil
}

// page returns a page that is in use, and notes that it is. No page is in use
// twice: that, and that page numbers end, is why a walk ends.
func (b *bolt) page(id uint64) (page, error) {
	if id < 2 || id >= b.pages {
		return page{}, damaged("it refers to page %d, its pages are 2 to %d", id, b.pages-1)
	}
	p, err := b.header(id)
	if err != nil {
		return page{}, err
	}
	if p.id != id || p.overflow >= b.pages-id {
		return page{}, damaged("page %d has no valid header", id)
	}
	for i := id; i <= id+p.overflow; i++ {
		if b.used.has(i) {
			return page{}, damaged("page %d is in use twice", i)
		}
		b.used.set(i)
	}
	p.end += int64(p.overflow) * b.pageSize //nolint:gosec // below b.pages, and so below the file's size
	return p, nil
}

// walk visits the entries of the tree at a page, the last one first.
func (b *bolt) walk(id uint64, depth int, visit func(entry) error) error {
	p, err := b.page(id)
	if err != nil {
		return err
	}
	switch {
	case depth > maxDepth:
		return damaged("its tree is over %d levels deep", maxDepth)
	case p.flags == flagLeaf:
		return b.leaf(p, visit)
	case p.flags != flagBranch || p.count == 0:
		return damaged("page %d is no page of a tree", id)
	case p.table() > p.len():
		return damaged("page %d has %d children, for which it has no room", id, p.count)
	}
	for i := p.count - 1; i >= 0; i-- {
		raw, err := b.index.at(p.off+headerSize+elementSize*int64(i), elementSize)
		if err != nil {
			return err
		}
		if err := b.walk(binary.LittleEndian.Uint64(raw[8:]), depth+1, visit); err != nil {
			return err
		}
	}
	return nil
}

// leaf visits the entries of a leaf, the last one first.
func (b *bolt) leaf(p page, visit func(entry) error) error {
	if p.flags != flagLeaf || p.table() > p.len() {
		return damaged("page %d has %d entries, for which it has no room", p.id, p.count)
	}
	end := p.end
	for i := p.count - 1; i >= 0; i-- {
		e, err := b.entry(p, i, end)
		if err != nil {
			return err
		}
		end = e.key.off
		if err := visit(e); err != nil {
			return err
		}
	}
	return nil
}

// table is the length of what comes before the first key of a page.
func (p page) table() int64 { return headerSize + elementSize*int64(p.count) }

// entry reads an entry of a leaf, which ends where the next one begins or before.
// That they do not overlap keeps the work for a page below its size.
func (b *bolt) entry(p page, i int, end int64) (entry, error) {
	off := p.off + headerSize + elementSize*int64(i)
	raw, err := b.index.at(off, elementSize)
	if err != nil {
		return entry{}, err
	}
	le := binary.LittleEndian
	e := entry{bucket: le.Uint32(raw)&flagBucket != 0}
	e.key.off = off + int64(le.Uint32(raw[4:]))
	e.key.end = e.key.off + int64(le.Uint32(raw[8:]))
	e.value = span{e.key.end, e.key.end + int64(le.Uint32(raw[12:]))}
	if e.key.off < p.off+p.table() || e.value.end > end {
		return entry{}, damaged("page %d has an entry that lies outside of it or in another entry", p.id)
	}
	return e, nil
}

// bucket visits the entries of the bucket that is the value of an entry of the
// root.
func (b *bolt) bucket(value span, visit func(entry) error) error {
	root, inline, err := b.bucketHeader(value)
	if err != nil {
		return err
	}
	if root != 0 {
		return b.walk(root, 0, visit)
	}
	p, err := b.headerAt(inline)
	if err != nil {
		return err
	}
	return b.leaf(p, visit)
}

// bucketHeader returns the page of a bucket or, if that is 0, where the page lies
// that is stored in place of it.
func (b *bolt) bucketHeader(value span) (root uint64, inline span, err error) {
	if value.len() < bucketSize {
		return 0, span{}, damaged("a bucket of it has no header")
	}
	raw, err := b.data.at(value.off, bucketSize)
	if err != nil {
		return 0, span{}, err
	}
	root = binary.LittleEndian.Uint64(raw)
	inline = span{value.off + bucketSize, value.end}
	if root == 0 && inline.len() < headerSize {
		return 0, span{}, damaged("a bucket of it has no page")
	}
	return root, inline, nil
}

// isPage says whether a header is that of the page on which it lies.
func (p page) isPage(id uint64) bool {
	switch p.flags {
	case flagBranch, flagLeaf, flagMeta, flagFreelist:
		return p.id == id
	}
	return false
}

// isZero says whether a page holds nothing.
func (b *bolt) isZero(id uint64) (bool, error) {
	p, err := b.header(id)
	if err != nil {
		return false, err
	}
	for off := p.off; off < p.end; off += maxRead {
		n := int(min(maxRead, p.end-off))
		raw, err := b.index.at(off, n)
		if err != nil {
			return false, err
		}
		if !bytes.Equal(raw, zeros[:n]) {
			return false, nil
		}
	}
	return true, nil
}

var zeros [maxRead]byte

func damaged(format string, args ...any) error {
	return &hint.Error{
		What: "is damaged: " + fmt.Sprintf(format, args...),
		Hint: hintSnapshot,
	}
}
