package kmsplugin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// A key_id is v2:<key>:<material>, or v2:<key> where KMS names no material.
// Both parts are hashes: key_id is stored in plain text beside every object in
// etcd and shows up in metrics, where account numbers have no business. 128 bits
// are enough, as nobody who could choose the inputs would gain by a collision.
//
// The version tells what the ciphertext beside it is: an envelope, or of v1 what
// kms:Encrypt made of the seed itself, which is still read.
const (
	keyIDVersion    = "v2"
	keyIDDirect     = "v1"
	keyIDHashDomain = "ekskms/v1/" // the hashes are those of v1
	keyIDHashLen    = 32           // hex digits
	maxKeyIDLen     = 1024
	keyIDSeparator  = ":"
)

func keyID(keyARN, materialID string) string {
	id := keyIDVersion + keyIDSeparator + keyName(keyARN)
	if materialID != "" {
		id += keyIDSeparator + materialName(materialID)
	}
	return id
}

// keyName and materialName are the parts of a key_id.
func keyName(keyARN string) string          { return shortHash("key", identity(keyARN)) }
func materialName(materialID string) string { return shortHash("material", materialID) }

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

// parseKeyID takes a key_id apart that this plugin can have issued, now or before
// an earlier rotation. material is "" where it names none.
func parseKeyID(id string) (version, key, material string, ok bool) {
	parts := strings.Split(id, keyIDSeparator)
	if len(parts) < 2 || len(parts) > 3 || parts[0] != keyIDVersion && parts[0] != keyIDDirect || !isHash(parts[1]) {
		return "", "", "", false
	}
	if len(parts) == 3 {
		if material = parts[2]; !isHash(material) {
			return "", "", "", false
		}
	}
	return parts[0], parts[1], material, true
}

func isHash(s string) bool {
	return len(s) == keyIDHashLen && strings.Trim(s, "0123456789abcdef") == ""
}

// shortHash keeps the kinds of input apart, so that no ARN can be mistaken for
// a material.
func shortHash(kind, s string) string {
	sum := sha256.Sum256([]byte(keyIDHashDomain + kind + "\x00" + s))
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
