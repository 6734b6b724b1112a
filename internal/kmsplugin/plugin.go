package kmsplugin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"
)

// Versions that Status may give: aws-encryption-provider says v2beta1. The API
// server takes both and wants the first that it heard for as long as it lives.
const (
	VersionV2      = "v2"
	VersionV2Beta1 = "v2beta1"
)

const (
	healthy = "ok" // the one word that the API server takes for healthy

	// defaultCallTimeout bounds all KMS calls of one RPC together. It is under
	// the API server's default of 3 s, so that the API server gets a reason
	// and not its own time-out.
	defaultCallTimeout  = 2500 * time.Millisecond
	defaultPollInterval = time.Minute
	defaultVouchFor     = time.Hour
	defaultSeedTTL      = time.Hour

	maxInFlight  = 64
	maxLoggedUID = 64
	// leftForKMS is the part of the budget that waiting for a place leaves: with
	// less, KMS would be blamed for what the queue has cost.
	leftForKMS = 5 // a fifth
)

// What Encrypt reads back before it hands it out.
const (
	ReadBackProven = "proven" // what no round trip of the last poll has proven
	ReadBackAlways = "always" // each value
)

// Key is one customer managed key.
type Key struct {
	// ID is the key's ARN. An alias's ARN, an alias or a key ID are taken too;
	// what they stand for is looked up in every poll.
	ID string
	// Clients reach the key: its own Region first, then those of its replicas,
	// in the order of preference.
	Clients []*Client
	// LegacyKeyIDs are further values that aws-encryption-provider's --key flag
	// had for this key. Its ARN, its ID and the alias in ID are known.
	LegacyKeyIDs []string
}

// Config is what a Plugin is made of. Keys and EncryptionContext are required.
type Config struct {
	// Keys: the first one encrypts; all decrypt.
	Keys              []Key
	EncryptionContext map[string]string

	Logger       *slog.Logger  // Default: nothing is logged
	PollInterval time.Duration // Default: one minute
	CallTimeout  time.Duration // Default: 2.5 s for all KMS calls of one RPC
	// VouchFor is how long after the last good probe Status still says ok,
	// unless KMS itself refuses the key. Default: one hour
	VouchFor      time.Duration
	StatusVersion string // Default: v2
	// ReadBack is what Encrypt has KMS decrypt before it hands it out. Default:
	// ReadBackProven, only where no round trip under the same key_id was good
	// within the last poll interval
	ReadBack string

	// LegacyContext is the encryption context that aws-encryption-provider was
	// run with; empty and not nil for none. Default: EncryptionContext
	LegacyContext map[string]string

	// SeedCache is how many decrypted seeds are kept in memory. Default: none
	SeedCache int
	// SeedTTL is how long each of them is kept. Default: one hour
	SeedTTL time.Duration

	// WatchCluster is the ARN of the EKS cluster whose secrets the first key
	// encrypts: the plugin then also looks at EKS's grant on that key once a
	// poll (kms:ListGrants), and says in log and metrics when the cluster is in
	// danger, and the way back. The first key must be named by its ARN then.
	// Default: no cluster is watched
	WatchCluster string

	metrics *metrics
}

// Plugin is the KMS v2 service. Serve runs it.
type Plugin struct {
	kmsapi.UnimplementedKeyManagementServiceServer

	cfg     Config
	log     *slog.Logger
	metrics *metrics
	keys    []*cmk // the one that seals first
	watch   *watch // nil unless a cluster is watched
	cache   *seedCache
	slots   chan struct{}     // one for each call that may wait for KMS
	digest  [sha256.Size]byte // of the encryption context

	flights flights
	alive   context.Context // ends when the plugin stops: flights outlive their callers
	kill    context.CancelFunc
}

// New checks the configuration; it calls nobody.
func New(cfg Config) (*Plugin, error) {
	if len(cfg.EncryptionContext) == 0 {
		return nil, errors.New("kmsplugin: EncryptionContext is required")
	}
	if len(cfg.Keys) == 0 {
		return nil, errors.New("kmsplugin: Keys is required")
	}
	cfg.EncryptionContext = maps.Clone(cfg.EncryptionContext)
	if cfg.LegacyContext == nil {
		cfg.LegacyContext = cfg.EncryptionContext
	}
	cfg.LegacyContext = maps.Clone(cfg.LegacyContext)
	cfg.PollInterval = cmp.Or(cfg.PollInterval, defaultPollInterval)
	cfg.CallTimeout = cmp.Or(cfg.CallTimeout, defaultCallTimeout)
	cfg.VouchFor = cmp.Or(cfg.VouchFor, defaultVouchFor)
	cfg.SeedTTL = cmp.Or(cfg.SeedTTL, defaultSeedTTL)
	cfg.StatusVersion = cmp.Or(cfg.StatusVersion, VersionV2)
	if cfg.StatusVersion != VersionV2 && cfg.StatusVersion != VersionV2Beta1 {
		return nil, fmt.Errorf("kmsplugin: StatusVersion is %q, must be %s or %s", cfg.StatusVersion, VersionV2, VersionV2Beta1)
	}
	cfg.ReadBack = cmp.Or(cfg.ReadBack, ReadBackProven)
	if cfg.ReadBack != ReadBackProven && cfg.ReadBack != ReadBackAlways {
		return nil, fmt.Errorf("kmsplugin: ReadBack is %q, must be %s or %s", cfg.ReadBack, ReadBackProven, ReadBackAlways)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.metrics == nil {
		cfg.metrics = newMetrics()
	}
	p := &Plugin{cfg: cfg, log: cfg.Logger, metrics: cfg.metrics, slots: make(chan struct{}, maxInFlight),
		digest: contextDigest(cfg.EncryptionContext)}
	p.alive, p.kill = context.WithCancel(context.Background())
	if cfg.SeedCache > 0 {
		p.cache = newSeedCache(cfg.SeedCache, cfg.SeedTTL)
		for _, result := range []string{cacheHit, cacheMiss} {
			p.metrics.cache.WithLabelValues(result)
		}
	}
	p.metrics.poll.Set(cfg.PollInterval.Seconds())
	p.metrics.begin()
	for i, key := range cfg.Keys {
		k, err := p.newKey(key, i == 0)
		if err != nil {
			return nil, err
		}
		p.keys = append(p.keys, k)
	}
	p.metrics.registry.MustRegister(keyCollector{p})
	if cfg.WatchCluster != "" {
		c, err := parseCluster(cfg.WatchCluster)
		if err != nil {
			return nil, fmt.Errorf("kmsplugin: WatchCluster %w", err)
		}
		if id := p.sealing().id; !isKeyARN(id) {
			return nil, fmt.Errorf("kmsplugin: WatchCluster is set, and the first key is %q: give the key's ARN, EKS does not follow an alias", id)
		}
		p.watch = newWatch(c, p.sealing())
		p.sealing().watch = p.watch
		p.metrics.in(c.region, "ListGrants")
		p.metrics.registry.MustRegister(watchCollector{p.watch}, p.metrics.reportFailures)
	}
	return p, nil
}

// reportTo has the watch report to Kubernetes. Call it before Serve.
func (p *Plugin) reportTo(api *kubernetes) {
	p.watch.report = newReporter(p.watch, api, p.metrics.reportFailures)
}

func (p *Plugin) newKey(key Key, seals bool) (*cmk, error) {
	if key.ID == "" || len(key.Clients) == 0 {
		return nil, errors.New("kmsplugin: every key needs an ID and a client")
	}
	k := &cmk{
		id: key.ID, label: shortHash("key", identity(key.ID)), seals: seals, legacy: slices.Clone(key.LegacyKeyIDs),
		context: p.cfg.EncryptionContext, poll: p.cfg.PollInterval, budget: p.cfg.CallTimeout, vouchFor: p.cfg.VouchFor,
		log: p.log, metrics: p.metrics, purge: p.cache.purge,
		probed: make(chan struct{}), kick: make(chan struct{}, 1), leftBehind: map[string]struct{}{},
	}
	p.metrics.of(k.label)
	operations := []string{"DescribeKey", "Decrypt"}
	if seals {
		operations = append(operations, "GenerateDataKey")
	}
	for i, c := range key.Clients {
		p.metrics.in(c.Region, operations...)
		if i > 0 {
			p.metrics.failovers.WithLabelValues(c.Region) // 0, so that the first one is seen as an increase
		}
		k.endpoints = append(k.endpoints, &endpoint{Region: c.Region, home: i == 0, kms: c.KMS, metrics: p.metrics})
	}
	start := &snapshot{fail: &failure{class: classStarting, code: codes.Unavailable,
		text: "the plugin has not finished its first look at the KMS key: ask again"}}
	if isKeyARN(key.ID) {
		start.targets = k.withTarget(nil, key.ID)
	}
	k.state.Store(start)
	return k, nil
}

func (p *Plugin) sealing() *cmk { return p.keys[0] }

// Status answers from the snapshot and never calls KMS. Right after start it
// waits for the first probe, because an API server that hears "not yet" asks
// again only after ten seconds.
//
// Where the key_id can't be vouched for it is left out: the API server stops
// writing under its present seed three minutes after the last Status that had a
// key_id, whatever Healthz said (k8s.io/apiserver, encryptionconfig,
// isKMSv2ProviderHealthyAndMaybeRotateDEK).
func (p *Plugin) Status(ctx context.Context, _ *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	start := time.Now()
	p.awaitFirstProbe(ctx, p.sealing())
	r := &kmsapi.StatusResponse{Version: p.cfg.StatusVersion, Healthz: healthy}
	s, now := p.sealing().now()
	var f *failure
	if now.vouched() {
		r.KeyId = s.keyID
	} else {
		f = s.reason()
		r.Healthz = f.text
	}
	p.metrics.observe("status", f, start)
	return r, nil
}

// Ready is Status for the health endpoint, without any waiting.
func (p *Plugin) Ready() (ok bool, message string) {
	s, now := p.sealing().now()
	switch now {
	case conditionOK:
		return true, healthy
	case conditionDegraded:
		return true, string(conditionDegraded) + ": " + s.reason().text
	}
	return false, s.reason().text
}

// Encrypt seals a seed under a data key of its own, which AWS KMS makes and wraps.
// Its answer carries the key_id that Status gives at that moment, and only if
// exactly that material wrapped the key: kms:GenerateDataKey names it.
//
// That what is written can be read back is proven by a round trip under the same
// key_id: the probe's or another call's of the last poll interval, or else one of
// this call's own.
func (p *Plugin) Encrypt(ctx context.Context, req *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	call := p.begin("encrypt", req.GetUid())
	resp, f := p.encrypt(ctx, call, req)
	p.experienced(p.sealing(), encrypting, f)
	return resp, p.end(call, f)
}

func (p *Plugin) encrypt(caller context.Context, call *call, req *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, *failure) {
	if n := len(req.GetPlaintext()); n == 0 || n > maxPlaintext {
		return nil, invalid(fmt.Sprintf("the plaintext has %d bytes, must have 1 to %d", n, maxPlaintext))
	}
	ctx, cancel := context.WithDeadline(caller, p.deadline(call))
	defer cancel()
	k := p.sealing()
	p.awaitFirstProbe(ctx, k) // before a place is taken, which a Decrypt may need
	release, f := p.enter(ctx, caller)
	if f != nil {
		return nil, f
	}
	defer release()
	active := k.state.Load()
	if active.keyID == "" {
		k.kickProbe()
		return nil, active.reason()
	}
	var envelope []byte
	var id string
	f = k.attempt(ctx, caller, func(ctx context.Context, e *endpoint) (f *failure) {
		envelope, id, f = p.sealAt(ctx, caller, call, e, active.arn, req.GetPlaintext())
		return f
	})
	// Read the snapshot now, after KMS did its work: the key may have rotated
	// between the last probe and this call.
	if f == nil && id != k.state.Load().keyID {
		f = &failure{class: classRotating, code: codes.Unavailable,
			text: "the KMS key has rotated and Status does not vouch for the new material yet: ask again"}
	}
	if f != nil {
		if f.class != classCanceled && f.class != classDeadline {
			k.kickProbe() // Status should know soon
		}
		return nil, f
	}
	call.keyID = id
	return &kmsapi.EncryptResponse{Ciphertext: envelope, KeyId: id}, nil
}

// sealAt makes an envelope with the help of KMS in one Region, and reads it back
// where no proof is at hand that it can be.
func (p *Plugin) sealAt(ctx, caller context.Context, call *call, e *endpoint, keyARN string, plaintext []byte) (envelope []byte, id string, f *failure) {
	began := time.Now()
	made, f := e.generate(ctx, caller, call, keyARN, p.cfg.EncryptionContext)
	if f != nil {
		return nil, "", f
	}
	defer made.wipe()
	id = keyID(keyARN, made.materialID)
	proves := p.cfg.ReadBack == ReadBackAlways || made.materialID == "" || !e.hasProven(id, p.cfg.PollInterval)
	if proves {
		materialID, f := e.readBack(ctx, caller, call, keyARN, p.cfg.EncryptionContext, made)
		switch {
		case f != nil:
			return nil, "", f
		case !agree(made.materialID, materialID):
			return nil, "", unsettled()
		}
		id = keyID(keyARN, cmp.Or(made.materialID, materialID))
	}
	b := binding{keyARN, id, p.digest}
	envelope, err := made.seal(b, plaintext)
	if err != nil {
		return nil, "", internal("seal", err)
	}
	if proves {
		wrapped, sealed, _ := splitEnvelope(envelope)
		back, err := openEnvelope(made.plain, b, wrapped, sealed)
		if err != nil || subtle.ConstantTimeCompare(back, plaintext) != 1 {
			return nil, "", internal("read back", err)
		}
		clear(back)
		e.proven.Store(&proof{id, began})
	}
	return envelope, id, nil
}

// internal is a fault of the plugin's own cryptography, which is not known to
// happen.
func internal(what string, err error) *failure {
	return &failure{class: classInternal, code: codes.Internal, text: fmt.Sprintf("the plugin failed to %s an envelope: %v", what, err)}
}

// experienced takes what a call has met to what Status says of the key.
func (p *Plugin) experienced(k *cmk, op operation, f *failure) {
	begins, ends := k.calls.note(op, f)
	switch {
	case begins:
		k.kickProbe()
		p.log.Warn("calls fail whatever probes find: "+f.text, "key", k.label, "role", k.role(), "class", f.class, "aws_code", f.awsCode)
	case ends:
		p.log.Info("calls work again", "key", k.label, "role", k.role())
	}
}

// Decrypt opens a seed that one of the keys sealed with its current or any
// earlier material, for this plugin or for aws-encryption-provider.
func (p *Plugin) Decrypt(ctx context.Context, req *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	call := p.begin("decrypt", req.GetUid())
	resp, err := p.decrypt(ctx, call, req)
	return resp, p.end(call, err)
}

func (p *Plugin) decrypt(caller context.Context, call *call, req *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, *failure) {
	if n := len(req.GetCiphertext()); n == 0 || n > maxCiphertext {
		return nil, invalid("the ciphertext must have 1 to 1024 bytes")
	}
	boxes, f := p.identify(caller, req.GetKeyId(), req.GetCiphertext())
	if f != nil {
		return nil, f
	}
	call.keyID = req.GetKeyId()
	if len(req.GetAnnotations()) > 0 {
		return nil, &failure{class: classForeignAnnotations, code: codes.FailedPrecondition,
			text: "the request has annotations and this plugin writes none: the data was encrypted by another plugin"}
	}
	var o opened
	var b box
	for _, b = range boxes {
		if !b.whole {
			return nil, unreadable()
		}
		if plaintext, ok := p.cached(b); ok {
			call.level = slog.LevelDebug // there is no KMS request to lead to
			return &kmsapi.DecryptResponse{Plaintext: plaintext}, nil
		}
		o, f = p.share(caller, b, p.deadline(call))
		call.requestIDs = append(call.requestIDs, o.requestIDs...)
		if f == nil || f.class != classInvalidCiphertext {
			break
		}
	}
	if f != nil {
		return nil, f
	}
	if b.material != "" && o.materialID != "" && b.material != materialName(o.materialID) {
		// Of a value of the earlier format, somebody may have changed the label in
		// etcd. KMS has authenticated key, context and ciphertext, so the plaintext
		// is right, and to refuse it would only make data unreadable.
		p.log.Warn("key_id names another material than the one that sealed the data", "uid", call.uid, "key_id", req.GetKeyId())
	}
	return &kmsapi.DecryptResponse{Plaintext: bytes.Clone(o.plaintext)}, nil
}

// box is a ciphertext with what is needed to open it.
type box struct {
	flightID // what it is, whole

	key      *cmk
	context  map[string]string
	material string // what the key_id says, "" if it says nothing
	wrapped  []byte // what KMS is asked to decrypt
	sealed   []byte // what opens with KMS's answer; nil where that is the plaintext
	whole    bool   // it has the parts that its key_id promises
}

// identify finds the key that a key_id names. The key is then pinned in the KMS
// call, so a wrong key_id can only fail. A name of aws-encryption-provider's may
// be that of several keys, if it is an alias that has moved.
func (p *Plugin) identify(ctx context.Context, id string, ciphertext []byte) (boxes []box, f *failure) {
	if boxes, f = p.claims(id, ciphertext); f != nil || len(boxes) > 0 {
		return boxes, f
	}
	// An alias is not known before the first probe.
	for _, k := range p.keys {
		if len(k.state.Load().targets) > 0 || len(id) > maxKeyIDLen {
			continue
		}
		p.awaitFirstProbe(ctx, k)
		if boxes, f = p.claims(id, ciphertext); f != nil || len(boxes) > 0 {
			return boxes, f
		}
		if s := k.state.Load(); len(s.targets) == 0 {
			return nil, s.reason()
		}
	}
	return nil, &failure{class: classForeignKeyID, code: codes.FailedPrecondition,
		text: "the key_id was not issued for any of this plugin's KMS keys: the data was encrypted under another key (add it as a further key, it will only decrypt) or by another plugin"}
}

// claims are the keys, as far as they are known, to which a key_id belongs.
func (p *Plugin) claims(id string, ciphertext []byte) (boxes []box, f *failure) {
	version, name, material, ours := parseKeyID(id)
	for _, k := range p.keys {
		for _, t := range k.state.Load().targets {
			mine := ours && t.name == name
			if !mine && !slices.Contains(t.legacy, id) {
				continue
			}
			b := box{flightID: flightID{t.arn, id, string(ciphertext)}, key: k, context: p.cfg.EncryptionContext,
				material: material, wrapped: ciphertext, whole: true}
			switch {
			case mine:
				if version == keyIDVersion {
					b.wrapped, b.sealed, b.whole = splitEnvelope(ciphertext)
				}
				return []box{b}, nil
			case ciphertext[0] != legacyVersion:
				return nil, invalid("the key_id is that of aws-encryption-provider, but the ciphertext does not begin with its version")
			case len(ciphertext) == 1:
				return nil, invalid("the ciphertext is empty behind aws-encryption-provider's version")
			default:
				b.context, b.wrapped = p.cfg.LegacyContext, ciphertext[1:]
				boxes = append(boxes, b)
			}
		}
	}
	return boxes, nil
}

// opened is what became of a box, for all who asked at the same time.
type opened struct {
	plaintext  []byte
	materialID string
	requestIDs []string
}

// share opens a box once for all callers that want the same at the same time.
func (p *Plugin) share(caller context.Context, b box, deadline time.Time) (opened, *failure) {
	o, f, led := p.fly(caller, b, deadline)
	if f != nil && !led && f.elsewhere() && time.Until(deadline) > p.cfg.CallTimeout/2 {
		// The other caller's time was over, not this one's.
		o, f, _ = p.fly(caller, b, deadline)
	}
	return o, f
}

// fly joins the flight of a box, or leads it.
func (p *Plugin) fly(caller context.Context, b box, deadline time.Time) (o opened, f *failure, led bool) {
	o, f, led = p.flights.join(caller, p.alive, b.flightID, func(requested context.Context) (opened, *failure) {
		ctx, cancel := context.WithDeadline(requested, deadline)
		defer cancel()
		release, f := p.enter(ctx, requested)
		if f != nil {
			return opened{}, f
		}
		defer release()
		o, f := p.open(ctx, requested, b)
		p.experienced(b.key, decrypting, f) // once, however many wait for it
		return o, f
	})
	if !led {
		p.metrics.coalesced.Inc()
	}
	if f != nil && p.alive.Err() != nil {
		f = &failure{class: classStopping, code: codes.Unavailable, text: "the plugin is stopping"}
	}
	return o, f, led
}

func (p *Plugin) open(ctx, requested context.Context, b box) (o opened, f *failure) {
	work := &call{}
	f = b.key.attempt(ctx, requested, func(ctx context.Context, e *endpoint) (f *failure) {
		o.plaintext, o.materialID, f = e.open(ctx, requested, work, b.arn, b.context, b.wrapped)
		if f != nil && f.refusal() {
			e.doubt() // what is sealed now has to be read back again
		}
		return f
	})
	o.requestIDs = work.requestIDs
	if f == nil && b.sealed != nil {
		plain := o.plaintext
		var err error
		if o.plaintext, err = openEnvelope(plain, binding{b.arn, b.keyID, p.digest}, b.wrapped, b.sealed); err != nil {
			f = unreadable()
		}
		clear(plain)
	}
	if f == nil && p.cacheable(b) {
		p.cache.put(b.flightID, o.plaintext)
	}
	return o, f
}

// unreadable is a ciphertext that is none of the plugin's, or not any more.
func unreadable() *failure {
	return &failure{class: classInvalidCiphertext, code: codes.InvalidArgument,
		text: "the ciphertext can't be read: it was altered or cut, or belongs to another key_id, key or encryption context"}
}

// cacheable: no seed is kept that the probe does not prove to be decryptable,
// which it does for the key that seals and for no other.
func (p *Plugin) cacheable(b box) bool {
	if p.cache == nil || !b.key.seals {
		return false
	}
	_, now := b.key.now()
	return now.vouched()
}

func (p *Plugin) cached(b box) (plaintext []byte, ok bool) {
	if !p.cacheable(b) {
		return nil, false
	}
	plaintext, ok = p.cache.get(b.flightID)
	result := cacheMiss
	if ok {
		result = cacheHit
	}
	p.metrics.cache.WithLabelValues(result).Inc()
	return plaintext, ok
}

// enter takes one of the places for calls that wait for KMS. It waits for one as
// long as enough of the budget is left for the call itself.
func (p *Plugin) enter(ctx, caller context.Context) (release func(), f *failure) {
	select {
	case p.slots <- struct{}{}:
	default:
		if f := p.queue(ctx, caller); f != nil {
			return nil, f
		}
	}
	p.metrics.flights.Inc()
	return func() {
		p.metrics.flights.Dec()
		<-p.slots
	}, nil
}

func (p *Plugin) queue(ctx, caller context.Context) *failure {
	patience := p.cfg.CallTimeout - p.cfg.CallTimeout/leftForKMS
	if deadline, ok := ctx.Deadline(); ok {
		patience = time.Until(deadline) - p.cfg.CallTimeout/leftForKMS
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		if caller.Err() != nil {
			return classOf(caller, "", caller.Err())
		}
	case <-timer.C:
	}
	return &failure{class: classOverloaded, code: codes.ResourceExhausted,
		text: "too many requests are waiting for AWS KMS: ask again"}
}

// run keeps every key's snapshot fresh until ctx ends, and then ends the work
// that is left.
func (p *Plugin) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, k := range p.keys {
		all.Go(func() { k.run(ctx) })
	}
	if p.watch != nil {
		all.Go(func() { p.watch.run(ctx) })
		if p.watch.report != nil {
			all.Go(func() { p.watch.report.run(ctx) })
		}
	}
	all.Go(func() { p.warm(ctx) })
	all.Wait()
	p.kill()
	for range maxInFlight { // until nobody waits for KMS any more, and nobody can begin to
		p.slots <- struct{}{}
	}
	p.cache.purge()
	for _, c := range p.clients() {
		c.http.CloseIdleConnections()
	}
}

func (p *Plugin) warm(ctx context.Context) {
	for _, c := range p.clients() {
		c.Warm(ctx)
	}
}

func (p *Plugin) clients() (all []*Client) {
	for _, k := range p.cfg.Keys {
		for _, c := range k.Clients {
			if !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	return all
}

func (p *Plugin) awaitFirstProbe(ctx context.Context, k *cmk) {
	select {
	case <-k.probed:
		return // without starting a timer
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	select {
	case <-k.probed:
	case <-ctx.Done():
	}
}

// call collects what one RPC, or one probe, has to log.
type call struct {
	op, uid    string
	start      time.Time
	keyID      string
	requestIDs []string
	level      slog.Level // of the line about a success
}

// deadline ends all that is done for a call, its waiting included.
func (p *Plugin) deadline(c *call) time.Time { return c.start.Add(p.cfg.CallTimeout) }

func (p *Plugin) begin(op, uid string) *call {
	if len(uid) > maxLoggedUID {
		uid = uid[:maxLoggedUID]
	}
	return &call{op: op, uid: strings.ToValidUTF8(uid, "?"), start: time.Now()}
}

func (c *call) saw(requestID string) {
	if requestID != "" {
		c.requestIDs = append(c.requestIDs, requestID)
	}
}

// end measures and logs the call. UID and KMS request IDs in one line lead from
// the API server's log to CloudTrail.
func (p *Plugin) end(c *call, f *failure) error {
	p.metrics.observe(c.op, f, c.start)
	if f == nil && !p.log.Enabled(context.Background(), c.level) {
		return nil
	}
	attrs := []slog.Attr{
		slog.String("op", c.op), slog.String("uid", c.uid), slog.String("key_id", c.keyID),
		slog.Any("kms_request_ids", c.requestIDs), slog.Float64("seconds", time.Since(c.start).Seconds()),
	}
	if f == nil {
		p.log.LogAttrs(context.Background(), c.level, "done", attrs...)
		return nil // not the nil *failure, which would be a non-nil error
	}
	p.log.LogAttrs(context.Background(), slog.LevelWarn, "failed: "+f.text, append(attrs,
		slog.String("class", f.class), slog.String("code", f.code.String()), slog.String("aws_code", f.awsCode))...)
	return status.Convert(f).Err()
}
