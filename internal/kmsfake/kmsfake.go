// Package kmsfake is a small AWS KMS for tests. It speaks KMS's own JSON
// protocol over HTTP, so that the real AWS SDK is what is tested against it,
// and its ciphertext is authenticated: key, key material and encryption context
// are bound to it, and one flipped bit makes it unreadable.
//
// It checks no signatures and must never leave a test.
package kmsfake

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Key states, as DescribeKey names them.
const (
	Enabled         = "Enabled"
	Disabled        = "Disabled"
	PendingDeletion = "PendingDeletion"
)

// Error is an answer in place of the right one: an HTTP status and a KMS error
// code such as ThrottlingException.
type Error struct {
	Status  int // 0 is 400
	Code    string
	Message string
}

// Call is one request as it arrived.
type Call struct {
	Op        string // Encrypt, Decrypt or DescribeKey
	KeyID     string
	Context   map[string]string
	RequestID string
}

// Server is the fake. The zero value is not usable: call New.
type Server struct {
	region string

	mu      sync.Mutex
	keys    map[string]*Key // by ARN
	calls   []Call
	before  func(op string)
	errs    map[string]*Error
	context map[string]string
	hidden  []string
}

// Key is one symmetric key.
type Key struct {
	// ARN never changes.
	ARN string

	srv       *Server
	state     string
	materials []material // oldest first
}

type material struct {
	id  [32]byte
	gcm cipher.AEAD
}

// New makes an empty KMS of a region.
func New(region string) *Server {
	return &Server{region: region, keys: map[string]*Key{}, errs: map[string]*Error{}}
}

// NewKey adds an enabled key with its first material.
func (s *Server) NewKey() *Key {
	id := randomBytes(16)
	k := &Key{
		ARN: fmt.Sprintf("arn:aws:kms:%s:111122223333:key/%x-%x-%x-%x-%x",
			s.region, id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
		srv:       s,
		state:     Enabled,
		materials: []material{newMaterial()},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[k.ARN] = k
	return k
}

// Rotate gives the key new material; the old one still decrypts.
func (k *Key) Rotate() {
	k.srv.mu.Lock()
	defer k.srv.mu.Unlock()
	k.materials = append(k.materials, newMaterial())
}

// SetState moves the key to another state.
func (k *Key) SetState(state string) {
	k.srv.mu.Lock()
	defer k.srv.mu.Unlock()
	k.state = state
}

// MaterialID is what DescribeKey calls CurrentKeyMaterialId.
func (k *Key) MaterialID() string {
	k.srv.mu.Lock()
	defer k.srv.mu.Unlock()
	return k.current().ID()
}

func (k *Key) current() material { return k.materials[len(k.materials)-1] }

// Before has f called ahead of every request, outside of the server's lock: f
// may rotate keys, wait, or change states.
func (s *Server) Before(f func(op string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// Fail makes an operation ("*" for every one) answer with an error until it is
// called again with nil.
func (s *Server) Fail(op string, e *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs[op] = e
}

// RequireContext denies Encrypt and Decrypt under any other encryption context,
// as a key policy with kms:EncryptionContext conditions does.
func (s *Server) RequireContext(c map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.context = c
}

// HideMaterialIDs leaves material IDs out of the answers to these operations,
// and of no others, as endpoints that are older than on-demand rotation do.
func (s *Server) HideMaterialIDs(ops ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden = slices.Clone(ops)
}

// Calls returns what has arrived so far.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Blobs travel as base64, which encoding/json does for byte slices.
type request struct {
	KeyID             string            `json:"KeyId"`
	Plaintext         []byte            `json:"Plaintext"`
	CiphertextBlob    []byte            `json:"CiphertextBlob"`
	EncryptionContext map[string]string `json:"EncryptionContext"`
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	requestID := hex.EncodeToString(randomBytes(16))
	w.Header().Set("x-amzn-RequestId", requestID)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	var req request
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&req); err != nil || !ok {
		writeError(w, &Error{Code: "SerializationException", Message: "not a KMS request"})
		return
	}

	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		before(op)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, Call{Op: op, KeyID: req.KeyID, Context: maps.Clone(req.EncryptionContext), RequestID: requestID})
	answer, fault := s.handle(op, req)
	if fault != nil {
		writeError(w, fault)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *Server) handle(op string, req request) (map[string]any, *Error) {
	for _, name := range []string{op, "*"} {
		if e := s.errs[name]; e != nil {
			return nil, e
		}
	}
	if op == "Decrypt" && req.KeyID == "" {
		// KMS would find the key in the ciphertext. A caller that relies on
		// that would decrypt under any key that its role may use.
		return nil, &Error{Code: "ValidationException", Message: "kmsfake wants KeyId to be pinned"}
	}
	k := s.keys[req.KeyID]
	if k == nil {
		return nil, &Error{Code: "NotFoundException", Message: "no such key"}
	}
	if op == "DescribeKey" {
		m := map[string]any{
			"Arn": k.ARN, "KeyId": k.ARN[strings.LastIndex(k.ARN, "/")+1:], "AWSAccountId": "111122223333",
			"Enabled": k.state == Enabled, "KeyState": k.state, "KeyUsage": "ENCRYPT_DECRYPT",
			"KeySpec": "SYMMETRIC_DEFAULT", "KeyManager": "CUSTOMER", "Origin": "AWS_KMS",
		}
		if !slices.Contains(s.hidden, op) {
			m["CurrentKeyMaterialId"] = k.current().ID()
		}
		return map[string]any{"KeyMetadata": m}, nil
	}

	switch k.state {
	case Enabled:
	case Disabled:
		return nil, &Error{Code: "DisabledException", Message: k.ARN + " is disabled."}
	default:
		return nil, &Error{Code: "KMSInvalidStateException", Message: k.ARN + " is pending deletion."}
	}
	if s.context != nil && !maps.Equal(s.context, req.EncryptionContext) {
		return nil, &Error{Code: "AccessDeniedException", Message: "User is not authorized to perform: kms:" + op}
	}
	answer := map[string]any{"KeyId": k.ARN, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
	switch op {
	case "Encrypt":
		if n := len(req.Plaintext); n == 0 || n > 4096 {
			return nil, &Error{Code: "ValidationException", Message: "plaintext must have 1 to 4096 bytes"}
		}
		answer["CiphertextBlob"] = k.seal(req.Plaintext, req.EncryptionContext)
	case "Decrypt":
		plaintext, m, ok := k.open(req.CiphertextBlob, req.EncryptionContext)
		if !ok {
			for _, other := range s.keys {
				if _, _, ok := other.open(req.CiphertextBlob, req.EncryptionContext); ok {
					return nil, &Error{Code: "IncorrectKeyException", Message: "encrypted under another key"}
				}
			}
			return nil, &Error{Code: "InvalidCiphertextException"}
		}
		answer["Plaintext"] = plaintext
		if !slices.Contains(s.hidden, op) {
			answer["KeyMaterialId"] = m.ID()
		}
	default:
		return nil, &Error{Code: "UnknownOperationException", Message: op}
	}
	return answer, nil
}

// A ciphertext is: material ID, nonce, sealed plaintext.
func (k *Key) seal(plaintext []byte, context map[string]string) []byte {
	m := k.current()
	out := append(m.id[:], randomBytes(m.gcm.NonceSize())...)
	return m.gcm.Seal(out, out[len(m.id):], plaintext, k.aad(m, context))
}

func (k *Key) open(blob []byte, context map[string]string) ([]byte, material, bool) {
	for _, m := range k.materials {
		rest, ok := strings.CutPrefix(string(blob), string(m.id[:]))
		if !ok || len(rest) < m.gcm.NonceSize() {
			continue
		}
		nonce, sealed := rest[:m.gcm.NonceSize()], rest[m.gcm.NonceSize():]
		plaintext, err := m.gcm.Open(nil, []byte(nonce), []byte(sealed), k.aad(m, context))
		return plaintext, m, err == nil
	}
	return nil, material{}, false
}

func (k *Key) aad(m material, context map[string]string) []byte {
	parts := []string{k.ARN, m.ID()}
	for _, name := range slices.Sorted(maps.Keys(context)) {
		parts = append(parts, name, context[name])
	}
	var out []byte
	for _, p := range parts {
		out = binary.BigEndian.AppendUint32(out, uint32(len(p))) //nolint:gosec // a few kilobytes at most
		out = append(out, p...)
	}
	return out
}

func (m material) ID() string { return hex.EncodeToString(m.id[:]) }

func newMaterial() material {
	block, err := aes.NewCipher(randomBytes(32))
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return material{id: [32]byte(randomBytes(32)), gcm: gcm}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}

func writeError(w http.ResponseWriter, e *Error) {
	status := e.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": e.Code, "message": e.Message})
}
