package kmsfake

import (
	"bytes"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func TestReplica(t *testing.T) {
	here, there := New(region), New("eu-west-1")
	c, d := overHTTP(t, here), overHTTP(t, there)
	k := here.NewMultiRegionKey()
	r := k.Replicate(there)
	if !regexp.MustCompile(`^mrk-[0-9a-f]{32}$`).MatchString(k.ID()) || r.ID() != k.ID() || r.ARN == k.ARN ||
		r.ARN != there.arn("key/"+k.ID()) {
		t.Fatalf("primary %s, replica %s", k.ARN, r.ARN)
	}
	k.Rotate()
	if k.MaterialID() != r.MaterialID() {
		t.Error("a rotation does not reach the replica")
	}

	both := []struct {
		c   *kms.Client
		key *Key
	}{{c, k}, {d, r}}
	for _, from := range both {
		blob := mustEncrypt(t, from.c, from.key.ARN, "a", "1")
		for _, to := range both {
			out, err := decrypt(t.Context(), to.c, to.key.ARN, blob, "a", "1")
			if err != nil || !bytes.Equal(out.Plaintext, plaintext) || *out.KeyId != to.key.ARN || *out.KeyMaterialId != k.MaterialID() {
				t.Errorf("sealed by %s, opened by %s: %+v, %v", from.key.ARN, to.key.ARN, out, err)
			}
		}
		m := mustDescribe(t, from.c, from.key.ID())
		kind := types.MultiRegionKeyTypePrimary
		if from.key == r {
			kind = types.MultiRegionKeyTypeReplica
		}
		mr := m.MultiRegionConfiguration
		if !*m.MultiRegion || mr.MultiRegionKeyType != kind || *mr.PrimaryKey.Arn != k.ARN || *mr.PrimaryKey.Region != region ||
			len(mr.ReplicaKeys) != 1 || *mr.ReplicaKeys[0].Arn != r.ARN || *mr.ReplicaKeys[0].Region != "eu-west-1" {
			t.Errorf("%s describes as %+v", from.key.ARN, mr)
		}
	}

	// What belongs to each of the two alone.
	blob := mustEncrypt(t, c, k.ARN)
	r.SetState(Disabled)
	if _, err := decrypt(t.Context(), d, r.ARN, blob); !is[*types.DisabledException](err) {
		t.Errorf("a disabled replica: %v", err)
	}
	mustEncrypt(t, c, k.ARN)
	r.SetState(Enabled)
	r.RequireContext(map[string]string{"a": "1"})
	_, err := decrypt(t.Context(), d, r.ARN, blob)
	wantCode(t, "a replica that wants a context", err, "AccessDeniedException")
	if _, err := decrypt(t.Context(), c, k.ARN, blob); err != nil {
		t.Errorf("the replica's requirement holds for the primary: %v", err)
	}
	if _, err := decrypt(t.Context(), d, k.ARN, blob); !is[*types.NotFoundException](err) {
		t.Errorf("the primary's ARN in the replica's region: %v", err)
	}
	_, err = d.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &r.ARN})
	if !is[*types.UnsupportedOperationException](err) {
		t.Errorf("RotateKeyOnDemand of a replica: %v", err)
	}
	other := there.NewMultiRegionKey()
	r.RequireContext(nil)
	if _, err := decrypt(t.Context(), d, other.ARN, blob); !is[*types.IncorrectKeyException](err) {
		t.Errorf("under an unrelated multi-Region key: %v", err)
	}
}

func TestReplicateKey(t *testing.T) {
	here, there := New(region), New("eu-west-1")
	Connect(here, there)
	c, d := overHTTP(t, here), overHTTP(t, there)
	k, single := here.NewMultiRegionKey(), here.NewKey()
	replicate := func(c *kms.Client, id, to string) (*kms.ReplicateKeyOutput, error) {
		return c.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: &id, ReplicaRegion: &to, Description: aws.String("words")})
	}
	out, err := replicate(c, k.ID(), "eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	r := *out.ReplicaKeyMetadata.Arn
	if m := mustDescribe(t, d, r); *m.Description != "words" || *m.CurrentKeyMaterialId != k.MaterialID() {
		t.Errorf("replica %+v", m)
	}
	if _, err := decrypt(t.Context(), d, r, mustEncrypt(t, c, k.ARN)); err != nil {
		t.Errorf("the replica can't decrypt: %v", err)
	}
	if _, err := replicate(c, k.ID(), "eu-west-1"); !is[*types.AlreadyExistsException](err) {
		t.Errorf("a second replica in a region: %v", err)
	}
	if _, err := replicate(c, single.ID(), "eu-west-1"); !is[*types.UnsupportedOperationException](err) {
		t.Errorf("a replica of a single-Region key: %v", err)
	}
	if _, err := replicate(d, r, "us-east-1"); codeOf(err) != "ValidationException" {
		t.Errorf("a replica in no region: %v", err)
	}
	third := New("us-east-1")
	Connect(here, there, third)
	if _, err := replicate(d, r, "us-east-1"); !is[*types.UnsupportedOperationException](err) {
		t.Errorf("a replica of a replica: %v", err)
	}
}

func TestDelayReplication(t *testing.T) {
	here, there := New(region), New("eu-west-1")
	c, d := inProcess(here), inProcess(there)
	k := here.NewMultiRegionKey()
	r := k.Replicate(there)
	old := k.MaterialID()
	r.DelayReplication(true)
	k.Rotate()
	blob := mustEncrypt(t, c, k.ARN)
	if m := mustDescribe(t, d, r.ARN); *m.CurrentKeyMaterialId != old || r.MaterialID() != old {
		t.Errorf("the replica has %s, want %s", *m.CurrentKeyMaterialId, old)
	}
	if m := mustDescribe(t, c, k.ARN); *m.CurrentKeyMaterialId == old {
		t.Error("the primary lags too")
	}
	if _, err := decrypt(t.Context(), d, r.ARN, blob); !is[*types.InvalidCiphertextException](err) {
		t.Errorf("the replica decrypts under what it does not have: %v", err)
	}
	if _, err := decrypt(t.Context(), c, k.ARN, mustEncrypt(t, d, r.ARN)); err != nil {
		t.Errorf("the primary can't read what the replica writes: %v", err)
	}
	r.DelayReplication(false)
	if _, err := decrypt(t.Context(), d, r.ARN, blob); err != nil || r.MaterialID() != k.MaterialID() {
		t.Errorf("the rotation never arrives: %v", err)
	}
	k.Rotate()
	if r.MaterialID() != k.MaterialID() {
		t.Error("the next rotation lags")
	}
}

// What ReplicateKey or RotateKeyOnDemand would refuse is a mistake in a test.
func TestMistakesPanic(t *testing.T) {
	here, there := New(region), New("eu-west-1")
	k := here.NewMultiRegionKey()
	r := k.Replicate(there)
	for name, f := range map[string]func(){
		"rotating a replica":                r.Rotate,
		"replicating a replica":             func() { r.Replicate(New("us-east-1")) },
		"replicating a single-Region key":   func() { here.NewKey().Replicate(there) },
		"replicating twice":                 func() { k.Replicate(there) },
		"delaying replication to a primary": func() { k.DelayReplication(true) },
		"an alias without its prefix":       func() { here.Alias("x", k) },
		"an alias of another region's key":  func() { here.Alias("alias/x", r) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s does not panic", name)
				}
			}()
			f()
		}()
	}
	k.Rotate() // a panic leaves no lock behind
}

func TestKeyDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(region)
		c, k := inProcess(s), s.NewKey()
		s.Alias("alias/x", k)
		schedule := func(days int32) (*kms.ScheduleKeyDeletionOutput, error) {
			return c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &k.ARN, PendingWindowInDays: &days})
		}
		for _, days := range []int32{6, 31} {
			_, err := schedule(days)
			wantCode(t, "ScheduleKeyDeletion", err, "ValidationException")
		}
		out, err := schedule(7)
		if err != nil {
			t.Fatal(err)
		}
		end := time.Now().Add(7 * day)
		if out.KeyState != types.KeyStatePendingDeletion || *out.PendingWindowInDays != 7 || !out.DeletionDate.Equal(end) || *out.KeyId != k.ARN {
			t.Errorf("answer %+v", out)
		}
		if m := mustDescribe(t, c, k.ARN); m.KeyState != types.KeyStatePendingDeletion || !m.DeletionDate.Equal(end) {
			t.Errorf("metadata %+v", m)
		}
		if _, err := c.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &k.ARN}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * day)
		if m := mustDescribe(t, c, k.ARN); m.KeyState != types.KeyStateDisabled || m.DeletionDate != nil {
			t.Errorf("after CancelKeyDeletion: %+v", m)
		}
		byDefault, err := c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &k.ARN})
		if err != nil || *byDefault.PendingWindowInDays != 30 {
			t.Fatalf("answer %+v, %v", byDefault, err)
		}
		time.Sleep(30*day - time.Second)
		mustDescribe(t, c, k.ARN)
		time.Sleep(time.Second)
		for _, id := range []string{k.ARN, k.ID(), "alias/x"} {
			if _, err := describe(t.Context(), c, id); !is[*types.NotFoundException](err) {
				t.Errorf("%s of a deleted key: %v", id, err)
			}
		}
		other := s.NewKey()
		if _, err := c.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: &other.ARN}); err != nil {
			t.Errorf("a deleted key keeps its alias: %v", err)
		}
	})
}

// A primary outlives its replicas, and its window begins after them.
func TestPrimaryWaitsForItsReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := New(region), New("eu-west-1")
		c, d := inProcess(here), inProcess(there)
		k := here.NewMultiRegionKey()
		r := k.Replicate(there)
		begin := time.Now()
		out, err := c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &k.ARN, PendingWindowInDays: aws.Int32(7)})
		if err != nil || out.KeyState != types.KeyStatePendingReplicaDeletion || out.DeletionDate != nil {
			t.Fatalf("answer %+v, %v", out, err)
		}
		time.Sleep(100 * day)
		if m := mustDescribe(t, c, k.ARN); m.KeyState != types.KeyStatePendingReplicaDeletion || *m.PendingDeletionWindowInDays != 7 {
			t.Errorf("metadata %+v", m)
		}
		if _, err := encrypt(t.Context(), c, k.ARN); !is[*types.KMSInvalidStateException](err) {
			t.Errorf("under a key that goes: %v", err)
		}
		if _, err := d.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &r.ARN, PendingWindowInDays: aws.Int32(10)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * day)
		m := mustDescribe(t, c, k.ARN)
		if m.KeyState != types.KeyStatePendingDeletion || !m.DeletionDate.Equal(begin.Add(117*day)) || len(m.MultiRegionConfiguration.ReplicaKeys) != 0 {
			t.Errorf("metadata %+v", m)
		}
		if _, err := c.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &k.ARN}); err != nil {
			t.Fatal(err)
		}
		k.SetState(Enabled)
		k.Replicate(there) // the region is free again
		if _, err := decrypt(t.Context(), d, r.ARN, mustEncrypt(t, c, k.ARN)); err != nil {
			t.Errorf("the second replica: %v", err)
		}
	})
}
