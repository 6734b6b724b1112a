package kmsplugin

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

func encryptRequest() *kmsapi.EncryptRequest {
	return &kmsapi.EncryptRequest{Plaintext: []byte(seed), Uid: "uid-encrypt"}
}

func TestOldDataAfterRotationAndRestart(t *testing.T) {
	bubble(t, func(_ *testing.T, f *fixture) {
		e := f.probe().mustEncrypt(seed)
		f.key.Rotate()
		f.key.Rotate()
		restarted := f.plugin() // before its first probe, even
		f.wantOpens(restarted, e)
	})
}

// What was stored before there were envelopes, and after a rotation since. Its
// label is not bound to it: another material of the same key in it is readable,
// and noted.
func TestEarlierFormat(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		earlier := directData(f.probe(), f.key.MaterialID())
		f.key.Rotate()
		restarted := f.plugin()
		f.wantOpens(restarted, earlier)
		f.wantOpens(restarted, &kmsapi.EncryptResponse{Ciphertext: earlier.Ciphertext, KeyId: earlier.KeyId[:len("v1:")+keyIDHashLen]})
		if strings.Contains(f.logs.String(), "names another material") {
			t.Error("a true label is called false")
		}
		f.wantOpens(restarted, directData(f, "another material"))
		if !strings.Contains(f.logs.String(), "names another material") {
			t.Error("a changed label goes unnoticed")
		}
	})
}

// Moving to another CMK: the earlier key only decrypts.
func TestSeveralKeys(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		e := f.probe().mustEncrypt(seed)
		next := f.fake.NewKey()
		f.fake.Deny("GenerateDataKey", f.key) // the earlier key's policy may allow Decrypt alone
		f.p = f.plugin(func(_ *fixture, c *Config) {
			c.Keys = append([]Key{{ID: next.ARN, Clients: c.Keys[0].Clients}}, c.Keys...)
		})
		f.probe().wantOK(keyID(next.ARN, next.MaterialID()))
		f.wantOpens(f.p, e)
		fresh := f.mustEncrypt(seed)
		if fresh.KeyId != keyID(next.ARN, next.MaterialID()) {
			t.Errorf("sealed under %s", fresh.KeyId)
		}
		f.wantOpens(f.p, fresh)
		for _, c := range f.fake.Calls() {
			if c.KeyID == "" {
				t.Errorf("%s without the key pinned", c.Op)
			}
		}
	})
}

func TestDecryptRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		e := f.probe().mustEncrypt(seed)
		other := f.fake.NewKey()
		foreign := f.plugin(func(_ *fixture, c *Config) { c.Keys[0].ID = other.ARN })
		foreign.sealing().probe(t.Context())
		foreignData, err := foreign.Encrypt(t.Context(), encryptRequest())
		mustf(t, err, "encrypt under the other key")

		for name, c := range map[string]struct {
			change func(*kmsapi.DecryptRequest)
			code   codes.Code
			calls  int // to KMS
		}{
			"key_id of another key":       {func(r *kmsapi.DecryptRequest) { r.KeyId = foreignData.KeyId }, codes.FailedPrecondition, 0},
			"ARN of another key":          {func(r *kmsapi.DecryptRequest) { r.KeyId = other.ARN }, codes.FailedPrecondition, 0},
			"no key_id":                   {func(r *kmsapi.DecryptRequest) { r.KeyId = "" }, codes.FailedPrecondition, 0},
			"key_id with a tail":          {func(r *kmsapi.DecryptRequest) { r.KeyId += "0" }, codes.FailedPrecondition, 0},
			"key_id without its material": {func(r *kmsapi.DecryptRequest) { r.KeyId = r.KeyId[:len(r.KeyId)-keyIDHashLen] }, codes.FailedPrecondition, 0},
			"key_id over 1 KiB":           {func(r *kmsapi.DecryptRequest) { r.KeyId += strings.Repeat("0", 2000) }, codes.FailedPrecondition, 0},
			"annotations": {func(r *kmsapi.DecryptRequest) {
				r.Annotations = map[string][]byte{"encryption.example.com": []byte("1")}
			}, codes.FailedPrecondition, 0},
			"annotations under aws-encryption-provider's key_id": {func(r *kmsapi.DecryptRequest) {
				r.KeyId, r.Ciphertext = f.key.ARN, append([]byte("1"), r.Ciphertext...)
				r.Annotations = map[string][]byte{"encryption.example.com": []byte("1")}
			}, codes.FailedPrecondition, 0},
			"aws-encryption-provider's key_id, our ciphertext": {func(r *kmsapi.DecryptRequest) { r.KeyId = f.key.ARN; r.Ciphertext[0] = 0 }, codes.InvalidArgument, 0},
			"aws-encryption-provider's key_id, another version": {func(r *kmsapi.DecryptRequest) {
				r.KeyId, r.Ciphertext = f.key.ARN, append([]byte("2"), r.Ciphertext...)
			}, codes.InvalidArgument, 0},
			"aws-encryption-provider's version alone":          {func(r *kmsapi.DecryptRequest) { r.KeyId, r.Ciphertext = f.key.ARN, []byte("1") }, codes.InvalidArgument, 0},
			"our key_id, aws-encryption-provider's ciphertext": {func(r *kmsapi.DecryptRequest) { r.Ciphertext = append([]byte("1"), r.Ciphertext...) }, codes.InvalidArgument, 0},
			"no ciphertext":             {func(r *kmsapi.DecryptRequest) { r.Ciphertext = nil }, codes.InvalidArgument, 0},
			"ciphertext too long":       {func(r *kmsapi.DecryptRequest) { r.Ciphertext = make([]byte, 1025) }, codes.InvalidArgument, 0},
			"ciphertext cut":            {func(r *kmsapi.DecryptRequest) { r.Ciphertext = r.Ciphertext[:len(r.Ciphertext)-1] }, codes.InvalidArgument, 1},
			"ciphertext of another key": {func(r *kmsapi.DecryptRequest) { r.Ciphertext = foreignData.Ciphertext }, codes.InvalidArgument, 1},
		} {
			req := decryptRequest(e)
			c.change(req)
			before := f.fake.Count("*")
			d, err := f.p.Decrypt(t.Context(), req)
			if status.Code(err) != c.code || d != nil {
				t.Errorf("%s: answer %v, error %v, want code %s", name, d, err, c.code)
			}
			if n := f.fake.Count("*") - before; n != c.calls {
				t.Errorf("%s: %d KMS calls, want %d", name, n, c.calls)
			}
		}

		for i := range e.Ciphertext {
			req := decryptRequest(e)
			req.Ciphertext[i] ^= 1
			if _, err := f.p.Decrypt(t.Context(), req); status.Code(err) != codes.InvalidArgument {
				t.Fatalf("altered byte %d: %v", i, err)
			}
		}

		neighbour := f.plugin(func(_ *fixture, c *Config) { c.EncryptionContext = map[string]string{"ekskms-cluster": "other"} })
		if _, err := neighbour.Decrypt(t.Context(), decryptRequest(e)); status.Code(err) != codes.InvalidArgument {
			t.Errorf("another encryption context: %v", err)
		}
		f.key.RequireContext(clusterContext)
		if _, err := neighbour.Decrypt(t.Context(), decryptRequest(e)); status.Code(err) != codes.PermissionDenied {
			t.Errorf("another encryption context, under a key policy with conditions: %v", err)
		}
	})
}

func TestEncryptRefusesSizes(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		for _, n := range []int{0, 1000, 1025} { // 1000 bytes fit, their ciphertext does not
			if _, err := f.encrypt(strings.Repeat("x", n)); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	})
}

// legacyData is what aws-encryption-provider stores, started with this --key and
// this --encryption-context.
func legacyData(f *fixture, name string, encryptionContext map[string]string) *kmsapi.EncryptResponse {
	f.t.Helper()
	return &kmsapi.EncryptResponse{Ciphertext: append([]byte("1"), direct(f.t, f.p.cfg.Keys[0].Clients[0], f.key.ARN, encryptionContext)...), KeyId: name}
}

// direct is what kms:Encrypt makes of the seed.
func direct(t testing.TB, c *Client, keyARN string, encryptionContext map[string]string) []byte {
	t.Helper()
	out, err := c.KMS.(*kms.Client).Encrypt(t.Context(), &kms.EncryptInput{ //nolint:forcetypeassert // NewClient makes no other
		KeyId: aws.String(keyARN), Plaintext: []byte(seed), EncryptionContext: encryptionContext,
	})
	mustf(t, err, "encrypt")
	return out.CiphertextBlob
}

// directData is what this plugin stored before it made envelopes.
func directData(f *fixture, materialID string) *kmsapi.EncryptResponse {
	f.t.Helper()
	id := keyIDDirect + strings.TrimPrefix(keyID(f.key.ARN, materialID), keyIDVersion)
	return &kmsapi.EncryptResponse{Ciphertext: direct(f.t, f.p.cfg.Keys[0].Clients[0], f.key.ARN, clusterContext), KeyId: id}
}

func TestDataOfAWSEncryptionProvider(t *testing.T) {
	id := func(f *fixture) string { return f.key.ID() }
	for name, c := range map[string]struct {
		name    func(*fixture) string
		context map[string]string
		change  func(*fixture, *Config)
	}{
		"its --key was the ARN": {name: func(f *fixture) string { return f.key.ARN }, context: clusterContext},
		"its --key was the ID":  {name: id, context: clusterContext},
		"its --key was an alias, as ours is": {
			name: func(*fixture) string { return "alias/secrets" }, context: clusterContext,
			change: func(f *fixture, c *Config) { c.Keys[0].ID = f.fake.Alias("alias/secrets", f.key) },
		},
		"its --key was another name": {
			name: func(*fixture) string { return "alias/old" }, context: clusterContext,
			change: func(_ *fixture, c *Config) { c.Keys[0].LegacyKeyIDs = []string{"alias/old"} },
		},
		"it had no encryption context": {
			name: id, context: nil,
			change: func(_ *fixture, c *Config) { c.LegacyContext = map[string]string{} },
		},
		"it had another encryption context": {
			name: id, context: map[string]string{"old": "1"},
			change: func(_ *fixture, c *Config) { c.LegacyContext = map[string]string{"old": "1"} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fixture) {
				if c.change != nil {
					f.p = f.plugin(c.change)
				}
				old := legacyData(f, c.name(f), c.context)
				f.probe()
				f.wantOpens(f.p, old)
				// What it writes itself is under the cluster's context alone.
				fresh := f.mustEncrypt(seed)
				f.wantOpens(f.p, fresh)
				calls := f.fake.Calls()
				if got := calls[len(calls)-1].Context; got["ekskms-cluster"] != contextValue || len(got) != 1 {
					t.Error("new data is under the old encryption context")
				}
				if bytes.HasPrefix(fresh.Ciphertext, []byte("1")) && fresh.KeyId == old.KeyId {
					t.Error("new data is in the old format")
				}
			})
		})
	}
}

func TestStatusVersion(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		if v := f.probe().status().Version; v != "v2" {
			t.Errorf("version %q by default", v)
		}
		f.p = f.plugin(func(_ *fixture, c *Config) { c.StatusVersion = VersionV2Beta1 })
		if v := f.probe().status().Version; v != "v2beta1" {
			t.Errorf("version %q, want v2beta1", v)
		}
	})
	awsEnv(t)
	c, err := NewClient(t.Context(), ClientOptions{Region: region})
	mustf(t, err, "client")
	cfg := Config{Keys: []Key{{ID: exampleARN, Clients: []*Client{c}}}, EncryptionContext: clusterContext, StatusVersion: "v3"}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), `"v3"`) {
		t.Errorf("version v3: %v", err)
	}
}

// A replica in another Region works where the key's own Region does not.
func TestFailoverToAReplica(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		there := kmsfake.New(otherRegion)
		f.key = f.fake.NewMultiRegionKey()
		replica := f.key.Replicate(there)
		f.p = f.plugin(func(f *fixture, c *Config) {
			c.Keys[0].Clients = append(c.Keys[0].Clients, f.client(there, otherRegion))
		})
		f.probe().wantOK(f.currentKeyID())
		e := f.mustEncrypt(seed)
		if n := there.Count("*"); n != 0 {
			t.Errorf("%d calls to the replica while its primary works", n)
		}

		f.fake.Hang("*", kmsfake.Always)
		f.wantOpens(f.p, e)                   // before any probe has noticed
		f.wantOpens(f.p, f.mustEncrypt(seed)) // in the time of one call
		f.probe().wantOK(f.currentKeyID())
		if got, fail := f.condition(), f.state().fail; got != conditionDegraded || fail.class != classTimeout {
			t.Errorf("state %s, %v", got, fail)
		}
		for range 200 { // hours: the replica vouches for the key
			f.probe()
		}
		f.wantOK(f.currentKeyID())
		for _, c := range there.Calls() {
			if c.KeyID != replica.ARN {
				t.Errorf("%s of %s in the other Region", c.Op, c.KeyID)
			}
		}
		if !strings.Contains(scrape(t, f.p), `ekskms_plugin_failovers_total{region="eu-west-1"} 3`) {
			t.Errorf("fail-overs are not counted:\n%s", scrape(t, f.p))
		}

		// Both Regions away: the key_id is kept, and healed.
		there.Fail("*", &kmsfake.Error{Status: 500, Code: "KMSInternalException"})
		f.probe().wantOK(f.currentKeyID())
		if _, err := f.encrypt(seed); status.Code(err) != codes.Unavailable {
			t.Errorf("encrypt without any Region: %v", err)
		}
		f.fake.Hang("*", 0)
		before := there.Count("*")
		f.probe().wantOK(f.currentKeyID())
		if f.condition() != conditionOK || there.Count("*") != before {
			t.Error("the plugin does not return to its own Region")
		}
	})
}

// A refusal in the key's own Region is KMS's word: no replica is asked to say
// otherwise.
func TestARefusalDoesNotFailOver(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		there := kmsfake.New(otherRegion)
		f.key = f.fake.NewMultiRegionKey()
		f.key.Replicate(there)
		f.p = f.plugin(func(f *fixture, c *Config) {
			c.Keys[0].Clients = append(c.Keys[0].Clients, f.client(there, otherRegion))
		})
		f.probe()
		f.key.SetState(kmsfake.Disabled)
		f.probe().probe().wantNotOK()
		if _, err := f.encrypt(seed); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("encrypt: %v", err)
		}
		if n := there.Count("*"); n != 0 {
			t.Errorf("%d calls to the replica", n)
		}
	})
}

// At start, with the key's own Region away, a replica is enough; but an alias
// says nothing in another Region, where it may be another key's.
func TestStartOnAReplica(t *testing.T) {
	bubble(t, func(_ *testing.T, f *fixture) {
		there := kmsfake.New(otherRegion)
		f.key = f.fake.NewMultiRegionKey()
		f.key.Replicate(there)
		f.fake.Cut("*", kmsfake.Always)
		both := func(f *fixture, c *Config) {
			c.Keys[0].Clients = append(c.Keys[0].Clients, f.client(there, otherRegion))
		}
		f.p = f.plugin(both)
		f.probe().wantOK(f.currentKeyID())
		f.wantOpens(f.p, f.mustEncrypt(seed))

		there.Alias("alias/secrets", there.NewKey())
		f.p = f.plugin(both, func(f *fixture, c *Config) { c.Keys[0].ID = f.fake.Alias("alias/secrets", f.key) })
		f.probe().wantNotOK()
	})
}

// FuzzDecrypt: nothing that an API server could send crashes the plugin, and
// nothing but what it made itself decrypts.
func FuzzDecrypt(f *testing.F) {
	awsEnv(f)
	fake := kmsfake.New(region)
	key := fake.NewKey()
	client, err := NewClient(f.Context(), ClientOptions{Region: region, Transport: fake.RoundTripper()})
	mustf(f, err, "client")
	p, err := New(Config{Keys: []Key{{ID: key.ARN, Clients: []*Client{client}}}, EncryptionContext: clusterContext, SeedCache: 8})
	mustf(f, err, "plugin")
	p.sealing().probe(f.Context())
	close(p.sealing().probed)
	e, err := p.Encrypt(f.Context(), encryptRequest())
	mustf(f, err, "encrypt")
	blob := direct(f, client, key.ARN, clusterContext)
	legacy, earlier := append([]byte("1"), blob...), keyIDDirect+e.KeyId[len(keyIDVersion):]
	f.Add(blob, earlier, "", []byte(nil), "uid")
	f.Add(e.Ciphertext, earlier, "", []byte(nil), "uid")
	f.Add(blob, e.KeyId, "", []byte(nil), "uid")
	f.Add(e.Ciphertext, e.KeyId, "", []byte(nil), "uid")
	f.Add(legacy, key.ARN, "", []byte(nil), "uid")
	f.Add(legacy, key.ID(), "", []byte(nil), "uid")
	f.Add(e.Ciphertext, e.KeyId, "encryption.example.com", []byte("1"), "uid")
	f.Add([]byte{}, "v1:", "", []byte(nil), "\xff")
	f.Fuzz(func(t *testing.T, ciphertext []byte, id, name string, value []byte, uid string) {
		req := &kmsapi.DecryptRequest{Ciphertext: ciphertext, KeyId: id, Uid: uid}
		if name != "" {
			req.Annotations = map[string][]byte{name: value}
		}
		d, err := p.Decrypt(t.Context(), req)
		ours := bytes.Equal(ciphertext, e.Ciphertext) && id == e.KeyId ||
			bytes.Equal(ciphertext, blob) && strings.HasPrefix(id, keyIDDirect) && ownKeyID(key.ARN, id) ||
			bytes.Equal(ciphertext, legacy) && (id == key.ARN || id == key.ID())
		if err == nil && (!ours || name != "" || string(d.Plaintext) != seed) {
			t.Errorf("decrypted what it never made: %x under %q", ciphertext, id)
		}
		if err != nil && status.Code(err) == codes.Unknown {
			t.Errorf("an error without a code: %v", err)
		}
	})
}

// mirrored is a plugin with a key in two Regions.
func mirrored(t *testing.T, test func(t *testing.T, f *fixture, there *kmsfake.Server, replica *kmsfake.Key)) {
	bubble(t, func(t *testing.T, f *fixture) {
		there := kmsfake.New(otherRegion)
		f.key = f.fake.NewMultiRegionKey()
		replica := f.key.Replicate(there)
		f.p = f.plugin(func(f *fixture, c *Config) {
			c.Keys[0].Clients = append(c.Keys[0].Clients, f.client(there, otherRegion))
		})
		f.probe()
		test(t, f, there, replica)
	})
}

// A Region that is known to be away is not waited for again.
func TestASuspectRegionIsAskedLast(t *testing.T) {
	mirrored(t, func(t *testing.T, f *fixture, there *kmsfake.Server, _ *kmsfake.Key) {
		e := f.mustEncrypt(seed)
		f.fake.Hang("*", kmsfake.Always)
		f.wantOpens(f.p, e) // waits, and finds out
		before, began := f.fake.Count("*"), time.Now()
		for range 10 {
			f.wantOpens(f.p, e)
		}
		if n := f.fake.Count("*") - before; n != 0 || time.Since(began) != 0 {
			t.Errorf("10 calls asked the silent Region %d times and took %s", n, time.Since(began))
		}
		f.fake.Hang("*", 0)
		f.probe()
		before = there.Count("*")
		f.wantOpens(f.p, e)
		if n := there.Count("*") - before; n != 0 {
			t.Error("the key's own Region is not used again after a good probe")
		}
	})
}

// One throttled call fails over by itself, and takes nothing with it.
func TestThrottlingFailsOverForOneCall(t *testing.T) {
	mirrored(t, func(t *testing.T, f *fixture, there *kmsfake.Server, _ *kmsfake.Key) {
		e := f.mustEncrypt(seed)
		f.fake.FailNext("Decrypt", maxAttempts, &kmsfake.Error{Code: "ThrottlingException"})
		f.wantOpens(f.p, e)
		before := there.Count("*")
		f.wantOpens(f.p, e)
		if n := there.Count("*") - before; before == 0 || n != 0 {
			t.Errorf("%d calls to the replica for the throttled one, %d afterwards", before, n)
		}
	})
}

// A replica that refuses says nothing of the key: its policy is its own.
func TestARefusingReplica(t *testing.T) {
	mirrored(t, func(t *testing.T, f *fixture, there *kmsfake.Server, replica *kmsfake.Key) {
		e := f.mustEncrypt(seed)
		there.Deny("Decrypt", replica)
		f.fake.Hang("*", kmsfake.Always)
		if _, err := f.p.Decrypt(t.Context(), decryptRequest(e)); status.Code(err) != codes.Unavailable {
			t.Errorf("with the own Region away: %v, want its failure and not the replica's", err)
		}
		f.fake.Hang("*", 0)
		f.wantOpens(f.p, e) // before any probe: the replica is asked first, and refuses
	})
}

// Data of aws-encryption-provider under an alias that has moved since.
func TestLegacyDataUnderAMovedAlias(t *testing.T) {
	bubble(t, func(_ *testing.T, f *fixture) {
		before := legacyData(f, "alias/secrets", clusterContext)
		old := f.key
		f.key = f.fake.NewKey()
		after := legacyData(f, "alias/secrets", clusterContext)
		alias := f.fake.Alias("alias/secrets", f.key)
		f.p = f.plugin(func(_ *fixture, c *Config) {
			c.Keys = []Key{{ID: alias, Clients: c.Keys[0].Clients}, {ID: old.ARN, Clients: c.Keys[0].Clients, LegacyKeyIDs: []string{"alias/secrets"}}}
		})
		f.probe()
		f.wantOpens(f.p, before)
		f.wantOpens(f.p, after)
	})
}

// A key that is known by its ARN does not wait until another's alias is.
func TestAKnownKeyDoesNotWaitForAnAlias(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		e := f.probe().mustEncrypt(seed)
		alias := f.fake.Alias("alias/other", f.fake.NewKey())
		f.p = f.plugin(func(_ *fixture, c *Config) {
			c.Keys = []Key{{ID: alias, Clients: c.Keys[0].Clients}, c.Keys[0]}
		})
		f.p.sealing().probed = make(chan struct{})
		began := time.Now()
		f.wantOpens(f.p, e)
		if took := time.Since(began); took != 0 {
			t.Errorf("it waited %s", took)
		}
	})
}
