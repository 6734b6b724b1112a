package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func (b *bench) binarySize(r *report) error {
	info, err := os.Stat(b.plugin)
	if err != nil {
		return err
	}
	r.binarySize(info.Size())
	return nil
}

// burstCallers is as many as the plugin lets wait for KMS.
const burstCallers = 64

// burst is what a plugin has made of many callers.
type burst struct {
	calls    int
	p50, p99 time.Duration
	counted  int // connections, by the plugin's metric
	seen     int // connections, by the fake
}

// connections lets plugins that have just started, and have but the few connections
// of their start, meet many callers at once.
func (b *bench) connections(r *report) error {
	ours, err := b.burst(func() (*server, error) { return b.startPlugin("kms-plugin", b.slowKMS) }, func(s *server) (int, error) {
		counted, err := b.metric(s.process, "ekskms_plugin_kms_connections_opened_total")
		return int(counted), err
	})
	if err != nil {
		return err
	}
	r.connections(ours)
	if b.peer.binary == "" {
		return nil
	}
	theirs, err := b.burst(func() (*server, error) { return b.startPeer(b.peer.name(), b.slowKMS) }, func(*server) (int, error) { return 0, nil })
	r.peers.connections = theirs.seen
	return err
}

// burst starts a plugin and lets many callers at it. count is how many connections
// it says it has opened.
func (b *bench) burst(start func() (*server, error), count func(*server) (int, error)) (made burst, err error) {
	// The ciphertexts are another's work, whose calls would prepare the
	// connections.
	other, err := start()
	if err != nil {
		return made, err
	}
	defer other.stop()
	if err := other.fillRing(b.ctx); err != nil {
		return made, err
	}
	before, err := b.slowKMS.counters(b.ctx)
	if err != nil {
		return made, err
	}
	s, err := start()
	if err != nil {
		return made, err
	}
	defer s.stop()
	s.ring = other.ring
	took, _, err := load(b.ctx, burstCallers, b.plan.burst, s.decrypt(burstCallers))
	if err != nil {
		return made, err
	}
	after, err := b.slowKMS.counters(b.ctx)
	if err != nil {
		return made, err
	}
	slices.Sort(took)
	made = burst{calls: b.plan.burst, p50: quantile(took, 0.50), p99: quantile(took, 0.99), seen: after.Connections - before.Connections}
	made.counted, err = count(s)
	return made, err
}

// starts is what the starts of the plugin took, beside what they can't do
// without.
type starts struct {
	plugin     []time.Duration // process start to the first Status that says ok
	roundTrips []time.Duration // the first look's three KMS calls, on a connection that is open
	peer       []time.Duration // the same of the peer, if there is one
	version    []time.Duration // the same binary, start to exit, with nothing to do
}

func (b *bench) startTime(r *report) error {
	client := sdk(b.quickKMS)
	if _, err := roundTrips(b.ctx, client, b.quickKMS.Key); err != nil { // opens the connection
		return err
	}
	var all starts
	for range b.plan.starts {
		begun := time.Now()
		s, err := b.startPlugin("kms-plugin", b.quickKMS)
		if err != nil {
			return err
		}
		all.plugin = append(all.plugin, s.ready.Sub(begun))
		s.stop()

		if b.peer.binary != "" {
			begun = time.Now()
			s, err := b.startPeer(b.peer.name(), b.quickKMS)
			if err != nil {
				return err
			}
			all.peer = append(all.peer, s.ready.Sub(begun))
			s.stop()
		}

		d, err := roundTrips(b.ctx, client, b.quickKMS.Key)
		if err != nil {
			return err
		}
		all.roundTrips = append(all.roundTrips, d)

		begun = time.Now()
		if err := b.command(b.quickKMS, "version").Run(); err != nil {
			return fmt.Errorf("kms-plugin version: %w", err)
		}
		all.version = append(all.version, time.Since(begun))
	}
	r.starts(all)
	return nil
}

func sdk(k *fakeKMS) *kms.Client {
	return kms.New(kms.Options{
		Region:       region,
		BaseEndpoint: aws.String(k.URL),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
	})
}

// roundTrips makes the KMS calls of the plugin's first look at its key.
func roundTrips(ctx context.Context, client *kms.Client, key string) (time.Duration, error) {
	begun := time.Now()
	if _, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &key}); err != nil {
		return 0, err
	}
	binding := map[string]string{"cluster": "bench"}
	e, err := client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &key, KeySpec: types.DataKeySpecAes256, EncryptionContext: binding})
	if err != nil {
		return 0, err
	}
	_, err = client.Decrypt(ctx, &kms.DecryptInput{KeyId: &key, CiphertextBlob: e.CiphertextBlob, EncryptionContext: binding})
	return time.Since(begun), err
}
