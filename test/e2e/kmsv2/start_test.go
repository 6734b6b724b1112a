package kmsv2_test

import (
	"testing"
	"time"

	"github.com/ekskms/ekskms/internal/kmsfake"
	"github.com/ekskms/ekskms/internal/kmsplugin"
)

// TestStartWhileDegraded: DescribeKey fails and the key itself is as good as
// ever, so an API server can start.
func TestStartWhileDegraded(t *testing.T) {
	cloud := newCloud(t)
	plugin := cloud.serve(t, socketPath(t))
	plugin.vouches("")
	cloud.Fail("DescribeKey", &kmsfake.Error{Code: "ThrottlingException"})
	plugin.degrades("AWS KMS throttles this account")
	onFakeClock(t, func(t *testing.T, out *outside) {
		server := startAPIServer(out.context(t.Context()), t, plugin.socket, options{})
		server.mustBeHealthy()
		stored := server.mustWrite("object")
		time.Sleep(time.Hour)
		server.mustRead(stored, "object", false)
		server.mustRead(server.mustWrite("object"), "object", false)
	})
}

// TestStartInReplica: an API server starts and reads while KMS is down in the
// key's own Region, if the key has a replica elsewhere.
func TestStartInReplica(t *testing.T) {
	home, elsewhere := inRegion(t, region), inRegion(t, "eu-west-1")
	home.key = home.NewMultiRegionKey()
	home.key.Replicate(elsewhere.Server)
	plugin := home.serve(t, socketPath(t), func(c *kmsplugin.Config) {
		c.Keys[0].Clients = append(c.Keys[0].Clients, elsewhere.client)
	})
	plugin.vouches("")
	onFakeClock(t, func(t *testing.T, out *outside) {
		before := startAPIServer(out.context(t.Context()), t, plugin.socket, options{})
		old := before.mustWrite("object")
		out.do(func() {
			home.outage(true)
			plugin.degrades(outageReason)
		})
		server := startAPIServer(out.context(t.Context()), t, plugin.socket, options{})
		server.mustBeHealthy()
		server.mustRead(old, "object", false)
		stored := server.mustWrite("object")
		out.do(func() {
			home.outage(false)
			elsewhere.outage(true)
		})
		before.mustRead(stored, "object", false)
	})
}

// TestStartWithoutKMS: an API server that starts during an outage can neither
// read nor write, whether the plugin has known the key before or not. Its health
// check has the plugin's reason, and it recovers by itself.
func TestStartWithoutKMS(t *testing.T) {
	for name, known := range map[string]bool{"plugin was up before": true, "plugin starts too": false} {
		t.Run(name, func(t *testing.T) {
			cloud := newCloud(t)
			socket := socketPath(t)
			plugin := cloud.serve(t, socket)
			plugin.vouches("")
			onFakeClock(t, func(t *testing.T, out *outside) {
				before := startAPIServer(out.context(t.Context()), t, socket, options{})
				old := before.mustWrite("object")
				before.stop()
				out.do(func() {
					cloud.outage(true)
					if known {
						plugin.degrades(outageReason)
						return
					}
					plugin.stop()
					plugin = cloud.serve(t, socket)
					plugin.fails(outageReason)
				})
				server := startAPIServer(out.context(t.Context()), t, socket, options{})
				server.mustFail(outageReason)
				server.mustNotWrite("nil transformer")
				if _, _, err := server.TransformFromStorage(t.Context(), old, secret); err == nil {
					t.Error("reads, although it could not open the seed")
				}
				time.Sleep(time.Minute)
				server.mustFail(outageReason)
				out.do(func() {
					cloud.outage(false)
					plugin.vouches("")
				})
				time.Sleep(reprobeInterval + time.Second)
				server.mustBeHealthy()
				server.mustRead(old, "object", false)
				server.mustRead(server.mustWrite("object"), "object", false)
			})
		})
	}
}

// TestStartBeforePlugin: an API server that starts first waits for the plugin.
func TestStartBeforePlugin(t *testing.T) {
	cloud := newCloud(t)
	socket := socketPath(t)
	onFakeClock(t, func(t *testing.T, out *outside) {
		server := startAPIServer(out.context(t.Context()), t, socket, options{timeout: time.Second})
		server.mustFail("DeadlineExceeded")
		server.mustNotWrite("nil transformer")
		out.do(func() { cloud.serve(t, socket).vouches("") })
		server.becomesHealthy()
		server.mustRead(server.mustWrite("object"), "object", false)
	})
}
