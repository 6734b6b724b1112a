package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ekskms/ekskms/internal/hint"
)

// Kind is the way in which an object is stored.
type Kind string

// The kinds of storage.
const (
	// Clear is an object as the API server writes it without encryption: JSON,
	// protobuf or CBOR.
	Clear Kind = "clear"
	// Unknown is anything else that is not recognized, such as encryption of
	// another kind or a value that is damaged. It counts as not encrypted.
	Unknown Kind = "unknown"
	// KMSv2 is encrypted with KMS v2.
	KMSv2 Kind = "kms-v2"
	// KMSv1 is encrypted with KMS v1.
	KMSv1 Kind = "kms-v1"
	// AESCBC is encrypted with a local key.
	AESCBC Kind = "aescbc"
	// AESGCM is encrypted with a local key.
	AESGCM Kind = "aesgcm"
	// Secretbox is encrypted with a local key.
	Secretbox Kind = "secretbox"
)

// Storage says how an object is stored. It holds nothing of the object.
type Storage struct {
	Kind Kind `json:"kind"`
	// Provider is the provider's name in the EncryptionConfiguration. Only of
	// KMSv1 and KMSv2.
	Provider string `json:"provider,omitempty"`
	// KeyID is the key_id that the plugin gave, up to 1024 bytes. Only of KMSv2.
	KeyID string `json:"keyID,omitempty"`
	// KeyName is the key's name in the EncryptionConfiguration. Only of AESCBC,
	// AESGCM and Secretbox.
	KeyName string `json:"keyName,omitempty"`
	// Detail says what is known of an Unknown one.
	Detail string `json:"detail,omitempty"`
}

// Encrypted says whether the object is encrypted by Kubernetes, as far as one can
// see without the key: the form is right.
func (s Storage) Encrypted() bool {
	switch s.Kind {
	case KMSv2, KMSv1, AESCBC, AESGCM, Secretbox:
		return true
	}
	return false
}

// String returns a text of one line, without control characters.
func (s Storage) String() string {
	switch s.Kind {
	case Clear:
		return "in the clear"
	case KMSv2:
		return fmt.Sprintf("kms v2, provider %s, key_id %s", Printable(s.Provider), Printable(s.KeyID))
	case KMSv1:
		return "kms v1, provider " + Printable(s.Provider)
	case Unknown:
		return "not encrypted as far as known: " + s.Detail
	}
	return fmt.Sprintf("%s, key %s", s.Kind, Printable(s.KeyName))
}

// Printable returns a name as it is, or quoted if a terminal could take it for
// something else. Names in a file are whatever somebody wrote into it.
func Printable(s string) string {
	if q := strconv.QuoteToASCII(s); s == "" || q[1:len(q)-1] != s || strings.ContainsAny(s, " ,") {
		return q
	}
	return s
}

// The prefixes, from k8s.io/apiserver v0.36 pkg/server/options/encryptionconfig,
// each followed by the name of the provider or key and a colon. least is the
// number of bytes that follow that at least.
var providers = []struct {
	prefix string
	kind   Kind
	least  int64
}{
	{"k8s:enc:kms:v2:", KMSv2, 1},                 // looked at further
	{"k8s:enc:kms:v1:", KMSv1, 2 + 1 + 16 + 16},   // length of the DEK, DEK, IV, a block
	{"k8s:enc:aescbc:v1:", AESCBC, 16 + 16},       // IV, a block
	{"k8s:enc:aesgcm:v1:", AESGCM, 12 + 16},       // nonce, tag
	{"k8s:enc:secretbox:v1:", Secretbox, 24 + 16}, // nonce, overhead
}

const (
	encPrefix = "k8s:enc:"
	// A name in an EncryptionConfiguration has no limit. This is more than
	// anybody writes.
	maxName = 512
)

// Limits of a KMS v2 value: k8s.io/apiserver v0.36
// pkg/storage/value/encrypt/envelope/kmsv2.
const (
	maxKeyID     = 1 << 10
	maxDEKSource = 1 << 10
	minGCM       = 12 + 16
)

// interner keeps one copy of each name, for as many as there can be groups.
type interner map[string]string

func (n interner) get(b []byte) string {
	if s, ok := n[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(n) < maxGroups {
		n[s] = s
	}
	return s
}

func unknown(detail string) Storage { return Storage{Kind: Unknown, Detail: detail} }

// classify says how the value is stored that lies at a place of a file.
func classify(w *window, value span, names interner) (Storage, error) {
	head, err := w.at(value.off, int(min(value.len(), 64+maxName)))
	if err != nil {
		return Storage{}, err
	}
	if !bytes.HasPrefix(head, []byte(encPrefix)) {
		return plain(head), nil
	}
	for _, p := range providers {
		rest, ok := bytes.CutPrefix(head, []byte(p.prefix))
		if !ok {
			continue
		}
		// Names of KMS v2 hold no colon. Others could: then they are cut here.
		end := bytes.IndexByte(rest, ':')
		if end < 0 || end > maxName || !isName(rest[:end]) {
			return unknown(p.prefix + " without a valid name"), nil
		}
		name := names.get(rest[:end])
		body := span{value.off + int64(len(p.prefix)+end+1), value.end}
		if body.len() < p.least {
			return unknown(p.prefix + " without a ciphertext"), nil
		}
		switch p.kind {
		case KMSv2:
			return kmsV2(w, body, name, names)
		case KMSv1:
			return Storage{Kind: KMSv1, Provider: name}, nil
		}
		return Storage{Kind: p.kind, KeyName: name}, nil
	}
	if scheme := schemeName.Find(head); scheme != nil {
		return unknown(names.get(scheme) + ", which this version does not know"), nil
	}
	return unknown(encPrefix + " without the name of a scheme"), nil
}

// schemeName is strict, as what it matches is printed: it must not be content.
var schemeName = regexp.MustCompile(`^k8s:enc:[a-z0-9]{1,16}:v[0-9]{1,2}:`)

// plain tells the formats apart that the API server stores: k8s.io/apimachinery
// pkg/runtime/serializer json, protobuf and cbor.
func plain(head []byte) Storage {
	switch {
	case len(head) == 0:
		return unknown("an empty value")
	case head[0] == '{', bytes.HasPrefix(head, []byte("k8s\x00")), bytes.HasPrefix(head, []byte("\xd9\xd9\xf7")):
		return Storage{Kind: Clear}
	}
	return unknown("no format that Kubernetes stores")
}

// kmsV2 reads the message EncryptedObject of k8s.io/apiserver v0.36
// pkg/storage/value/encrypt/envelope/kmsv2/v2/api.proto.
func kmsV2(w *window, body span, provider string, names interner) (Storage, error) {
	var data, keyID, source span
	var sourceType uint64
	for body.len() > 0 {
		f, rest, err := w.field(body)
		if errors.Is(err, errMessage) {
			return unknown("k8s:enc:kms:v2: with a damaged message"), nil
		}
		if err != nil {
			return Storage{}, err
		}
		switch {
		case f.num == 1 && f.typ == protowire.BytesType:
			data = f.body
		case f.num == 2 && f.typ == protowire.BytesType:
			keyID = f.body
		case f.num == 3 && f.typ == protowire.BytesType:
			source = f.body
		case f.num == 5 && f.typ == protowire.VarintType:
			sourceType = f.varint
		}
		body = rest
	}
	switch {
	case data.len() < minGCM:
		return unknown("k8s:enc:kms:v2: without a ciphertext"), nil
	case source.len() < 1 || source.len() > maxDEKSource || sourceType > 1:
		return unknown("k8s:enc:kms:v2: without a valid DEK source"), nil
	case keyID.len() < 1 || keyID.len() > maxKeyID:
		return unknown("k8s:enc:kms:v2: without a valid key_id"), nil
	}
	id, err := w.at(keyID.off, int(keyID.len()))
	if err != nil {
		return Storage{}, err
	}
	if !isName(id) {
		return unknown("k8s:enc:kms:v2: without a valid key_id"), nil
	}
	return Storage{Kind: KMSv2, Provider: provider, KeyID: names.get(id)}, nil
}

// isName is stricter than Kubernetes, where these names may be any text: where one
// is damaged, what follows it must not be printed as a part of it.
func isName(b []byte) bool {
	return utf8.Valid(b) && !bytes.ContainsFunc(b, func(r rune) bool { return !unicode.IsPrint(r) })
}

// field is a field of a protobuf message.
type field struct {
	num    protowire.Number
	typ    protowire.Type
	varint uint64
	body   span // of BytesType
}

var errMessage = errors.New("not a protobuf message of the expected kind")

// field reads the first field of a message and returns where the next one begins.
// It passes over the content, so that it costs the same for values of any size.
func (w *window) field(s span) (field, span, error) {
	const most = 2 * 10 // a tag and a length, or a tag and a number
	b, err := w.at(s.off, int(min(s.len(), most)))
	if err != nil {
		return field{}, span{}, err
	}
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return field{}, span{}, errMessage
	}
	f := field{num: num, typ: typ}
	switch typ {
	case protowire.VarintType:
		v, m := protowire.ConsumeVarint(b[n:])
		if m < 0 {
			return field{}, span{}, errMessage
		}
		f.varint = v
		return f, span{s.off + int64(n+m), s.end}, nil
	case protowire.BytesType:
		v, m := protowire.ConsumeVarint(b[n:])
		start := s.off + int64(n+m)
		if m < 0 || v > uint64(s.end-start) { //nolint:gosec // start was read from s
			return field{}, span{}, errMessage
		}
		f.body = span{start, start + int64(v)} //nolint:gosec // checked above
		return f, span{f.body.end, s.end}, nil
	}
	// No message that is read here has fields of other types.
	return field{}, span{}, errMessage
}

// maxValue is above what etcd accepts in a request: 1.5 MiB unless
// --max-request-bytes says otherwise, for which 10 MiB is the recommended limit.
const maxValue = 64 << 20

// Value says how one value is stored that was read from etcd, up to 64 MiB. It
// may end in the newline that 'etcdctl get --print-value-only' adds.
func Value(r io.Reader) (Storage, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxValue+1))
	if err != nil {
		return Storage{}, err
	}
	get := "read it with: etcdctl get --print-value-only KEY"
	switch {
	case len(bytes.TrimSpace(raw)) == 0:
		return Storage{}, &hint.Error{What: "is empty: there is no such key, or no value was read", Hint: get}
	case len(raw) > maxValue:
		return Storage{}, &hint.Error{What: fmt.Sprintf("is over %d MiB: that is no value of etcd", maxValue>>20), Hint: "inspect a snapshot without --value"}
	case raw[0] == '/':
		return Storage{}, &hint.Error{What: "begins with a key of etcd", Hint: get}
	case bytes.HasPrefix(raw, []byte(`{"header":{"cluster_id"`)):
		return Storage{}, &hint.Error{What: "is an answer of etcd in JSON", Hint: get}
	case len(raw) > headerSize+4 && bytes.Equal(raw[headerSize:headerSize+4], []byte{0xED, 0xDA, 0x0C, 0xED}):
		return Storage{}, &hint.Error{What: "is a snapshot and no value", Hint: "leave --value out"}
	}
	s, err := classifyBytes(raw)
	if trimmed, ok := bytes.CutSuffix(raw, []byte("\n")); ok && err == nil && s.Kind == Unknown {
		// Not the other way round: a ciphertext may end in that byte as well.
		if t, err := classifyBytes(trimmed); err != nil || t.Kind != Unknown {
			return t, err
		}
	}
	return s, err
}

func classifyBytes(raw []byte) (Storage, error) {
	w := &window{r: bytes.NewReader(raw), size: int64(len(raw))}
	return classify(w, span{0, w.size}, interner{})
}
