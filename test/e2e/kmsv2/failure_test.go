package kmsv2_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ekskms/ekskms/internal/kmsfake"
	"github.com/ekskms/ekskms/internal/kmsplugin"
)

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

func (s *apiServer) mustFail(reason string) {
	s.t.Helper()
	if err := s.check(); !contains(err, reason) {
		s.t.Fatalf("the API server's health check says %v, want %q in it", err, reason)
	}
}

func (s *apiServer) mustNotWrite(reason string) {
	s.t.Helper()
	if _, err := s.write("object"); !contains(err, reason) {
		s.t.Fatalf("writing: %v, want an error with %q in it", err, reason)
	}
}

// TestRefusedKeyStopsWrites: once KMS has refused the key, Status has no key_id,
// and without one the API server does not prolong the life of its seed. It stops
// writing what nobody could read back; it reads on.
func TestRefusedKeyStopsWrites(t *testing.T) {
	for name, c := range map[string]struct {
		refuse, allow func(*cloud)
		reason        string
	}{
		"disabled": {
			func(c *cloud) { c.key.SetState(kmsfake.Disabled) }, func(c *cloud) { c.key.SetState(kmsfake.Enabled) },
			"the KMS key is disabled: enable it with kms:EnableKey",
		},
		"pending deletion": {
			func(c *cloud) { c.key.SetState(kmsfake.PendingDeletion) }, func(c *cloud) { c.key.SetState(kmsfake.Enabled) },
			"the KMS key is pending deletion",
		},
		"decryption denied": {
			func(c *cloud) { c.Deny("Decrypt", c.key) }, func(c *cloud) { c.Allow("Decrypt", c.key) },
			"the plugin's role may not call kms:Decrypt",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := newCloud(t)
			plugin := cloud.serve(t, socketPath(t))
			keyID := plugin.vouches("")
			onFakeClock(t, func(t *testing.T, out *outside) {
				server := startAPIServer(out.context(t.Context()), t, plugin.socket, options{})
				server.mustBeHealthy()
				stored := server.mustWrite("object")

				out.do(func() {
					c.refuse(cloud)
					plugin.fails(c.reason)
				})
				time.Sleep(seedLife - time.Second)
				server.mustFail(c.reason)
				server.mustFail("got invalid KMSv2 KeyID")
				stored2 := server.mustWrite("object") // still within the seed's life
				time.Sleep(2 * time.Second)
				server.mustNotWrite("expired at")
				time.Sleep(time.Hour)
				server.mustNotWrite("expired at")
				server.mustFail(c.reason)
				server.mustRead(stored, "object", false)
				server.mustRead(stored2, "object", false)

				out.do(func() {
					c.allow(cloud)
					if again := plugin.vouches(""); again != keyID {
						t.Errorf("the key_id was %s and is now %s", keyID, again)
					}
				})
				time.Sleep(reprobeInterval + time.Second)
				server.mustBeHealthy()
				again := server.mustWrite("object")
				server.mustRead(again, "object", false)
				server.mustRead(stored, "object", false)
				mustShareSeed(t, stored, again)
			})
		})
	}
}

// TestKeyIDProlongsSeeds is the control of TestRefusedKeyStopsWrites: the API
// server goes by the key_id alone. A plugin that says it is broken and sends its
// key_id is written under forever, which is why this one leaves it out.
func TestKeyIDProlongsSeeds(t *testing.T) {
	socket := socketPath(t)
	chatty := newChattyPlugin()
	serveOther(t, socket, chatty)
	onFakeClock(t, func(t *testing.T, out *outside) {
		server := startAPIServer(out.context(t.Context()), t, socket, options{})
		server.mustBeHealthy()
		chatty.say("broken")
		for range 6 {
			time.Sleep(time.Hour)
			server.mustFail("got unexpected healthz status: broken")
			server.mustRead(server.mustWrite("object"), "object", false)
		}
	})
}

// TestOutage: silence of KMS says nothing about the key. Status stays ok with
// the same key_id, and the API server writes and reads on under its seed.
func TestOutage(t *testing.T) {
	cloud := newCloud(t)
	plugin := cloud.serve(t, socketPath(t))
	keyID := plugin.vouches("")
	onFakeClock(t, func(t *testing.T, out *outside) {
		server := startAPIServer(out.context(t.Context()), t, plugin.socket, options{})
		stored := server.mustWrite("object")
		out.do(func() {
			cloud.outage(true)
			plugin.degrades(outageReason)
			before := cloud.Count("DescribeKey")
			plugin.eventually("several failed probes", func() bool { return cloud.Count("DescribeKey") > before+12 }) // three requests each
			if s := plugin.status(); s.Healthz != "ok" || s.KeyID != keyID {
				t.Errorf("Status says healthz %q, key_id %q", s.Healthz, s.KeyID)
			}
		})
		for range 10 {
			time.Sleep(4 * time.Minute)
			server.mustBeHealthy()
			server.mustRead(server.mustWrite("object"), "object", false)
			server.mustRead(stored, "object", false)
		}
		out.do(func() { cloud.outage(false) })
		time.Sleep(probeInterval + time.Second)
		server.mustBeHealthy()
		mustShareSeed(t, stored, server.mustWrite("object"))
	})
}

// TestOutageWithoutEnd: Status does not vouch for a key forever that it can't
// look at.
func TestOutageWithoutEnd(t *testing.T) {
	cloud := newCloud(t)
	plugin := cloud.serve(t, socketPath(t), func(c *kmsplugin.Config) { c.VouchFor = 2 * time.Second })
	plugin.vouches("")
	onFakeClock(t, func(t *testing.T, out *outside) {
		server := startAPIServer(out.context(t.Context()), t, plugin.socket, options{})
		stored := server.mustWrite("object")
		out.do(func() {
			cloud.outage(true)
			plugin.fails(outageReason)
		})
		time.Sleep(seedLife + time.Second)
		server.mustFail(outageReason)
		server.mustNotWrite("expired at")
		server.mustRead(stored, "object", false)
		out.do(func() {
			cloud.outage(false)
			plugin.vouches("")
		})
		time.Sleep(reprobeInterval + time.Second)
		server.mustBeHealthy()
		server.mustRead(server.mustWrite("object"), "object", false)
	})
}

// TestRestart: the key_id outlives the plugin's process, and the API server's
// seed too.
func TestRestart(t *testing.T) {
	cloud := newCloud(t)
	socket := socketPath(t)
	plugin := cloud.serve(t, socket)
	plugin.vouches("")
	onFakeClock(t, func(t *testing.T, out *outside) {
		server := startAPIServer(out.context(t.Context()), t, socket, options{timeout: time.Second})
		stored := server.mustWrite("object")
		out.do(plugin.stop)
		time.Sleep(probeInterval + time.Second)
		server.mustFail("DeadlineExceeded")
		server.mustRead(server.mustWrite("object"), "object", false)
		out.do(func() { cloud.serve(t, socket).vouches("") })
		server.becomesHealthy()
		again := server.mustWrite("object")
		server.mustRead(again, "object", false)
		mustShareSeed(t, stored, again)
	})
}

// becomesHealthy waits for as many probes as it takes: those that find no plugin
// yet cost real time, and no more.
func (s *apiServer) becomesHealthy() {
	s.t.Helper()
	var err error
	for range 60 {
		if err = s.check(); err == nil {
			return
		}
		time.Sleep(reprobeInterval + time.Second)
	}
	s.t.Fatal(err)
}
