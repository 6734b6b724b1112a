package kmsv2_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/ekskms/ekskms/internal/kmsplugin"
)

// TestVersion: the API server takes v2beta1, and holds a plugin to what it heard
// first. An API server that has seen aws-encryption-provider on the socket needs
// statusVersion v2beta1 until its next start.
func TestVersion(t *testing.T) {
	cloud := newCloud(t)
	socket := socketPath(t)
	beta := func(c *kmsplugin.Config) { c.StatusVersion = kmsplugin.VersionV2Beta1 }
	plugin := cloud.serve(t, socket, beta)
	plugin.vouches("")
	onFakeClock(t, func(t *testing.T, out *outside) {
		server := startAPIServer(out.context(t.Context()), t, socket, options{})
		server.mustBeHealthy()
		stored := server.mustWrite("object")
		restart := func(change ...func(*kmsplugin.Config)) {
			out.do(func() {
				plugin.stop()
				plugin = cloud.serve(t, socket, change...)
				plugin.vouches("")
			})
			time.Sleep(probeInterval + time.Second)
		}
		restart(beta)
		server.mustBeHealthy()
		restart()
		server.mustFail("KMSv2 API version should not change after the initial status response version v2beta1, got v2")
		// Only its health suffers: the key_id prolongs the seed's life.
		time.Sleep(time.Hour)
		server.mustFail("version should not change")
		server.mustRead(server.mustWrite("object"), "object", false)
		// A restarted API server takes v2.
		restarted := startAPIServer(out.context(t.Context()), t, socket, options{})
		restarted.mustBeHealthy()
		restarted.mustRead(stored, "object", false)
		restart(beta)
		server.mustBeHealthy()
	})
}

// TestDataOfAWSEncryptionProvider: the plugin takes the place of
// kubernetes-sigs/aws-encryption-provider on its socket. What that one has
// written is readable and stale, for the running API server and for one that
// starts.
func TestDataOfAWSEncryptionProvider(t *testing.T) {
	const alias = "alias/secrets"
	for name, c := range map[string]struct {
		key     func(*cloud) string
		context map[string]string
		change  func(*kmsplugin.Config)
	}{
		"key ARN, same encryption context": {
			key: func(c *cloud) string { return c.key.ARN }, context: clusterContext,
		},
		"key ID, no encryption context": {
			key:    func(c *cloud) string { return c.key.ID() },
			change: func(c *kmsplugin.Config) { c.LegacyContext = map[string]string{} },
		},
		"ARN of an alias, another encryption context": {
			key: func(c *cloud) string { return c.Alias(alias, c.key) }, context: map[string]string{"old": "context"},
			change: func(c *kmsplugin.Config) {
				c.Keys[0].LegacyKeyIDs = []string{c.Keys[0].ID[:strings.LastIndex(c.Keys[0].ID, ":")+1] + alias}
				c.LegacyContext = map[string]string{"old": "context"}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := newCloud(t)
			socket := socketPath(t)
			legacy := &legacyPlugin{kms: cloud.client.KMS.(*kms.Client), key: c.key(cloud), context: c.context}
			stopLegacy := serveOther(t, socket, legacy)
			onFakeClock(t, func(t *testing.T, out *outside) {
				server := startAPIServer(out.context(t.Context()), t, socket, options{})
				server.mustBeHealthy()
				old := server.mustWrite("object")
				if id := parse(t, old).KeyID; id != legacy.key {
					t.Fatalf("the stand-in's key_id is %s", id)
				}
				server.mustRead(old, "object", false)

				out.do(func() {
					stopLegacy()
					cloud.serve(t, socket, func(cfg *kmsplugin.Config) {
						cfg.StatusVersion = kmsplugin.VersionV2Beta1
						if c.change != nil {
							c.change(cfg)
						}
					}).vouches("")
				})
				time.Sleep(probeInterval + time.Second)
				server.mustBeHealthy()
				server.mustRead(old, "object", true)
				fresh := server.mustWrite("object")
				server.mustRead(fresh, "object", false)

				restarted := startAPIServer(out.context(t.Context()), t, socket, options{})
				restarted.mustBeHealthy()
				restarted.mustRead(old, "object", true)
				restarted.mustRead(fresh, "object", false)
			})
		})
	}
}
