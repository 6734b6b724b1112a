package kmsfake

import (
	"bytes"
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func TestEncryptAndDecrypt(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		old := mustEncrypt(t, c, k.ARN, "a", "1", "b", "2")
		oldMaterial := k.MaterialID()
		k.Rotate()
		blob := mustEncrypt(t, c, k.ARN, "a", "1", "b", "2")
		if k.MaterialID() == oldMaterial {
			t.Fatal("rotation brings no new material")
		}
		for material, blob := range map[string][]byte{oldMaterial: old, k.MaterialID(): blob} {
			if got := hex.EncodeToString(blob[:32]); got != material {
				t.Errorf("the ciphertext begins with %s, want the material's ID", got)
			}
			d, err := decrypt(t.Context(), c, k.ARN, blob, "b", "2", "a", "1")
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(d.Plaintext, plaintext) || *d.KeyMaterialId != material || *d.KeyId != k.ARN ||
				d.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
				t.Errorf("decrypted %+v", d)
			}
		}
		if bytes.Contains(blob, plaintext) {
			t.Error("ciphertext in the clear")
		}
	})
}

func TestCiphertextIsAuthenticated(t *testing.T) {
	s := New(region)
	c := inProcess(s)
	k, other := s.NewKey(), s.NewKey()
	blob := mustEncrypt(t, c, k.ARN, "a", "1")
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		if _, err := decrypt(t.Context(), c, k.ARN, bad, "a", "1"); !is[*types.InvalidCiphertextException](err) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
	for n := range blob {
		if _, err := decrypt(t.Context(), c, k.ARN, blob[:n], "a", "1"); n > 0 && !is[*types.InvalidCiphertextException](err) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	for _, wrong := range [][]string{nil, {"a", "2"}, {"b", "1"}, {"a", "1", "b", ""}, {"a1", ""}} {
		if _, err := decrypt(t.Context(), c, k.ARN, blob, wrong...); !is[*types.InvalidCiphertextException](err) {
			t.Errorf("under context %v: %v", wrong, err)
		}
	}
	if _, err := decrypt(t.Context(), c, other.ARN, blob, "a", "1"); !is[*types.IncorrectKeyException](err) {
		t.Errorf("under another key: %v", err)
	}
}

// What no request can show: two keys never have the same material.
func TestAADBindsTheKey(t *testing.T) {
	m := newMaterial("the key's ID")
	one := m.aad(map[string]string{"a": "1"})
	kept := bytes.Clone(one)
	m.aad(map[string]string{"b": "2"})
	if !bytes.Equal(one, kept) {
		t.Error("one request's AAD changes with another's")
	}
	if !bytes.Contains(one, []byte("the key's ID")) || !bytes.Contains(one, []byte(m.id)) {
		t.Errorf("AAD %q", one)
	}
}

func TestDescribeKey(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		m := mustDescribe(t, c, k.ARN)
		if *m.Arn != k.ARN || *m.KeyId != k.ID() || !strings.HasSuffix(k.ARN, ":key/"+k.ID()) || *m.AWSAccountId != account ||
			!m.Enabled || m.KeyState != types.KeyStateEnabled || m.KeyUsage != types.KeyUsageTypeEncryptDecrypt ||
			m.KeySpec != types.KeySpecSymmetricDefault || m.KeyManager != types.KeyManagerTypeCustomer ||
			m.Origin != types.OriginTypeAwsKms || *m.CurrentKeyMaterialId != k.MaterialID() || m.CreationDate == nil ||
			m.DeletionDate != nil || *m.MultiRegion || m.MultiRegionConfiguration != nil {
			t.Errorf("metadata %+v", m)
		}
		k.SetState(Disabled)
		if m := mustDescribe(t, c, k.ARN); m.Enabled || m.KeyState != types.KeyStateDisabled {
			t.Errorf("metadata of a disabled key %+v", m)
		}
	})
}

func TestGenerateDataKey(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		for name, tt := range map[string]struct {
			spec types.DataKeySpec
			n    *int32
			size int
			code string
		}{
			"AES_256":      {spec: types.DataKeySpecAes256, size: 32},
			"AES_128":      {spec: types.DataKeySpecAes128, size: 16},
			"1 byte":       {n: aws.Int32(1), size: 1},
			"1024 bytes":   {n: aws.Int32(1024), size: 1024},
			"1025 bytes":   {n: aws.Int32(1025), code: "ValidationException"},
			"no bytes":     {n: aws.Int32(0), code: "ValidationException"},
			"both":         {spec: types.DataKeySpecAes256, n: aws.Int32(32), code: "ValidationException"},
			"neither":      {code: "ValidationException"},
			"unknown spec": {spec: "AES_512", code: "ValidationException"},
		} {
			out, err := c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{
				KeyId: &k.ARN, KeySpec: tt.spec, NumberOfBytes: tt.n, EncryptionContext: map[string]string{"a": "1"},
			})
			wantCode(t, name, err, tt.code)
			if err != nil {
				continue
			}
			d, err := decrypt(t.Context(), c, k.ARN, out.CiphertextBlob, "a", "1")
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if len(out.Plaintext) != tt.size || !bytes.Equal(d.Plaintext, out.Plaintext) || *out.KeyId != k.ARN || *out.KeyMaterialId != k.MaterialID() {
				t.Errorf("%s: answer %+v, decrypts to %x", name, out, d.Plaintext)
			}
		}
	})
}

func TestCreateKey(t *testing.T) {
	overBoth(t, func(t *testing.T, _ *Server, c *kms.Client) {
		for _, multi := range []bool{false, true} {
			out, err := c.CreateKey(t.Context(), &kms.CreateKeyInput{MultiRegion: &multi, Description: aws.String("words")})
			if err != nil {
				t.Fatal(err)
			}
			m := mustDescribe(t, c, *out.KeyMetadata.KeyId)
			if *m.MultiRegion != multi || *m.Description != "words" || *m.CurrentKeyMaterialId != *out.KeyMetadata.CurrentKeyMaterialId {
				t.Errorf("created %+v, described %+v", out.KeyMetadata, m)
			}
			mustEncrypt(t, c, *m.Arn)
		}
		_, err := c.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048})
		if !is[*types.UnsupportedOperationException](err) {
			t.Errorf("an RSA key: %v", err)
		}
	})
}

// Every form of KeyId, in every operation that has one.
func TestKeyID(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		aliasARN := s.Alias("alias/of/the_key-1", k)
		blob := mustEncrypt(t, c, k.ARN)
		withAliases := map[string]func(id string) error{
			"DescribeKey":     func(id string) error { _, err := describe(t.Context(), c, id); return err },
			"Encrypt":         func(id string) error { _, err := encrypt(t.Context(), c, id); return err },
			"Decrypt":         func(id string) error { _, err := decrypt(t.Context(), c, id, blob); return err },
			"GenerateDataKey": func(id string) error { _, err := dataKey(t.Context(), c, id); return err },
		}
		without := map[string]func(id string) error{
			"RotateKeyOnDemand": func(id string) error {
				_, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id})
				return err
			},
			"DisableKey": func(id string) error {
				_, err := c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id})
				return err
			},
			"EnableKey": func(id string) error {
				_, err := c.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &id})
				return err
			},
			"ScheduleKeyDeletion": func(id string) error {
				_, err := c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id})
				return err
			},
			"CancelKeyDeletion": func(id string) error {
				k.SetState(PendingDeletion)
				_, err := c.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &id})
				return err
			},
			"UpdateAlias": func(id string) error {
				_, err := c.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: aws.String("alias/of/the_key-1"), TargetKeyId: &id})
				return err
			},
		}
		missing := "12345678-1234-1234-1234-123456789012"
		for name, tt := range map[string]struct{ id, code, aliasCode string }{
			"key ARN":                  {k.ARN, "", ""},
			"key ID":                   {k.ID(), "", ""},
			"alias ARN":                {aliasARN, "", "NotFoundException"},
			"alias name":               {"alias/of/the_key-1", "", "NotFoundException"},
			"no such key":              {missing, "NotFoundException", "NotFoundException"},
			"no such key ARN":          {s.arn("key/" + missing), "NotFoundException", "NotFoundException"},
			"no such alias":            {"alias/other", "NotFoundException", "NotFoundException"},
			"no such alias ARN":        {s.arn("alias/other"), "NotFoundException", "NotFoundException"},
			"nothing of the kind":      {"of/the_key-1", "NotFoundException", "NotFoundException"},
			"another region's key":     {strings.Replace(k.ARN, region, "us-east-1", 1), "NotFoundException", "NotFoundException"},
			"another region's alias":   {strings.Replace(aliasARN, region, "us-east-1", 1), "NotFoundException", "NotFoundException"},
			"another account's key":    {strings.Replace(k.ARN, account, "999999999999", 1), "NotFoundException", "NotFoundException"},
			"another service's ARN":    {strings.Replace(k.ARN, ":kms:", ":s3:", 1), "InvalidArnException", "InvalidArnException"},
			"half an ARN":              {"arn:aws:kms:" + region, "InvalidArnException", "InvalidArnException"},
			"the ARN of something":     {s.arn("grant/x"), "InvalidArnException", "InvalidArnException"},
			"a key ARN with an alias":  {s.arn("key/alias/of/the_key-1"), "NotFoundException", "NotFoundException"},
			"an alias ARN with an ID":  {s.arn("alias/" + k.ID()), "NotFoundException", "NotFoundException"},
			"the key ID in upper case": {strings.ToUpper(k.ID()) + "X", "NotFoundException", "NotFoundException"},
		} {
			for op, call := range withAliases {
				k.SetState(Enabled)
				wantCode(t, op+" with "+name, call(tt.id), tt.code)
			}
			for op, call := range without {
				k.SetState(Enabled)
				wantCode(t, op+" with "+name, call(tt.id), cmpOr(tt.aliasCode, tt.code))
			}
		}
		k.SetState(Enabled)
		if m := mustDescribe(t, c, aliasARN); *m.Arn != k.ARN {
			t.Errorf("DescribeKey of an alias gives %s", *m.Arn)
		}
		out, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String("alias/of/the_key-1"), Plaintext: plaintext})
		if err != nil || *out.KeyId != k.ARN {
			t.Errorf("Encrypt under an alias answers %+v, %v", out, err)
		}
		_, err = describe(t.Context(), c, missing)
		if !is[*types.NotFoundException](err) {
			t.Errorf("no typed error: %v", err)
		}
		_, err = describe(t.Context(), c, "arn:")
		if !is[*types.InvalidArnException](err) {
			t.Errorf("no typed error: %v", err)
		}
		_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob})
		wantCode(t, "Decrypt without KeyId", err, "ValidationException")
	})
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func TestAliases(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		one, two := s.NewKey(), s.NewKey()
		const name = "alias/prod"
		create := func(name, id string) error {
			_, err := c.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &name, TargetKeyId: &id})
			return err
		}
		update := func(name, id string) error {
			_, err := c.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: &name, TargetKeyId: &id})
			return err
		}
		remove := func(name string) error {
			_, err := c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: &name})
			return err
		}
		leadsTo := func(k *Key) {
			t.Helper()
			if m := mustDescribe(t, c, name); *m.Arn != k.ARN {
				t.Errorf("the alias leads to %s, want %s", *m.Arn, k.ARN)
			}
		}

		if err := update(name, one.ARN); !is[*types.NotFoundException](err) {
			t.Errorf("UpdateAlias of no alias: %v", err)
		}
		if err := create(name, one.ID()); err != nil {
			t.Fatal(err)
		}
		leadsTo(one)
		blob := mustEncrypt(t, c, name)
		if err := create(name, two.ID()); !is[*types.AlreadyExistsException](err) {
			t.Errorf("a second CreateAlias: %v", err)
		}
		if err := update(name, two.ARN); err != nil {
			t.Fatal(err)
		}
		leadsTo(two)
		if _, err := decrypt(t.Context(), c, name, blob); !is[*types.IncorrectKeyException](err) {
			t.Errorf("Decrypt under a moved alias: %v", err)
		}
		one.SetState(PendingDeletion)
		if err := update(name, one.ARN); !is[*types.KMSInvalidStateException](err) {
			t.Errorf("an alias of a key that goes: %v", err)
		}
		if err := create("alias/more", one.ARN); !is[*types.KMSInvalidStateException](err) {
			t.Errorf("an alias of a key that goes: %v", err)
		}
		if err := remove(name); err != nil {
			t.Fatal(err)
		}
		if err := remove(name); !is[*types.NotFoundException](err) {
			t.Errorf("a second DeleteAlias: %v", err)
		}
		if _, err := describe(t.Context(), c, name); !is[*types.NotFoundException](err) {
			t.Errorf("a deleted alias still leads somewhere: %v", err)
		}
		one.SetState(Enabled)
		if arn := s.Alias(name, one); arn != s.arn(name) {
			t.Errorf("Alias returns %s", arn)
		}
		leadsTo(one)
		s.Alias(name, two)
		leadsTo(two)

		for bad, code := range map[string]string{
			"prod":                              "ValidationException",
			"alias/with space":                  "ValidationException",
			"alias/" + strings.Repeat("x", 251): "ValidationException",
			"alias/":                            "InvalidAliasNameException",
			"alias/aws/kms":                     "InvalidAliasNameException",
		} {
			wantCode(t, "CreateAlias "+bad, create(bad, one.ARN), code)
		}
		if err := create("alias/aws/kms", one.ARN); !is[*types.InvalidAliasNameException](err) {
			t.Errorf("no typed error: %v", err)
		}
	})
}

// Which operation meets which error in which key state.
func TestKeyStates(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewMultiRegionKey()
		elsewhere := New("eu-west-1")
		Connect(s, elsewhere)
		blob := mustEncrypt(t, c, k.ARN)
		const (
			ok       = ""
			disabled = "DisabledException"
			invalid  = "KMSInvalidStateException"
		)
		states := []string{Enabled, Disabled, PendingDeletion, Creating}
		n := 0
		for op, tt := range map[string]struct {
			call func(ctx context.Context) error
			want [4]string
		}{
			"DescribeKey":     {func(ctx context.Context) error { _, err := describe(ctx, c, k.ARN); return err }, [4]string{ok, ok, ok, ok}},
			"Encrypt":         {func(ctx context.Context) error { _, err := encrypt(ctx, c, k.ARN); return err }, [4]string{ok, disabled, invalid, invalid}},
			"Decrypt":         {func(ctx context.Context) error { _, err := decrypt(ctx, c, k.ARN, blob); return err }, [4]string{ok, disabled, invalid, invalid}},
			"GenerateDataKey": {func(ctx context.Context) error { _, err := dataKey(ctx, c, k.ARN); return err }, [4]string{ok, disabled, invalid, invalid}},
			"RotateKeyOnDemand": {func(ctx context.Context) error {
				_, err := c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &k.ARN})
				return err
			}, [4]string{ok, disabled, invalid, invalid}},
			"ReplicateKey": {func(ctx context.Context) error {
				_, err := c.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: &k.ARN, ReplicaRegion: aws.String("eu-west-1")})
				return err
			}, [4]string{ok, disabled, invalid, invalid}},
			"EnableKey": {func(ctx context.Context) error {
				_, err := c.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &k.ARN})
				return err
			}, [4]string{ok, ok, invalid, invalid}},
			"DisableKey": {func(ctx context.Context) error {
				_, err := c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &k.ARN})
				return err
			}, [4]string{ok, ok, invalid, invalid}},
			"ScheduleKeyDeletion": {func(ctx context.Context) error {
				_, err := c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &k.ARN})
				return err
			}, [4]string{ok, ok, invalid, ok}},
			"CancelKeyDeletion": {func(ctx context.Context) error {
				_, err := c.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &k.ARN})
				return err
			}, [4]string{invalid, invalid, ok, invalid}},
			"CreateAlias": {func(ctx context.Context) error {
				n++
				name := "alias/" + strings.Repeat("x", n)
				_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &name, TargetKeyId: &k.ARN})
				return err
			}, [4]string{ok, ok, invalid, ok}},
		} {
			for i, state := range states {
				k.SetState(state)
				wantCode(t, op+" in state "+state, tt.call(t.Context()), tt.want[i])
			}
		}
		k.SetState(Disabled)
		_, err := encrypt(t.Context(), c, k.ARN)
		if !is[*types.DisabledException](err) {
			t.Errorf("no typed error: %v", err)
		}
		k.SetState(PendingDeletion)
		_, err = encrypt(t.Context(), c, k.ARN)
		if !is[*types.KMSInvalidStateException](err) {
			t.Errorf("no typed error: %v", err)
		}
	})
}

func TestEnableAndDisable(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		if _, err := c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &k.ARN}); err != nil {
			t.Fatal(err)
		}
		_, err := encrypt(t.Context(), c, k.ARN)
		if !is[*types.DisabledException](err) {
			t.Errorf("under a disabled key: %v", err)
		}
		if _, err := c.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &k.ARN}); err != nil {
			t.Fatal(err)
		}
		mustEncrypt(t, c, k.ARN)
	})
}

func TestRotateKeyOnDemand(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		rotate := func() error {
			out, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: aws.String(k.ID())})
			if err == nil && *out.KeyId != k.ARN {
				t.Errorf("answer %+v", out)
			}
			return err
		}
		materials := []string{k.MaterialID()}
		for range 25 {
			k.Rotate() // does not count
			if err := rotate(); err != nil {
				t.Fatal(err)
			}
			if slices.Contains(materials, k.MaterialID()) {
				t.Fatal("no new material")
			}
			materials = append(materials, k.MaterialID())
		}
		if err := rotate(); !is[*types.LimitExceededException](err) {
			t.Errorf("26th rotation: %v", err)
		}
		if k.MaterialID() != materials[25] {
			t.Error("a refused rotation brings new material")
		}
	})
}

func TestPlaintextLimits(t *testing.T) {
	s := New(region)
	c, k := inProcess(s), s.NewKey()
	for n, code := range map[int]string{0: "ValidationException", 1: "", 4096: "", 4097: "ValidationException"} {
		_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &k.ARN, Plaintext: make([]byte, n)})
		wantCode(t, "Encrypt", err, code)
	}
}

func TestUnknownOperation(t *testing.T) {
	s := New(region)
	_, err := inProcess(s).ListKeys(t.Context(), &kms.ListKeysInput{})
	wantCode(t, "ListKeys", err, "UnknownOperationException")
}
