package inspect

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ekskms/ekskms/internal/hint"
)

// secret is in every value of the tests, also where a ciphertext would be: it must
// not be seen anywhere.
const secret = "TOP-SECRET-b64-VE9QLVNFQ1JFVA"

// What the API server stores without encryption.
const (
	clearJSON     = `{"kind":"Secret","apiVersion":"v1","data":{"password":"` + secret + `"}}`
	clearProtobuf = "k8s\x00\n\x0c\n\x02v1\x12\x06Secret" + secret
	clearCBOR     = "\xd9\xd9\xf7\xa1Dkind" + secret
)

// encrypted returns a value as a KMS v2 provider stores it, with a random-looking
// text in place of the ciphertext.
func encrypted(provider, keyID string) string {
	return "k8s:enc:kms:v2:" + provider + ":" + encryptedObject(func(num protowire.Number) string {
		return map[protowire.Number]string{1: strings.Repeat(secret, 3), 2: keyID, 3: "encrypted seed"}[num]
	})
}

// encryptedObject writes the fields in the order in which the API server does.
func encryptedObject(field func(protowire.Number) string) string {
	var m []byte
	for num := protowire.Number(1); num <= 3; num++ {
		if v := field(num); v != "" {
			m = protowire.AppendTag(m, num, protowire.BytesType)
			m = protowire.AppendString(m, v)
		}
	}
	// An annotation, and HKDF_SHA256_XNONCE_AES_GCM_SEED.
	m = protowire.AppendTag(m, 4, protowire.BytesType)
	m = protowire.AppendString(m, "\n\x04a.io\x12\x01x")
	m = protowire.AppendTag(m, 5, protowire.VarintType)
	return string(protowire.AppendVarint(m, 1))
}

func TestValue(t *testing.T) {
	without := func(missing protowire.Number) string {
		return "k8s:enc:kms:v2:p:" + encryptedObject(func(num protowire.Number) string {
			if num == missing {
				return ""
			}
			return strings.Repeat("x", 60)
		})
	}
	withField := func(n protowire.Number, value string) string {
		return "k8s:enc:kms:v2:p:" + encryptedObject(func(num protowire.Number) string {
			if num == n {
				return value
			}
			return strings.Repeat("x", 60)
		})
	}
	good := encrypted("kms-plugin", "v1:7c9e:41aa")
	for _, tc := range []struct {
		name  string
		value string
		want  string
	}{
		{"JSON", clearJSON, "in the clear"},
		{"protobuf", clearProtobuf, "in the clear"},
		{"CBOR", clearCBOR, "in the clear"},
		{"kms v2", good, "kms v2, provider kms-plugin, key_id v1:7c9e:41aa"},
		{"kms v2 with an ARN for a key_id", encrypted("aws", "arn:aws:kms:eu-central-1:111122223333:key/1234"),
			"kms v2, provider aws, key_id arn:aws:kms:eu-central-1:111122223333:key/1234"},
		{"kms v2 with a long key_id", withField(2, strings.Repeat("k", 1024)), "kms v2, provider p, key_id " + strings.Repeat("k", 1024)},
		{"kms v1", "k8s:enc:kms:v1:old:\x00\x04dek." + strings.Repeat("x", 32), "kms v1, provider old"},
		{"aescbc", "k8s:enc:aescbc:v1:key1:" + strings.Repeat("x", 32), "aescbc, key key1"},
		{"aesgcm", "k8s:enc:aesgcm:v1:key1:" + strings.Repeat("x", 28), "aesgcm, key key1"},
		{"secretbox", "k8s:enc:secretbox:v1:key1:" + strings.Repeat("x", 40), "secretbox, key key1"},
		{"names of more than one word", encrypted("a b", "key,é"), `kms v2, provider "a b", key_id "key,\u00e9"`},

		// Everything else is named, and not encrypted.
		{"another scheme", "k8s:enc:aessiv:v3:key:" + secret, "not encrypted as far as known: k8s:enc:aessiv:v3:, which this version does not know"},
		{"another version", "k8s:enc:kms:v3:p:" + secret, "not encrypted as far as known: k8s:enc:kms:v3:, which this version does not know"},
		{"a prefix and no scheme", "k8s:enc:" + secret, "not encrypted as far as known: k8s:enc: without the name of a scheme"},
		{"not what Kubernetes stores", secret, "not encrypted as far as known: no format that Kubernetes stores"},
		{"JSON after the prefix of kms v2", "k8s:enc:kms:v2:p:" + clearJSON, "not encrypted as far as known: k8s:enc:kms:v2: with a damaged message"},
		{"kms v2 that is cut off", good[:len(good)/2], "not encrypted as far as known: k8s:enc:kms:v2: with a damaged message"},
		{"kms v2 without a provider's end", "k8s:enc:kms:v2:" + strings.Repeat("p", 600), "not encrypted as far as known: k8s:enc:kms:v2: without a valid name"},
		{"a provider that is no name", encrypted("\x1b[2J", "k"), "not encrypted as far as known: k8s:enc:kms:v2: without a valid name"},
		{"a key_id that is no name", encrypted("p", "a\nb"), "not encrypted as far as known: k8s:enc:kms:v2: without a valid key_id"},
		{"a key's name that runs into the ciphertext", "k8s:enc:aescbc:v1:key1\xff\x01\x02:" + strings.Repeat("x", 32), "not encrypted as far as known: k8s:enc:aescbc:v1: without a valid name"},
		{"kms v2 without anything", "k8s:enc:kms:v2:p:", "not encrypted as far as known: k8s:enc:kms:v2: without a ciphertext"},
		{"kms v2 without a ciphertext", without(1), "not encrypted as far as known: k8s:enc:kms:v2: without a ciphertext"},
		{"kms v2 with less than a nonce and a tag", withField(1, strings.Repeat("x", 27)), "not encrypted as far as known: k8s:enc:kms:v2: without a ciphertext"},
		{"kms v2 without a key_id", without(2), "not encrypted as far as known: k8s:enc:kms:v2: without a valid key_id"},
		{"kms v2 with too long a key_id", withField(2, strings.Repeat("k", 1025)), "not encrypted as far as known: k8s:enc:kms:v2: without a valid key_id"},
		{"kms v2 without a DEK source", without(3), "not encrypted as far as known: k8s:enc:kms:v2: without a valid DEK source"},
		{"kms v2 with a DEK source of no known type", good[:len(good)-1] + "\x02", "not encrypted as far as known: k8s:enc:kms:v2: without a valid DEK source"},
		{"kms v1 without a ciphertext", "k8s:enc:kms:v1:old:x", "not encrypted as far as known: k8s:enc:kms:v1: without a ciphertext"},
		{"aescbc without a ciphertext", "k8s:enc:aescbc:v1:key1:" + strings.Repeat("x", 31), "not encrypted as far as known: k8s:enc:aescbc:v1: without a ciphertext"},
		{"aesgcm without a ciphertext", "k8s:enc:aesgcm:v1:key1:" + strings.Repeat("x", 27), "not encrypted as far as known: k8s:enc:aesgcm:v1: without a ciphertext"},
		{"secretbox without a ciphertext", "k8s:enc:secretbox:v1:key1:" + strings.Repeat("x", 39), "not encrypted as far as known: k8s:enc:secretbox:v1: without a ciphertext"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Value(strings.NewReader(tc.value))
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if clearly := strings.HasPrefix(tc.want, "in the clear") || strings.HasPrefix(tc.want, "not encrypted"); got.Encrypted() == clearly {
				t.Errorf("Encrypted is %t", got.Encrypted())
			}
			if strings.Contains(got.String()+got.Detail, secret) {
				t.Error("it shows content")
			}
		})
	}
}

// TestValueNewline: etcdctl adds a newline to a value. It changes nothing, and
// neither is a byte lost that is a newline and part of the value.
func TestValueNewline(t *testing.T) {
	good := encrypted("p", "k")
	endsInNewline := "k8s:enc:aescbc:v1:key1:" + strings.Repeat("x", 31) + "\n"
	sourceEndsInNewline := "k8s:enc:kms:v2:p:" + string(protowire.AppendString(protowire.AppendTag(protowire.AppendString(protowire.AppendTag(
		protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), strings.Repeat("x", 60)),
		2, protowire.BytesType), "k"), 3, protowire.BytesType), "seed\n"))
	for _, value := range []string{good, clearJSON, clearProtobuf, endsInNewline, sourceEndsInNewline} {
		for _, end := range []string{"", "\n"} {
			got, err := Value(strings.NewReader(value + end))
			if err != nil || got.Kind == Unknown {
				t.Errorf("%.30q and %q: %s, %v", value, end, got, err)
			}
		}
	}
}

func TestValueIsNoValue(t *testing.T) {
	e := newEtcd(t)
	for name, tc := range map[string]struct{ value, what string }{
		"nothing":                 {"", "is empty: there is no such key, or no value was read"},
		"a newline":               {"\n", "is empty: there is no such key, or no value was read"},
		"a key and a value":       {"/registry/secrets/a/b\n" + clearJSON, "begins with a key of etcd"},
		"an answer in JSON":       {`{"header":{"cluster_id":1,"revision":5},"kvs":[]}`, "is an answer of etcd in JSON"},
		"a snapshot":              {string(e.snapshot()), "is a snapshot and no value"},
		"more than a value is of": {strings.Repeat("x", maxValue+1), "is over 64 MiB: that is no value of etcd"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Value(strings.NewReader(tc.value))
			var got *hint.Error
			if !errors.As(err, &got) || got.What != tc.what || got.Hint == "" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzValue(f *testing.F) {
	for _, seed := range []string{clearJSON, clearProtobuf, encrypted("kms-plugin", "v1:7c9e:41aa"), "k8s:enc:aescbc:v1:key1:" + secret} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		got, err := Value(bytes.NewReader(value))
		if err != nil {
			var e *hint.Error
			if !errors.As(err, &e) {
				t.Errorf("the error is %v", err)
			}
			return
		}
		if got.Encrypted() && !bytes.HasPrefix(value, []byte("k8s:enc:")) {
			t.Errorf("%q counts as encrypted", value)
		}
		for _, r := range got.String() {
			if r < ' ' || r > '~' {
				t.Fatalf("the text %q is not printable", got)
			}
		}
	})
}
