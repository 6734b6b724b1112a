package kmsfake

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
)

const materialIDSize = 32

// material is one version of a KMS key's key material. It does not change once
// made, so any number of requests may use it at the same time.
type material struct {
	raw  [materialIDSize]byte
	id   string // raw in hex, as KMS names it
	gcm  cipher.AEAD
	bind []byte // what of the AAD is the same for every encryption context
}

func newMaterial(keyID string) *material {
	block, err := aes.NewCipher(randomBytes(32))
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	m := &material{raw: [materialIDSize]byte(randomBytes(materialIDSize)), gcm: gcm}
	m.id = hex.EncodeToString(m.raw[:])
	// The key ID and not the ARN: related multi-Region keys read each other's
	// ciphertext, and the key ID is what they share.
	m.bind = appendField(appendField(nil, keyID), m.id)
	return m
}

// A ciphertext is: material ID, sealed plaintext with its nonce ahead.
func (m *material) seal(plaintext []byte, context map[string]string) []byte {
	out := make([]byte, 0, len(m.raw)+len(plaintext)+m.gcm.Overhead())
	return m.gcm.Seal(append(out, m.raw[:]...), nil, plaintext, m.aad(context))
}

// open finds the material that sealed a ciphertext and undoes it.
func open(all []*material, blob []byte, context map[string]string) ([]byte, *material, bool) {
	for _, m := range all {
		rest, ok := bytes.CutPrefix(blob, m.raw[:])
		if !ok {
			continue
		}
		plaintext, err := m.gcm.Open(nil, nil, rest, m.aad(context))
		return plaintext, m, err == nil
	}
	return nil, nil, false
}

func (m *material) aad(context map[string]string) []byte {
	out := slices.Clip(m.bind)
	for _, name := range slices.Sorted(maps.Keys(context)) {
		out = appendField(appendField(out, name), context[name])
	}
	return out
}

// Each field carries its length, so that no two lists of fields look the same.
func appendField(to []byte, field string) []byte {
	to = binary.BigEndian.AppendUint32(to, uint32(len(field))) //nolint:gosec // a few kilobytes at most
	return append(to, field...)
}
