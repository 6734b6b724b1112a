package kmsplugin

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// The test vector of docs/reference/plugin.md. It was made by another implementation
// (Python, with the cryptography package), from the description there.
const (
	vectorKeyID    = "v2:7169bc93f36f352c6de802758de9ed3c:f7e518520a480c92f848c6c775ce0451"
	vectorWrapped  = "a data key, wrapped by AWS KMS"
	vectorDigest   = "323bcedd38671f558fd71e2bf788ba6ff3915a3c1900d9da4f285b93c71e43df"
	vectorEnvelope = "02001e612064617461206b65792c207772617070656420627920415753204b4d536465666768696a6b6c6d6e6f782aec554ddc60a9065b3e8ab9010f9b72f33439bf59c5459fe8cd2a98c7c02e0200d890eeb30371026e54afa523ad76"
)

var vectorContext = map[string]string{"tenant": "team-a", "cluster": "demo"}

func vectorDataKey() (key []byte) {
	for i := range byte(dataKeySize) {
		key = append(key, i)
	}
	return key
}

func TestEnvelopeVector(t *testing.T) {
	digest := contextDigest(vectorContext)
	if got := hex.EncodeToString(digest[:]); got != vectorDigest {
		t.Errorf("digest of the encryption context %s", got)
	}
	if id := keyID(exampleARN, "material"); id != vectorKeyID {
		t.Errorf("key_id %s", id)
	}
	envelope, err := hex.DecodeString(vectorEnvelope)
	mustf(t, err, "decode")
	b := binding{exampleARN, vectorKeyID, digest}
	wrapped, sealed, ok := splitEnvelope(envelope)
	if !ok || string(wrapped) != vectorWrapped {
		t.Fatalf("wrapped key %q", wrapped)
	}
	plaintext, err := openEnvelope(vectorDataKey(), b, wrapped, sealed)
	if err != nil || string(plaintext) != seed {
		t.Errorf("opens to %q, %v", plaintext, err)
	}

	// What is sealed here has the same form, but for the nonce and what follows.
	again, err := dataKey{plain: vectorDataKey(), wrapped: []byte(vectorWrapped)}.seal(b, []byte(seed))
	mustf(t, err, "seal")
	head := envelopeHeader + len(vectorWrapped)
	if len(again) != len(envelope) || !bytes.Equal(again[:head], envelope[:head]) || bytes.Equal(again[head:], envelope[head:]) {
		t.Errorf("sealed as %x", again)
	}

	docs, err := os.ReadFile("../../docs/reference/plugin.md")
	mustf(t, err, "read")
	for _, s := range []string{vectorKeyID, vectorWrapped, vectorDigest, exampleARN, hex.EncodeToString(vectorDataKey())} {
		if !strings.Contains(string(docs), s) {
			t.Errorf("docs/reference/plugin.md does not have %s", s)
		}
	}
	if !strings.Contains(strings.NewReplacer("\n", "", " ", "").Replace(string(docs)), vectorEnvelope) {
		t.Error("docs/reference/plugin.md does not have the envelope")
	}
}

// All that an envelope belongs to is bound to it, each by itself.
func TestEnvelopeIsBound(t *testing.T) {
	good := binding{exampleARN, vectorKeyID, contextDigest(vectorContext)}
	made := dataKey{plain: vectorDataKey(), wrapped: []byte(vectorWrapped)}
	envelope, err := made.seal(good, []byte(seed))
	mustf(t, err, "seal")
	wrapped, sealed, _ := splitEnvelope(envelope)
	opens := func(b binding, key, wrapped, sealed []byte) bool {
		back, err := openEnvelope(key, b, wrapped, sealed)
		return err == nil && string(back) == seed
	}
	if !opens(good, vectorDataKey(), wrapped, sealed) {
		t.Fatal("does not open")
	}
	with := func(change func(*binding)) binding { b := good; change(&b); return b }
	for name, b := range map[string]binding{
		"another key":         with(func(b *binding) { b.keyARN += "0" }),
		"another account":     with(func(b *binding) { b.keyARN = strings.Replace(b.keyARN, "1111", "4444", 1) }),
		"another Region":      with(func(b *binding) { b.keyARN = inRegion(b.keyARN, otherRegion) }),
		"another material":    with(func(b *binding) { b.keyID = keyID(exampleARN, "another") }),
		"the earlier version": with(func(b *binding) { b.keyID = keyIDDirect + b.keyID[2:] }),
		"no context":          with(func(b *binding) { b.encryptionContext = contextDigest(nil) }),
		"another cluster": with(func(b *binding) {
			b.encryptionContext = contextDigest(map[string]string{"tenant": "team-a", "cluster": "other"})
		}),
		"another tenant": with(func(b *binding) {
			b.encryptionContext = contextDigest(map[string]string{"tenant": "team-b", "cluster": "demo"})
		}),
		"no tenant": with(func(b *binding) { b.encryptionContext = contextDigest(map[string]string{"cluster": "demo"}) }),
		"names and values swap": with(func(b *binding) {
			b.encryptionContext = contextDigest(map[string]string{"team-a": "tenant", "demo": "cluster"})
		}),
		"a border that moved": with(func(b *binding) {
			b.encryptionContext = contextDigest(map[string]string{"tenan": "tteam-a", "cluster": "demo"})
		}),
	} {
		if opens(b, vectorDataKey(), wrapped, sealed) {
			t.Errorf("%s: it opens", name)
		}
	}
	other := slices.Concat(vectorDataKey()[1:], []byte{32})
	if opens(good, other, wrapped, sealed) || opens(good, vectorDataKey()[:16], wrapped, sealed) || opens(good, nil, wrapped, sealed) {
		t.Error("it opens under another data key")
	}
	if opens(good, vectorDataKey(), append(slices.Clone(wrapped), 0), sealed) || opens(good, vectorDataKey(), wrapped[1:], sealed) {
		t.Error("it opens beside another wrapped key")
	}
	for i := range len(sealed) * 8 {
		bad := bytes.Clone(sealed)
		bad[i/8] ^= 1 << (i % 8)
		if opens(good, vectorDataKey(), wrapped, bad) {
			t.Errorf("it opens with bit %d flipped", i)
		}
	}
	for n := range sealed {
		if opens(good, vectorDataKey(), wrapped, sealed[:n]) {
			t.Errorf("it opens with %d of %d bytes", n, len(sealed))
		}
	}
	// All Regions of a multi-Region key are one key.
	mrk := binding{exampleMRK, keyID(exampleMRK, "m"), good.encryptionContext}
	envelope, err = made.seal(mrk, []byte(seed))
	mustf(t, err, "seal")
	wrapped, sealed, _ = splitEnvelope(envelope)
	mrk.keyARN = inRegion(exampleMRK, otherRegion)
	if !opens(mrk, vectorDataKey(), wrapped, sealed) {
		t.Error("a replica's Region can't open it")
	}
}

// Under the plugin, with KMS's own ciphertext in it: each bit, each part, and
// each border.
func TestDecryptOfAlteredEnvelopes(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		e, other := f.mustEncrypt(seed), f.mustEncrypt(seed)
		refuses := func(what string, ciphertext []byte, id string) {
			t.Helper()
			d, err := f.p.Decrypt(t.Context(), &kmsapi.DecryptRequest{Ciphertext: ciphertext, KeyId: id})
			if code := status.Code(err); d != nil || code != codes.InvalidArgument && code != codes.FailedPrecondition {
				t.Errorf("%s: %v", what, err)
			}
		}
		for i := range len(e.Ciphertext) * 8 {
			bad := bytes.Clone(e.Ciphertext)
			bad[i/8] ^= 1 << (i % 8)
			refuses("a bit", bad, e.KeyId)
		}
		for n := range e.Ciphertext {
			refuses("cut", e.Ciphertext[:n], e.KeyId)
			refuses("cut ahead", e.Ciphertext[n+1:], e.KeyId)
		}
		refuses("a byte more", append(bytes.Clone(e.Ciphertext), 0), e.KeyId)

		wrapped, sealed, _ := splitEnvelope(e.Ciphertext)
		wrappedToo, sealedToo, _ := splitEnvelope(other.Ciphertext)
		pack := func(wrapped, sealed []byte) []byte {
			return slices.Concat([]byte{envelopeFormat, byte(len(wrapped) >> 8), byte(len(wrapped))}, wrapped, sealed)
		}
		f.wantOpens(f.p, &kmsapi.EncryptResponse{Ciphertext: pack(wrapped, sealed), KeyId: e.KeyId})
		refuses("another's wrapped key", pack(wrappedToo, sealed), e.KeyId)
		refuses("another's plaintext", pack(wrapped, sealedToo), e.KeyId)
		refuses("the border moved", pack(append(bytes.Clone(wrapped), sealed[0]), sealed[1:]), e.KeyId)
		refuses("two envelopes", append(bytes.Clone(e.Ciphertext), other.Ciphertext...), e.KeyId)
		refuses("a wrapped key that is too long", pack(make([]byte, maxWrappedKey+1), sealed), e.KeyId)
		refuses("no wrapped key", pack(nil, sealed), e.KeyId)
		// Of the earlier format, KMS itself can't tell a seed from a data key. Nobody
		// gains by it: what comes back is a key that opens nothing but this envelope,
		// for somebody who may have the envelope opened.
		d, err := f.p.Decrypt(t.Context(), &kmsapi.DecryptRequest{Ciphertext: wrapped, KeyId: keyIDDirect + e.KeyId[2:]})
		if err != nil || string(d.GetPlaintext()) == seed {
			t.Errorf("the wrapped key, as a value of the earlier format: %v", err)
		}
		refuses("an envelope as a value of the earlier format", e.Ciphertext, keyIDDirect+e.KeyId[2:])
		refuses("a value of the earlier format as an envelope", directData(f, f.key.MaterialID()).Ciphertext, e.KeyId)
		refuses("an envelope as aws-encryption-provider's", append([]byte("1"), e.Ciphertext...), f.key.ARN)
		refuses("another material's key_id", e.Ciphertext, keyID(f.key.ARN, "another"))
		refuses("a key_id without material", e.Ciphertext, keyID(f.key.ARN, ""))

		for name, encryptionContext := range map[string]map[string]string{
			"another cluster": {"ekskms-cluster": "other"},
			"a tenant":        {"ekskms-cluster": contextValue, "ekskms:tenant": "team-a"},
		} {
			p := f.plugin(func(_ *fixture, c *Config) { c.EncryptionContext = encryptionContext })
			if _, err := p.Decrypt(t.Context(), decryptRequest(e)); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// One request to KMS a call, and one more where nothing proves that what is
// written can be read back.
func TestEncryptProvesItself(t *testing.T) {
	calls := func(f *fixture, p *Plugin) (generated, decrypted int) {
		f.t.Helper()
		g, d := f.fake.Count("GenerateDataKey"), f.fake.Count("Decrypt")
		e, err := p.Encrypt(f.t.Context(), encryptRequest())
		mustf(f.t, err, "encrypt")
		g, d = f.fake.Count("GenerateDataKey")-g, f.fake.Count("Decrypt")-d
		f.wantOpens(p, e)
		return g, d
	}
	want := func(f *fixture, what string, p *Plugin, generated, decrypted int) {
		f.t.Helper()
		if g, d := calls(f, p); g != generated || d != decrypted {
			f.t.Errorf("%s: %d GenerateDataKey and %d Decrypt, want %d and %d", what, g, d, generated, decrypted)
		}
	}
	bubble(t, func(_ *testing.T, f *fixture) {
		f.probe()
		want(f, "after a probe", f.p, 1, 0)
		time.Sleep(defaultPollInterval)
		want(f, "at the end of the poll", f.p, 1, 0)
		time.Sleep(time.Nanosecond)
		want(f, "after it", f.p, 1, 1)
		want(f, "after a call that has proven itself", f.p, 1, 0)
		f.probe()
		f.fake.Fail("DescribeKey", &kmsfake.Error{Code: "DisabledException"})
		f.probe()
		f.fake.Fail("DescribeKey", nil)
		want(f, "after a probe that failed", f.p, 1, 1)
		f.key.Rotate()
		f.probe().probe()
		want(f, "after a rotation", f.p, 1, 0)

		f.fake.FailNext("Decrypt", 1, &kmsfake.Error{Code: "AccessDeniedException"})
		_, err := f.p.Decrypt(f.t.Context(), decryptRequest(f.mustEncrypt(seed)))
		if err == nil {
			f.t.Error("a refused Decrypt worked")
		}
		want(f, "after a Decrypt that was refused", f.p, 1, 1)

		always := f.plugin(func(_ *fixture, c *Config) { c.ReadBack = ReadBackAlways })
		always.sealing().probe(f.t.Context())
		want(f, "--read-back always", always, 1, 1)
	})
	mirrored(t, func(_ *testing.T, f *fixture, there *kmsfake.Server, _ *kmsfake.Key) {
		f.fake.Hang("*", kmsfake.Always)
		before := there.Count("Decrypt")
		f.mustEncrypt(seed)
		if n := there.Count("Decrypt") - before; n != 1 {
			f.t.Errorf("the first Encrypt in a replica's Region was read back %d times: its own Region's proof is none there", n)
		}
		f.mustEncrypt(seed)
		if n := there.Count("Decrypt") - before; n != 1 {
			f.t.Errorf("%d read back", n)
		}
	})
}

// What KMS wraps and can't unwrap, or unwraps to another key, is not handed out.
func TestEncryptIsReadBack(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		time.Sleep(2 * defaultPollInterval)
		f.fake.Deny("Decrypt", f.key)
		if _, err := f.encrypt(seed); status.Code(err) != codes.PermissionDenied {
			t.Errorf("without kms:Decrypt: %v", err)
		}
		f.fake.Allow("Decrypt", f.key)
		f.probe()
		e := f.p.sealing().endpoints[0]
		e.kms = lyingKMS{KMS: e.kms, plaintext: strings.Repeat("?", dataKeySize)}
		f.p.cfg.ReadBack = ReadBackAlways
		if _, err := f.encrypt(seed); status.Code(err) != codes.DataLoss {
			t.Errorf("another key came back: %v", err)
		}
	})
}

// Every seed is under a data key of its own, and fits.
func TestEnvelopesDiffer(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		seen := map[string]bool{}
		for range 100 {
			wrapped, _, _ := splitEnvelope(f.mustEncrypt(seed).Ciphertext)
			if seen[string(wrapped)] {
				t.Fatal("a data key is used twice")
			}
			seen[string(wrapped)] = true
		}
		e, err := f.encrypt(strings.Repeat("x", maxPlaintext))
		if err != nil || len(e.Ciphertext) >= maxCiphertext {
			t.Errorf("%d bytes, %v", len(e.GetCiphertext()), err)
		}
		if largest := envelopeHeader + maxWrappedKey + envelopeAdds + maxPlaintext; largest >= maxCiphertext {
			t.Errorf("an envelope may have %d bytes", largest)
		}
	})
}

// The module in FIPS 140-3 mode, where the cryptography that it does not allow
// panics.
func TestFIPS(t *testing.T) {
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^(TestEnvelopeVector|TestEncryptProvesItself|TestRoundTripOverTheSocket)$", "-test.v")
	c.Env = append(os.Environ(), "GODEBUG=fips140=only")
	out, err := c.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS") != 3 {
		t.Errorf("%v\n%s", err, out)
	}
}
