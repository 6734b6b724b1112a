package kmsplugin

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// A key_id is v1:<key>:<material>, or v1:<key> where KMS names no material.
// Both parts are hashes: key_id is stored in plain text beside every object in
// etcd and shows up in metrics, where account numbers have no business. 128 bits
// are enough, as nobody who could choose the inputs would gain by a collision.
const (
	keyIDVersion = "v1"
	keyIDHashLen = 32 // hex digits
	maxKeyIDLen  = 1024
)

func keyID(keyARN, materialID string) string {
	id := keyIDPrefix(keyARN)
	if materialID != "" {
		id += ":" + shortHash("material", materialID)
	}
	return id
}

func keyIDPrefix(keyARN string) string {
	return keyIDVersion + ":" + shortHash("key", keyARN)
}

// ownKeyID tells whether a plugin for this key, now or before an earlier
// rotation, can have issued the key_id.
func ownKeyID(keyARN, id string) bool {
	if len(id) > maxKeyIDLen {
		return false
	}
	rest, ok := strings.CutPrefix(id, keyIDPrefix(keyARN))
	if !ok || rest == "" {
		return ok
	}
	material, ok := strings.CutPrefix(rest, ":")
	return ok && len(material) == keyIDHashLen && strings.Trim(material, "0123456789abcdef") == ""
}

// shortHash keeps the kinds of input apart, so that no ARN can be mistaken for
// a material.
func shortHash(kind, s string) string {
	sum := sha256.Sum256([]byte("ekskms/" + keyIDVersion + "/" + kind + "\x00" + s))
	return hex.EncodeToString(sum[:])[:keyIDHashLen]
}
