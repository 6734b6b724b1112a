package kmsplugin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
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
	return keyIDVersion + ":" + shortHash("key", identity(keyARN))
}

// identity is what is one and the same key: a multi-Region key has one key ID
// and one key material in all its Regions, so that a cluster restored in the
// Region of a replica can read its data under the replica's ARN.
func identity(keyARN string) string {
	if a, err := arn.Parse(keyARN); err == nil && multiRegion(a) {
		a.Region = ""
		return a.String()
	}
	return keyARN
}

// multiRegion: "mrk-" tells a multi-Region key's ID (KMS developer guide, "How
// multi-Region keys work").
func multiRegion(a arn.ARN) bool { return strings.HasPrefix(a.Resource, "key/mrk-") }

// isKeyARN tells the ARN of a key from that of an alias, and from other names of
// a key, which all may come to mean another key.
func isKeyARN(name string) bool {
	a, err := arn.Parse(name)
	return err == nil && a.Service == "kms" && strings.HasPrefix(a.Resource, "key/")
}

// inRegion names the same multi-Region key in another Region.
func inRegion(keyARN, region string) string {
	a, err := arn.Parse(keyARN)
	if err != nil {
		return keyARN
	}
	a.Region = region
	return a.String()
}

// matchesKeyID tells whether a plugin for the key with this prefix, now or
// before an earlier rotation, can have issued the key_id.
func matchesKeyID(prefix, id string) bool {
	rest, ok := strings.CutPrefix(id, prefix)
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

// keyIDHash is the API server's own form of a key_id in its metrics
// (key_id_hash in apiserver_envelope_encryption_*), so that the two can be
// joined.
func keyIDHash(id string) string {
	if id == "" {
		return ""
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(id)))
}

// legacyVersion is the byte that aws-encryption-provider puts ahead of the
// ciphertext of its KMS v2 service: KMSStorageVersionV2 in its
// pkg/kmsplugin/kms.go. The key_id beside it is its --key flag as it stood.
const legacyVersion = '1'

// legacyNames are what aws-encryption-provider's --key flag can have been for
// a key that is configured here as name and is the key of keyARN.
func legacyNames(name, keyARN string, more []string) []string {
	names := append([]string{name, keyARN}, more...)
	for _, n := range []string{name, keyARN} {
		if a, err := arn.Parse(n); err == nil {
			// KMS takes "alias/name" whole and a key's ID without "key/".
			names = append(names, strings.TrimPrefix(a.Resource, "key/"))
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(s string) bool { return s == "" })
}
