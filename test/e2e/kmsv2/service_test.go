package kmsv2_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmstypes "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"
	kmsservice "k8s.io/kms/pkg/service"
)

// TestService: the three calls of the API server's gRPC client.
func TestService(t *testing.T) {
	cloud := newCloud(t)
	plugin := cloud.serve(t, socketPath(t))
	keyID := plugin.vouches("")
	service := plugin.direct

	s := plugin.status()
	if s.Version != kmsv2.KMSAPIVersionv2 || s.Healthz != "ok" {
		t.Errorf("Status says version %q, healthz %q", s.Version, s.Healthz)
	}
	if _, err := kmsv2.ValidateKeyID(s.KeyID); err != nil {
		t.Error(err)
	}

	seed := bytes.Repeat([]byte("seed"), 8) // 32 bytes, as the API server's
	e, err := service.Encrypt(t.Context(), "uid-1", seed)
	if err != nil {
		t.Fatal(err)
	}
	if e.KeyID != keyID {
		t.Errorf("Encrypt says key_id %q and Status %q", e.KeyID, keyID)
	}
	for _, kind := range []kmstypes.EncryptedDEKSourceType{kmstypes.EncryptedDEKSourceType_AES_GCM_KEY, kmstypes.EncryptedDEKSourceType_HKDF_SHA256_XNONCE_AES_GCM_SEED} {
		err := kmsv2.ValidateEncryptedObject(&kmstypes.EncryptedObject{
			EncryptedData: []byte{0}, KeyID: e.KeyID, EncryptedDEKSource: e.Ciphertext, Annotations: e.Annotations, EncryptedDEKSourceType: kind,
		})
		if err != nil {
			t.Error(err)
		}
	}

	req := kmsservice.DecryptRequest{Ciphertext: e.Ciphertext, KeyID: e.KeyID, Annotations: e.Annotations}
	back, err := service.Decrypt(t.Context(), "uid-2", &req)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back, seed) {
		t.Error("Decrypt gave other bytes than Encrypt took")
	}

	for name, change := range map[string]struct {
		req  kmsservice.DecryptRequest
		want codes.Code
	}{
		"another plugin's key_id":     {kmsservice.DecryptRequest{Ciphertext: e.Ciphertext, KeyID: "the-key"}, codes.FailedPrecondition},
		"another plugin's annotation": {kmsservice.DecryptRequest{Ciphertext: e.Ciphertext, KeyID: e.KeyID, Annotations: map[string][]byte{"a.example": nil}}, codes.FailedPrecondition},
		"a ciphertext that was cut":   {kmsservice.DecryptRequest{Ciphertext: e.Ciphertext[:len(e.Ciphertext)-1], KeyID: e.KeyID}, codes.InvalidArgument},
	} {
		if _, err := service.Decrypt(t.Context(), "uid-3", &change.req); status.Code(err) != change.want {
			t.Errorf("%s: %v, want code %s", name, err, change.want)
		}
	}
}

// TestTransformer: the API server's envelope around objects, with seeds as it
// makes them today and with single keys as it made them before 1.29.
func TestTransformer(t *testing.T) {
	const plaintext = "the plaintext of this test"
	cloud := newCloud(t)
	plugin := cloud.serve(t, socketPath(t))
	plugin.vouches("")
	service := plugin.direct

	for name, useSeed := range map[string]bool{"seed": true, "single key": false} {
		t.Run(name, func(t *testing.T) {
			transformer, object, cacheKey, err := kmsv2.GenerateTransformer(t.Context(), "uid", service, useSeed)
			if err != nil {
				t.Fatal(err)
			}
			state := func() (kmsv2.State, error) {
				return kmsv2.State{
					Transformer: transformer, EncryptedObjectKeyID: object.KeyID, EncryptedObjectEncryptedDEKSource: object.EncryptedDEKSource,
					EncryptedObjectAnnotations: object.Annotations, EncryptedObjectEncryptedDEKSourceType: object.EncryptedDEKSourceType,
					UID: "uid", ExpirationTimestamp: time.Now().Add(time.Hour), CacheKey: cacheKey, KMSProviderName: provider,
				}, nil
			}
			write := kmsv2.NewEnvelopeTransformer(service, provider, state, "writer")
			stored, err := write.TransformToStorage(t.Context(), []byte(plaintext), secret)
			if err != nil {
				t.Fatal(err)
			}
			// What etcd holds must tell neither the plaintext nor the account.
			for _, word := range []string{plaintext, cloud.key.ARN, cloud.key.ID(), "111122223333", cloud.key.MaterialID(), clusterContext["ekskms-cluster"]} {
				if bytes.Contains(stored, []byte(word)) {
					t.Errorf("stored bytes have %q in them", word)
				}
			}

			// Another transformer has an empty cache: it must ask the plugin.
			read := kmsv2.NewEnvelopeTransformer(service, provider, state, "reader")
			before := cloud.Count("Decrypt")
			got, stale, err := read.TransformFromStorage(t.Context(), stored, secret)
			if err != nil || stale || string(got) != plaintext {
				t.Errorf("read: error %v, stale %v, same %v", err, stale, string(got) == plaintext)
			}
			if cloud.Count("Decrypt") == before {
				t.Error("the object was read without AWS KMS")
			}
			if _, _, err := read.TransformFromStorage(t.Context(), stored, value.DefaultContext("/registry/secrets/default/other")); err == nil {
				t.Error("an object that was moved in etcd can be read")
			}
		})
	}
}

// TestMetricsJoin: the API server's metrics name key_ids by a hash, under which
// the plugin's have them too.
func TestMetricsJoin(t *testing.T) {
	plugin := newCloud(t).serve(t, socketPath(t))
	hash := kmsv2.GetHashIfNotEmpty(plugin.vouches(""))
	resp, err := http.Get(plugin.health + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `key_id_hash="`+hash+`"`) {
		t.Errorf("the plugin's metrics don't have the API server's key_id_hash %s", hash)
	}
}
