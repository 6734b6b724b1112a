package kmsplugin

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"
)

const (
	apiVersion = "v2"
	healthy    = "ok" // the one word that the API server takes for healthy

	// defaultCallTimeout bounds all KMS calls of one RPC together. It is under
	// the API server's default of 3 s, so that the API server gets a reason
	// and not its own time-out.
	defaultCallTimeout  = 2500 * time.Millisecond
	defaultPollInterval = time.Minute
	// unhealthyPoll is how soon a failing key is looked at again: as often as
	// an API server asks while the plugin is unhealthy.
	unhealthyPoll = 10 * time.Second

	maxInFlight = 64
	// The contract limits the encrypted seed to 1 KiB, so a longer plaintext
	// can't come back in a form that the API server would take.
	maxPlaintext  = 1024
	maxCiphertext = 1024
	maxLoggedUID  = 64

	// settleAttempts is how often a probe tries to get the same material from
	// DescribeKey and from Encrypt before it leaves the matter to the next one.
	settleAttempts = 3
)

// Clock is the time that the plugin lives by.
type Clock interface {
	Now() time.Time
	After(time.Duration) <-chan time.Time
}

type wallClock struct{}

func (wallClock) Now() time.Time                         { return time.Now() }
func (wallClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Config is what a Plugin is made of. KeyARN, EncryptionContext and KMS are
// required.
type Config struct {
	KeyARN            string
	EncryptionContext map[string]string
	KMS               KMS
	Logger            *slog.Logger  // Default: nothing is logged
	Clock             Clock         // Default: the wall clock
	PollInterval      time.Duration // Default: one minute
	CallTimeout       time.Duration // Default: 2.5 s for all KMS calls of one RPC
}

// Plugin is the KMS v2 service. Serve runs it.
type Plugin struct {
	kmsapi.UnimplementedKeyManagementServiceServer

	cfg   Config
	log   *slog.Logger
	clock Clock

	state  atomic.Pointer[snapshot]
	probed chan struct{} // closed after the first probe
	kick   chan struct{} // asks for a probe now
	slots  chan struct{} // one for each RPC that may call KMS
}

// snapshot is what Status answers from. Only the probe replaces it.
type snapshot struct {
	keyID string   // survives failures: Status vouches for it until it knows better
	fail  *failure // nil while healthy
}

// New checks the configuration; it calls nobody.
func New(cfg Config) (*Plugin, error) {
	switch {
	case cfg.KeyARN == "":
		return nil, errors.New("kmsplugin: KeyARN is required")
	case len(cfg.EncryptionContext) == 0:
		return nil, errors.New("kmsplugin: EncryptionContext is required")
	case cfg.KMS == nil:
		return nil, errors.New("kmsplugin: KMS is required")
	}
	cfg.EncryptionContext = maps.Clone(cfg.EncryptionContext)
	cfg.PollInterval = cmp.Or(cfg.PollInterval, defaultPollInterval)
	cfg.CallTimeout = cmp.Or(cfg.CallTimeout, defaultCallTimeout)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = wallClock{}
	}
	p := &Plugin{
		cfg:    cfg,
		log:    cfg.Logger,
		clock:  cfg.Clock,
		probed: make(chan struct{}),
		kick:   make(chan struct{}, 1),
		slots:  make(chan struct{}, maxInFlight),
	}
	p.state.Store(&snapshot{fail: &failure{class: "starting", code: codes.Unavailable,
		text: "the plugin has not finished its first look at the KMS key: ask again"}})
	return p, nil
}

// Status answers from the snapshot and never calls KMS. Right after start it
// waits for the first probe, because an API server that hears "not yet" asks
// again only after ten seconds.
func (p *Plugin) Status(ctx context.Context, _ *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	p.awaitFirstProbe(ctx)
	s := p.state.Load()
	r := &kmsapi.StatusResponse{Version: apiVersion, Healthz: healthy, KeyId: s.keyID}
	if s.fail != nil {
		r.Healthz = s.fail.text
	}
	return r, nil
}

// Ready is Status for the health endpoint, without any waiting.
func (p *Plugin) Ready() (ok bool, message string) {
	if f := p.state.Load().fail; f != nil {
		return false, f.text
	}
	return true, healthy
}

// Encrypt seals a seed. Its answer carries the key_id that Status gives at that
// moment, and only if exactly that material sealed it.
func (p *Plugin) Encrypt(ctx context.Context, req *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	call := p.begin("Encrypt", req.GetUid())
	resp, err := p.encrypt(ctx, call, req)
	return resp, call.end(err)
}

func (p *Plugin) encrypt(rpc context.Context, call *call, req *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, *failure) {
	if n := len(req.GetPlaintext()); n == 0 || n > maxPlaintext {
		return nil, invalid("the plaintext must have 1 to 1024 bytes")
	}
	release, f := p.enter()
	if f != nil {
		return nil, f
	}
	defer release()
	ctx, cancel := context.WithTimeout(rpc, p.cfg.CallTimeout)
	defer cancel()

	p.awaitFirstProbe(ctx)
	if s := p.state.Load(); s.keyID == "" {
		p.kickProbe()
		return nil, s.fail
	}
	sealed, f := p.roundTrip(ctx, rpc, call, req.GetPlaintext())
	if f != nil {
		if f.code != codes.Canceled && f.code != codes.DeadlineExceeded {
			p.kickProbe() // Status should know soon
		}
		return nil, f
	}
	if len(sealed.ciphertext) > maxCiphertext {
		return nil, invalid("the plaintext is too long: its ciphertext is over 1024 bytes")
	}
	// Read the snapshot now, after KMS did its work: the key may have rotated
	// between the last probe and the call to Encrypt.
	id := keyID(p.cfg.KeyARN, sealed.materialID)
	if id != p.state.Load().keyID {
		p.kickProbe()
		return nil, &failure{class: "rotating", code: codes.Unavailable,
			text: "the KMS key has rotated and Status does not vouch for the new material yet: ask again"}
	}
	call.keyID = id
	return &kmsapi.EncryptResponse{Ciphertext: sealed.ciphertext, KeyId: id}, nil
}

// Decrypt opens a seed that this key sealed with its current or any earlier
// material.
func (p *Plugin) Decrypt(ctx context.Context, req *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	call := p.begin("Decrypt", req.GetUid())
	resp, err := p.decrypt(ctx, call, req)
	return resp, call.end(err)
}

func (p *Plugin) decrypt(rpc context.Context, call *call, req *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, *failure) {
	if n := len(req.GetCiphertext()); n == 0 || n > maxCiphertext {
		return nil, invalid("the ciphertext must have 1 to 1024 bytes")
	}
	if !ownKeyID(p.cfg.KeyARN, req.GetKeyId()) {
		return nil, &failure{class: "foreign-key-id", code: codes.FailedPrecondition,
			text: "the key_id was not issued for this KMS key: the data was encrypted under another key or by another plugin"}
	}
	call.keyID = req.GetKeyId()
	if len(req.GetAnnotations()) > 0 {
		return nil, &failure{class: "foreign-annotations", code: codes.FailedPrecondition,
			text: "the request has annotations and this plugin writes none: the data was encrypted by another plugin"}
	}
	release, f := p.enter()
	if f != nil {
		return nil, f
	}
	defer release()
	ctx, cancel := context.WithTimeout(rpc, p.cfg.CallTimeout)
	defer cancel()

	plaintext, materialID, f := p.open(ctx, rpc, call, req.GetCiphertext())
	if f != nil {
		return nil, f
	}
	if strings.Count(req.GetKeyId(), ":") == 2 && materialID != "" && keyID(p.cfg.KeyARN, materialID) != req.GetKeyId() {
		// Somebody relabelled the object in etcd. KMS has authenticated key,
		// context and ciphertext, so the plaintext is right, and to refuse it
		// would only make data unreadable.
		p.log.Warn("key_id names another material than the one that sealed the data", "uid", call.uid, "key_id", req.GetKeyId())
	}
	return &kmsapi.DecryptResponse{Plaintext: plaintext}, nil
}

// sealed is a ciphertext that was proven to open.
type sealed struct {
	ciphertext []byte
	materialID string // "" where KMS names none
}

func (p *Plugin) roundTrip(ctx, rpc context.Context, call *call, plaintext []byte) (sealed, *failure) {
	out, err := p.cfg.KMS.Encrypt(ctx, &kms.EncryptInput{
		KeyId:             aws.String(p.cfg.KeyARN),
		Plaintext:         plaintext,
		EncryptionContext: p.cfg.EncryptionContext,
	})
	if err != nil {
		return sealed{}, call.failed(classify(rpc, "Encrypt", err))
	}
	call.saw(requestID(out.ResultMetadata))
	back, materialID, f := p.open(ctx, rpc, call, out.CiphertextBlob)
	if f != nil {
		return sealed{}, f
	}
	if subtle.ConstantTimeCompare(back, plaintext) != 1 {
		return sealed{}, &failure{class: "corrupt", code: codes.DataLoss,
			text: "AWS KMS decrypted its own ciphertext to something else: do not trust this endpoint"}
	}
	return sealed{out.CiphertextBlob, materialID}, nil
}

// open decrypts with the key pinned: without KeyId, KMS would decrypt under any
// key that the role may use.
func (p *Plugin) open(ctx, rpc context.Context, call *call, ciphertext []byte) (plaintext []byte, materialID string, f *failure) {
	out, err := p.cfg.KMS.Decrypt(ctx, &kms.DecryptInput{
		KeyId:             aws.String(p.cfg.KeyARN),
		CiphertextBlob:    ciphertext,
		EncryptionContext: p.cfg.EncryptionContext,
	})
	if err != nil {
		return nil, "", call.failed(classify(rpc, "Decrypt", err))
	}
	call.saw(requestID(out.ResultMetadata))
	return out.Plaintext, aws.ToString(out.KeyMaterialId), nil
}

// enter takes one of the places for RPCs that call KMS, or refuses at once: a
// queue would only add its waiting time to a call that the API server is about
// to give up.
func (p *Plugin) enter() (release func(), f *failure) {
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots }, nil
	default:
		return nil, &failure{class: "overloaded", code: codes.ResourceExhausted,
			text: "too many requests are waiting for AWS KMS: ask again"}
	}
}

// Probe loop.

// run probes at once and then every poll interval, until ctx ends.
func (p *Plugin) run(ctx context.Context) {
	for first := true; ; first = false {
		next := p.probe(ctx)
		if first {
			close(p.probed)
		}
		select {
		case <-ctx.Done():
			return
		case <-p.clock.After(next):
		case <-p.kick:
		}
	}
}

// probe looks at the key once, replaces the snapshot and returns how long to
// wait before the next look.
func (p *Plugin) probe(ctx context.Context) (next time.Duration) {
	old := p.state.Load()
	call := &call{}
	id, f := p.look(ctx, call)
	if ctx.Err() != nil {
		return 0 // shutting down says nothing about the key
	}
	next = p.cfg.PollInterval
	switch {
	case f != nil:
		id = old.keyID
		next = min(next, unhealthyPoll)
	case id == "" && old.keyID == "":
		f = &failure{class: "rotating", code: codes.Unavailable,
			text: "the KMS key is rotating and its answers do not agree on the material yet: ask again"}
		next = min(next, unhealthyPoll)
	case id == "":
		// The round trip was good and the old material still decrypts, so the
		// old key_id is good until both calls agree on the new one.
		id = old.keyID
		next = min(next, unhealthyPoll)
	}
	s := &snapshot{keyID: id, fail: f}
	p.state.Store(s)
	if old.keyID != s.keyID || class(old.fail) != class(s.fail) {
		attrs := []any{"state", class(s.fail), "was", class(old.fail), "key_id", s.keyID, "kms_request_ids", call.requestIDs}
		if s.fail != nil {
			p.log.Warn("key state: "+s.fail.text, append(attrs, "aws_code", s.fail.awsCode)...)
		} else {
			p.log.Info("key state", attrs...)
		}
	}
	return next
}

// look asks DescribeKey for the key's state and material, and proves by a round
// trip that the role can use it under the encryption context. The key_id is
// empty, without a failure, if the two did not agree on the material: the key
// rotated in between, or KMS has not spread the news yet.
func (p *Plugin) look(ctx context.Context, call *call) (id string, f *failure) {
	for range settleAttempts {
		described, f := p.describe(ctx, call)
		if f != nil {
			return "", f
		}
		nonce := make([]byte, 32)
		_, _ = rand.Read(nonce) // never fails: crypto/rand ends the program instead
		callCtx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
		used, f := p.roundTrip(callCtx, ctx, call, nonce)
		cancel()
		if f != nil {
			return "", f
		}
		// What Decrypt names is what Encrypt used. DescribeKey may stay silent
		// (an older endpoint) but it may not contradict.
		if described == "" || used.materialID == "" || described == used.materialID {
			return keyID(p.cfg.KeyARN, used.materialID), nil
		}
	}
	return "", nil
}

func (p *Plugin) describe(ctx context.Context, call *call) (materialID string, f *failure) {
	callCtx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	out, err := p.cfg.KMS.DescribeKey(callCtx, &kms.DescribeKeyInput{KeyId: aws.String(p.cfg.KeyARN)})
	if err != nil {
		return "", call.failed(classify(ctx, "DescribeKey", err))
	}
	call.saw(requestID(out.ResultMetadata))
	if out.KeyMetadata == nil || aws.ToString(out.KeyMetadata.Arn) != p.cfg.KeyARN {
		return "", &failure{class: "wrong-key", code: codes.FailedPrecondition,
			text: "AWS KMS described another key than the one asked for: give --key as the ARN of the key itself"}
	}
	if f := stateFailure(out.KeyMetadata); f != nil {
		return "", f
	}
	return aws.ToString(out.KeyMetadata.CurrentKeyMaterialId), nil
}

func (p *Plugin) kickProbe() {
	select {
	case p.kick <- struct{}{}:
	default: // one is already asked for
	}
}

func (p *Plugin) awaitFirstProbe(ctx context.Context) {
	select {
	case <-p.probed:
		return // without starting a timer
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	select {
	case <-p.probed:
	case <-ctx.Done():
	}
}

func class(f *failure) string {
	if f == nil {
		return healthy
	}
	return f.class
}

// call collects what one RPC, or one probe, has to log.
type call struct {
	p          *Plugin
	op, uid    string
	start      time.Time
	keyID      string
	requestIDs []string
}

func (p *Plugin) begin(op, uid string) *call {
	if len(uid) > maxLoggedUID {
		uid = uid[:maxLoggedUID]
	}
	return &call{p: p, op: op, uid: strings.ToValidUTF8(uid, "?"), start: p.clock.Now()}
}

func (c *call) saw(requestID string) {
	if requestID != "" {
		c.requestIDs = append(c.requestIDs, requestID)
	}
}

func (c *call) failed(f *failure) *failure {
	c.saw(f.requestID)
	return f
}

// end logs the call. UID and KMS request IDs in one line lead from the API
// server's log to CloudTrail.
func (c *call) end(f *failure) error {
	attrs := []any{
		"op", c.op, "uid", c.uid, "key_id", c.keyID, "kms_request_ids", c.requestIDs,
		"seconds", c.p.clock.Now().Sub(c.start).Seconds(),
	}
	if f == nil {
		c.p.log.Info("done", attrs...)
		return nil // not the nil *failure, which would be a non-nil error
	}
	c.p.log.Warn("failed: "+f.text, append(attrs, "class", f.class, "code", f.code.String(), "aws_code", f.awsCode)...)
	return status.Convert(f).Err()
}
