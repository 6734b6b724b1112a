package kmsplugin

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
)

// An envelope is what Encrypt hands out: a plaintext, sealed under a data key
// that is used once, beside that data key as AWS KMS wrapped it.
//
//	byte 0        the format, 2
//	bytes 1-2     n, the length of the wrapped data key, big endian
//	n bytes       the wrapped data key: CiphertextBlob of kms:GenerateDataKey
//	12 bytes      nonce
//	the rest      AES-256-GCM of the plaintext, with its tag of 16 bytes
//
// The additional data binds it to all that it belongs to: see additionalData. A
// change of the format needs a new version, here and in the key_id.
const (
	envelopeFormat  = 2
	envelopeHeader  = 3
	dataKeySize     = 32
	envelopeAdds    = 12 + 16 // nonce and tag
	maxWrappedKey   = 448     // KMS's own is 184 bytes for a key of 32 (inferred from published examples)
	envelopePurpose = "ekskms/envelope/2"

	// maxPlaintext keeps every envelope under the 1,024 bytes that the API
	// server takes (k8s.io/apiserver, encryptedDEKSourceMaxSize). Its seeds have
	// 32 bytes.
	maxPlaintext  = 512
	maxCiphertext = 1024
)

// binding is what an envelope belongs to, besides the wrapped key in it.
type binding struct {
	keyARN            string
	keyID             string
	encryptionContext [sha256.Size]byte // its digest
}

// additionalData is a list of fields, each with its length ahead of it in four
// bytes, so that no two lists look the same: purpose and version, the key's ARN
// (of a multi-Region key without the Region, as all its replicas are one key),
// the key_id, the digest of the encryption context, the wrapped key.
func (b binding) additionalData(wrapped []byte) []byte {
	return appendFields(make([]byte, 0, 512+len(wrapped)), envelopePurpose, identity(b.keyARN), b.keyID, string(b.encryptionContext[:]), string(wrapped))
}

func appendFields(to []byte, fields ...string) []byte {
	for _, f := range fields {
		to = binary.BigEndian.AppendUint32(to, uint32(len(f))) //nolint:gosec // under 4 GiB: ARNs, names and a kilobyte of ciphertext
		to = append(to, f...)
	}
	return to
}

// contextDigest is SHA-256 over the names and values of an encryption context, in
// the order of the names, each with its length ahead of it. The context itself
// need not travel, and must not be read off.
func contextDigest(encryptionContext map[string]string) [sha256.Size]byte {
	var out []byte
	for _, name := range slices.Sorted(maps.Keys(encryptionContext)) {
		out = appendFields(out, name, encryptionContext[name])
	}
	return sha256.Sum256(out)
}

// dataKey is a key that AWS KMS has generated and wrapped.
type dataKey struct {
	plain      []byte
	wrapped    []byte
	materialID string // "" where KMS names none
}

// wipe overwrites the plain key. The SDK's own copies, of the answer's text, are
// left to the garbage collector.
func (d dataKey) wipe() { clear(d.plain) }

// seal makes an envelope.
func (d dataKey) seal(b binding, plaintext []byte) ([]byte, error) {
	gcm, err := randomNonceGCM(d.plain)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, envelopeHeader+len(d.wrapped)+envelopeAdds+len(plaintext))
	out = append(out, envelopeFormat)
	out = binary.BigEndian.AppendUint16(out, uint16(len(d.wrapped))) //nolint:gosec // at most maxWrappedKey
	out = append(out, d.wrapped...)
	return gcm.Seal(out, nil, plaintext, b.additionalData(d.wrapped)), nil
}

// splitEnvelope takes the wrapped key out of an envelope.
func splitEnvelope(envelope []byte) (wrapped, sealed []byte, ok bool) {
	if len(envelope) < envelopeHeader || envelope[0] != envelopeFormat {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(envelope[1:]))
	rest := envelope[envelopeHeader:]
	if n == 0 || n > maxWrappedKey || len(rest) < n+envelopeAdds+1 {
		return nil, nil, false
	}
	return rest[:n], rest[n:], true
}

// openEnvelope is seal's counterpart, for the plain key that KMS unwrapped.
func openEnvelope(plain []byte, b binding, wrapped, sealed []byte) ([]byte, error) {
	gcm, err := randomNonceGCM(plain)
	if err != nil {
		return nil, err
	}
	return gcm.Open(nil, nil, sealed, b.additionalData(wrapped))
}

// randomNonceGCM draws the nonce itself, which is what FIPS 140-3 asks for. Each
// key seals one plaintext, so no nonce can come twice.
func randomNonceGCM(key []byte) (cipher.AEAD, error) {
	if len(key) != dataKeySize {
		return nil, errors.New("a data key has 32 bytes")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
