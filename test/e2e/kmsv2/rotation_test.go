package kmsv2_test

import (
	"testing"
	"time"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// TestRotation: after AWS KMS has rotated the key, the API server's own probe
// takes the new key_id; what it wrote before reads back and is reported stale,
// so that a storage migration rewrites it.
func TestRotation(t *testing.T) {
	for name, reload := range map[string]bool{"reload=false": false, "reload=true": true} {
		t.Run(name, func(t *testing.T) {
			cloud := newCloud(t)
			plugin := cloud.serve(t, socketPath(t))
			first := plugin.vouches("")
			onFakeClock(t, func(t *testing.T, out *outside) {
				server := startAPIServer(out.context(t.Context()), t, plugin.socket, options{reload: reload})
				server.mustBeHealthy()
				if name := server.health.Name(); name != "kms-providers" {
					t.Errorf("the health check's name is %s", name)
				}
				old := server.mustWrite("before")
				if id := parse(t, old).KeyID; id != first {
					t.Errorf("written under %s, Status says %s", id, first)
				}
				time.Sleep(5*probeInterval + time.Second)
				server.mustRead(old, "before", false)
				if again := server.mustWrite("before"); parse(t, again).KeyID != first {
					t.Error("the key_id changed without a rotation")
				}

				var second string
				out.do(func() {
					cloud.key.Rotate()
					second = plugin.vouches(first)
				})
				time.Sleep(probeInterval + time.Second)
				server.mustBeHealthy()
				fresh := server.mustWrite("after")
				if id := parse(t, fresh).KeyID; id != second {
					t.Errorf("written under %s, Status says %s", id, second)
				}
				server.mustRead(fresh, "after", false)
				server.mustRead(old, "before", true)

				// A second API server, or this one after a restart, has to open
				// the seeds of both materials with KMS.
				other := startAPIServer(out.context(t.Context()), t, plugin.socket, options{reload: reload})
				other.mustRead(fresh, "after", false)
				other.mustRead(old, "before", true)
				other.mustRead(other.mustWrite("before"), "before", false)
			})
		})
	}
}

// TestRotationThatStatusHasNotSeen: where KMS uses a new material before the
// plugin vouches for it, Encrypt refuses, and the API server goes on under the
// old seed instead of writing under a key_id that Status does not have.
func TestRotationThatStatusHasNotSeen(t *testing.T) {
	cloud := newCloud(t)
	plugin := cloud.serve(t, socketPath(t))
	first := plugin.vouches("")
	onFakeClock(t, func(t *testing.T, out *outside) {
		server := startAPIServer(out.context(t.Context()), t, plugin.socket, options{})
		old := server.mustWrite("object")
		out.do(func() {
			// Hosts behind DescribeKey that have not heard of it: the plugin's
			// probes see two materials and believe in neither.
			cloud.key.Rotate()
			cloud.Stale("DescribeKey", kmsfake.Always)
			before := cloud.Count("DescribeKey")
			plugin.eventually("some probes", func() bool { return cloud.Count("DescribeKey") > before+20 })
		})
		other := startAPIServer(out.context(t.Context()), t, plugin.socket, options{})
		other.mustFail("has rotated and Status does not vouch for the new material yet")
		time.Sleep(time.Hour)
		server.mustBeHealthy()
		server.mustRead(old, "object", false)
		if id := parse(t, server.mustWrite("object")).KeyID; id != first {
			t.Errorf("written under %s, Status says %s", id, first)
		}

		out.do(func() {
			cloud.Stale("DescribeKey", 0)
			plugin.vouches(first)
		})
		time.Sleep(probeInterval + time.Second)
		server.mustBeHealthy()
		other.mustBeHealthy()
		server.mustRead(old, "object", true)
		other.mustRead(old, "object", true)
		server.mustRead(other.mustWrite("object"), "object", false)
	})
}
