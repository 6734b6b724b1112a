package kmsplugin

import (
	"cmp"
	"context"
	"crypto/subtle"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go/middleware"
	"google.golang.org/grpc/codes"
)

const (
	// confirmPoll is how soon a probe is made again while the key fails, or
	// while its new material or a refusal waits to be seen a second time: as
	// often as an API server asks while the plugin is unhealthy.
	confirmPoll = 10 * time.Second
	// kickGap is the least time between two probes, however many calls ask for
	// one.
	kickGap = time.Second

	// confirmations is how many probes in a row must see a new key_id before it
	// is activated, or a refusal before Status stops to vouch. One odd answer of
	// an eventually consistent service must move nothing.
	confirmations = 2

	// settleAttempts is how often one probe tries to get the same material from
	// all calls before it leaves the matter to the next one.
	settleAttempts = 3

	// staleFor is how long a key_id that was left behind must be the only one
	// seen, in a look every confirmPoll, before it is believed again. KMS never
	// returns to old material, so until then it is a stale answer. After that,
	// it was the other one that was stale, and to insist would block writes: an
	// API server's seed lives for three minutes without a Status that it likes.
	staleFor = 2 * time.Minute
)

// cmk is one customer managed key, as the background probe knows it.
type cmk struct {
	id        string   // as configured: the ARN of a key or of an alias
	label     string   // the key in metrics and logs
	seals     bool     // the first key; the others only decrypt
	legacy    []string // further names by which old data may call it
	endpoints []*endpoint
	context   map[string]string
	poll      time.Duration
	budget    time.Duration
	vouchFor  time.Duration
	log       *slog.Logger
	metrics   *metrics
	purge     func() // forget cached seeds
	watch     *watch // nil unless a cluster's use of the key is watched

	state  atomic.Pointer[snapshot]
	calls  experience
	probed chan struct{} // closed after the first probe
	kick   chan struct{} // asks for a probe now

	// What only the probe touches.
	candidate  string              // a key_id that waits to be seen again
	seen       int                 // how often in a row
	refusals   int                 // refused probes since the last good one
	reported   condition           // what the log said last
	leftBehind map[string]struct{} // key_ids that a newer material has replaced
	staleSince time.Time           // since when only such a key_id is seen
}

// snapshot is what RPCs answer from. Only the probe replaces it.
type snapshot struct {
	keyID    string    // the one activated; it survives failures
	arn      string    // of the key that sealed under it
	fail     *failure  // of the last probe, nil if it was good
	sure     bool      // KMS refused confirmations times, and no probe was good since
	lastGood time.Time // the last good probe
	since    time.Time // when keyID was activated

	targets []target // the keys that id is or was
}

// target is a key that data may be labelled with.
type target struct {
	arn    string
	name   string   // in its key_ids
	legacy []string // aws-encryption-provider's key_ids for it
}

// condition sums a snapshot up.
type condition string

const (
	conditionOK       condition = "ok"
	conditionDegraded condition = "degraded"
	conditionFailed   condition = "failed"
	conditionStarting condition = "starting"
)

var conditions = []condition{conditionOK, conditionDegraded, conditionFailed, conditionStarting}

// condition is the rule of what Status says. A key_id is vouched for (ok and
// degraded) as long as what is sealed under it can be expected to be read back:
//
//   - a probe was good at least once, and the last good one is not older than
//     vouchFor: an outage says nothing about the key, but not forever;
//   - KMS itself has not refused the key in two probes without a good one
//     between them. Silence between them takes nothing back.
//
// An outage that is younger, or one refusal, makes it degraded.
func (s *snapshot) condition(now time.Time, vouchFor time.Duration) condition {
	switch {
	case s.lastGood.IsZero() && s.fail != nil && s.fail.class != classStarting:
		return conditionFailed
	case s.lastGood.IsZero():
		return conditionStarting
	case s.sure, now.Sub(s.lastGood) > vouchFor:
		return conditionFailed
	case s.fail != nil:
		return conditionDegraded
	}
	return conditionOK
}

func (c condition) vouched() bool { return c == conditionOK || c == conditionDegraded }

// reason is the failure that goes with a condition which is not vouched for.
func (s *snapshot) reason() *failure {
	if s.fail != nil {
		return s.fail
	}
	return &failure{class: classTimeout, code: codes.Unavailable,
		text: "the KMS key was not looked at for too long: the plugin is starved of CPU or was stopped"}
}

// now is the key's snapshot and what it means at this moment. Probes may be good
// while calls fail, as each meets other hosts of KMS: then the key is degraded.
func (k *cmk) now() (*snapshot, condition) {
	s, now := k.state.Load(), time.Now()
	after := s.condition(now, k.vouchFor)
	if after == conditionOK {
		if f := k.calls.failing(now, 2*k.poll); f != nil {
			of := *s
			of.fail = f
			return &of, conditionDegraded
		}
	}
	return s, after
}

func (k *cmk) role() string {
	if k.seals {
		return "seal"
	}
	return "open"
}

// withTarget adds a key that the configured name stands for; an alias that has
// moved keeps its earlier ones, as long as the process lives.
func (k *cmk) withTarget(targets []target, keyARN string) []target {
	if slices.ContainsFunc(targets, func(t target) bool { return t.arn == keyARN }) {
		return targets
	}
	t := target{arn: keyARN, name: keyName(keyARN), legacy: legacyNames(k.id, keyARN, k.legacy)}
	for _, e := range k.endpoints[1:] {
		t.legacy = append(t.legacy, inRegion(keyARN, e.Region))
	}
	// The newest first: an alias as a legacy name means the present key.
	return append([]target{t}, targets...)
}

// run probes at once and then every poll interval, until ctx ends.
func (k *cmk) run(ctx context.Context) {
	kicked := false
	for first := true; ctx.Err() == nil; first = false {
		next := k.probe(ctx)
		if first {
			close(k.probed)
		}
		if kicked && k.candidate != "" {
			// An API server was refused a seed for want of this key_id. It asks
			// again after ten seconds, and should find it activated.
			next = kickGap
		}
		gap, kick := min(kickGap, next), k.kick
		if k.refusals > 0 && k.refusals < confirmations {
			// A refusal may be a policy that is just being spread: callers that
			// fail by it don't hasten the second look.
			kick = nil
		}
		sleep(ctx, gap, nil)
		kicked = sleep(ctx, next-gap, kick)
	}
}

// sleep waits until d has passed, ctx ends or wake is sent to, and tells whether
// it was woken.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) (woken bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
		return true
	}
	return false
}

func (k *cmk) kickProbe() {
	select {
	case k.kick <- struct{}{}:
	default: // one is already asked for
	}
}

// probe looks at the key once, replaces the snapshot and returns how long to
// wait before the next look.
func (k *cmk) probe(ctx context.Context) (next time.Duration) {
	old := k.state.Load()
	call := &call{}
	o, f := k.look(ctx, call)
	if ctx.Err() != nil {
		return 0 // shutting down says nothing about the key
	}
	now := time.Now()
	s := *old
	s.fail = f
	next = min(k.poll, confirmPoll)
	if f != nil {
		if f.refusal() {
			k.refusals++
		}
		s.sure = k.refusals >= confirmations
		if s.sure && !f.refusal() {
			s.fail = old.fail
		}
		k.candidate, k.seen = "", 0
	} else {
		k.refusals, s.sure = 0, false
		if k.settle(&s, o, now) {
			next = k.poll
		}
		if o.degraded != nil {
			s.fail, next = o.degraded, min(k.poll, confirmPoll)
		}
	}
	k.state.Store(&s)
	if f == nil {
		f = s.fail // a replica did the work, or the material is unsettled
	}
	k.metrics.probes.WithLabelValues(k.label, resultOf(f)).Inc()
	k.report(old, &s, s.condition(now, k.vouchFor), call)
	k.watch.sees()
	return next
}

// settle takes a good observation into the snapshot. It returns false while
// another look is wanted soon.
func (k *cmk) settle(s *snapshot, o observation, now time.Time) bool {
	if o.arn != "" {
		s.targets = k.withTarget(s.targets, o.arn)
	}
	if !k.seals {
		s.lastGood, s.arn = now, o.arn
		return true
	}
	id := ""
	if o.settled {
		id = keyID(o.arn, o.materialID)
	}
	if id == "" {
		s.fail = unsettled()
		if s.keyID == "" {
			return false
		}
	}
	if s.keyID == "" || s.arn == o.arn {
		// Whatever the material: the round trip was good, and that of the
		// active key_id still decrypts, as KMS keeps all of a key's materials.
		s.lastGood = now
	}
	if id == "" {
		return false
	}
	if id == s.keyID {
		k.candidate, k.seen, k.staleSince = "", 0, time.Time{}
		return true
	}
	if _, old := k.leftBehind[id]; old {
		if k.staleSince.IsZero() {
			k.staleSince = now
		}
		if now.Sub(k.staleSince) < staleFor {
			s.fail = unsettled() // Encrypt refuses what is sealed with that material
			k.candidate, k.seen = "", 0
			return false
		}
	} else {
		k.staleSince = time.Time{}
	}
	if id != k.candidate {
		k.candidate, k.seen = id, 0
	}
	k.seen++
	if s.keyID != "" && k.seen < confirmations {
		return false
	}
	if s.keyID != "" {
		k.metrics.rotations.WithLabelValues(k.label).Inc()
		if s.arn == o.arn { // a moved alias may move back
			k.leftBehind[s.keyID] = struct{}{}
		}
	}
	delete(k.leftBehind, id)
	s.keyID, s.arn, s.since, s.lastGood = id, o.arn, now, now
	k.candidate, k.seen, k.staleSince = "", 0, time.Time{}
	return true
}

// report logs what a probe changed, and what time has changed since the last
// one: an outage may have become too old to vouch for the key.
func (k *cmk) report(old, s *snapshot, now condition, call *call) {
	before := k.reported
	k.reported = now
	if now == conditionFailed && before != conditionFailed {
		k.purge()
	}
	if before == now && old.keyID == s.keyID && resultOf(old.fail) == resultOf(s.fail) {
		return
	}
	attrs := []any{"key", k.label, "role", k.role(), "state", now, "was", before, "class", resultOf(s.fail),
		"key_id", s.keyID, "kms_request_ids", call.requestIDs}
	if s.fail != nil {
		k.log.Warn("key state: "+s.fail.text, append(attrs, "aws_code", s.fail.awsCode)...)
		return
	}
	k.log.Info("key state", attrs...)
}

// observation is what one good look has shown.
type observation struct {
	arn        string
	materialID string
	settled    bool     // all answers agree on the material
	degraded   *failure // what failed although the key can be used
}

// look asks DescribeKey for the key's state and material, and proves by a round
// trip that the role can use it under the encryption context: in the key's home
// Region, or where that does not answer in the Region of a replica.
func (k *cmk) look(ctx context.Context, call *call) (o observation, f *failure) {
	var first *failure
	for i, e := range k.endpoints {
		if i > 0 && k.resolved() == "" {
			break // the same alias may be another key's in another Region
		}
		o, f = k.lookAt(ctx, e, call)
		e.suspect.Store(f != nil && f.elsewhere())
		if i == 0 {
			first = f
		}
		if f == nil {
			o.degraded = cmp.Or(first, o.degraded)
			return o, nil
		}
		if !f.elsewhere() || ctx.Err() != nil {
			break
		}
	}
	return o, first
}

func (k *cmk) lookAt(ctx context.Context, e *endpoint, call *call) (o observation, f *failure) {
	name := k.id
	if !e.home {
		name = e.arn(k.resolved())
	}
	for range settleAttempts {
		described := ""
		meta, f := k.describe(ctx, e, call, name)
		switch {
		case f == nil:
			o.arn, described = aws.ToString(meta.Arn), aws.ToString(meta.CurrentKeyMaterialId)
			if !e.home {
				o.arn = inRegion(o.arn, k.endpoints[0].Region)
			}
		case k.seals && f.aside() && k.resolved() != "":
			// The round trip shows the material too, and that the key is enabled.
			o.arn, o.degraded = k.resolved(), f
		default:
			e.doubt()
			return o, f
		}
		if !k.seals {
			// There is nothing to decrypt, and GenerateDataKey may not be allowed.
			return o, nil
		}
		began := time.Now()
		generated, opened, f := k.roundTrip(ctx, e, call, o.arn)
		if f != nil {
			e.doubt()
			return o, f
		}
		// Each may stay silent (an older endpoint) but none may contradict, and
		// without DescribeKey not all may be silent.
		o.materialID = cmp.Or(generated, opened)
		o.settled = agree(described, generated, opened) && (o.degraded == nil || o.materialID != "")
		if o.settled {
			e.proven.Store(&proof{keyID(o.arn, o.materialID), began})
			break
		}
	}
	return o, nil
}

// agree tells whether all that are not empty are the same.
func agree(materialIDs ...string) bool {
	first := cmp.Or(materialIDs...)
	return !slices.ContainsFunc(materialIDs, func(m string) bool { return m != "" && m != first })
}

// roundTrip has a data key made and unwrapped again. It returns which material
// did the one and the other. Each call has a budget of its own: nobody waits for
// a probe.
func (k *cmk) roundTrip(ctx context.Context, e *endpoint, call *call, keyARN string) (generated, opened string, f *failure) {
	budget, cancel := context.WithTimeout(ctx, k.budget)
	made, f := e.generate(budget, ctx, call, keyARN, k.context)
	cancel()
	if f != nil {
		return "", "", f
	}
	defer made.wipe()
	budget, cancel = context.WithTimeout(ctx, k.budget)
	defer cancel()
	opened, f = e.readBack(budget, ctx, call, keyARN, k.context, made)
	return made.materialID, opened, f
}

func (k *cmk) describe(ctx context.Context, e *endpoint, call *call, name string) (*types.KeyMetadata, *failure) {
	budget, cancel := context.WithTimeout(ctx, k.budget)
	defer cancel()
	meta, f := e.describe(budget, ctx, call, name)
	if f != nil {
		return nil, f
	}
	described := aws.ToString(meta.Arn)
	if described != name && (isKeyARN(name) || !isKeyARN(described)) {
		return nil, wrongKey("DescribeKey")
	}
	return meta, stateFailure(meta)
}

// resolved is the ARN of the key that id stands for, "" while it is not known.
func (k *cmk) resolved() string {
	if isKeyARN(k.id) {
		return k.id
	}
	return k.state.Load().arn
}

// attempt does the work of one RPC in the key's home Region and, where that does
// not answer, in the Regions of its replicas. While the home Region is known to
// fail it is asked last. What it says counts: a replica's refusal is not the
// key's.
func (k *cmk) attempt(ctx, caller context.Context, do func(ctx context.Context, e *endpoint) *failure) (f *failure) {
	var ofHome *failure
	order := slices.Clone(k.endpoints)
	slices.SortStableFunc(order, func(a, b *endpoint) int { return boolInt(a.suspect.Load()) - boolInt(b.suspect.Load()) })
	for i, e := range order {
		share, cancel := ctx, context.CancelFunc(func() {})
		if rest := len(order) - i; rest > 1 {
			if deadline, ok := ctx.Deadline(); ok {
				share, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(rest))
			}
		}
		f = do(share, e)
		cancel()
		if f == nil {
			if !e.home {
				k.metrics.failovers.WithLabelValues(e.Region).Inc()
			}
			return nil
		}
		if e.home {
			ofHome = f
		}
		if caller.Err() != nil || e.home && !f.elsewhere() {
			return f
		}
		if len(order) > 1 && f.elsewhere() && f.class != classThrottled {
			e.suspect.Store(true)
			k.kickProbe() // it may be well again in a moment
		}
		if ctx.Err() != nil {
			break
		}
	}
	return cmp.Or(ofHome, f)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// endpoint makes the KMS calls in one Region.
type endpoint struct {
	Region  string
	home    bool // not the Region of a replica
	kms     KMS
	metrics *metrics
	suspect atomic.Bool           // it failed when last tried
	proven  atomic.Pointer[proof] // the last good round trip
}

// proof is a round trip: what was wrapped under a key_id was unwrapped again.
type proof struct {
	keyID string
	at    time.Time // when it began
}

// doubt takes the proof back.
func (e *endpoint) doubt() { e.proven.Store(nil) }

func (e *endpoint) hasProven(keyID string, within time.Duration) bool {
	p := e.proven.Load()
	return p != nil && p.keyID == keyID && time.Since(p.at) <= within
}

// arn is the key's ARN in this Region.
func (e *endpoint) arn(keyARN string) string {
	if e.home {
		return keyARN
	}
	return inRegion(keyARN, e.Region)
}

func corrupt() *failure {
	return &failure{class: classCorrupt, code: codes.DataLoss,
		text: "AWS KMS does not decrypt what it has just encrypted: do not trust this endpoint"}
}

func wrongKey(op string) *failure {
	return &failure{class: classWrongKey, code: codes.FailedPrecondition, op: op,
		text: "AWS KMS answered kms:" + op + " for another key than the one asked for: do not trust this endpoint"}
}

// incomplete is an answer that says success and is not what KMS answers then.
func incomplete(op string) *failure {
	return &failure{class: classKMSFault, code: codes.Unavailable, op: op,
		text: "what answers as AWS KMS said that kms:" + op + " was done, and gave no usable result: see the endpoint, and proxies that change answers"}
}

// judge finds what is wrong with an answer that says success: it must name the key
// that was asked for, and be whole.
func judge(op, requested string, answered *string, whole bool) *failure {
	switch id := aws.ToString(answered); {
	case id != "" && id != requested:
		return wrongKey(op)
	case id == "" || !whole:
		return incomplete(op)
	}
	return nil
}

func unsettled() *failure {
	return &failure{class: classRotating, code: codes.Unavailable,
		text: "the KMS key is rotating and its answers do not agree on the material yet: ask again"}
}

// generate has KMS make a data key. Its answer is judged before it is believed.
func (e *endpoint) generate(ctx, caller context.Context, call *call, keyARN string, encryptionContext map[string]string) (made dataKey, f *failure) {
	const op = "GenerateDataKey"
	start, name := time.Now(), e.arn(keyARN)
	out, err := e.kms.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId:             aws.String(name),
		KeySpec:           types.DataKeySpecAes256,
		EncryptionContext: encryptionContext,
	})
	if err == nil {
		call.saw(requestID(out.ResultMetadata))
		f = judge(op, name, out.KeyId, len(out.Plaintext) == dataKeySize && len(out.CiphertextBlob) > 0 && len(out.CiphertextBlob) <= maxWrappedKey)
	}
	if f = e.done(caller, call, op, start, err, f); f != nil {
		if out != nil {
			clear(out.Plaintext)
		}
		return made, f
	}
	return dataKey{out.Plaintext, out.CiphertextBlob, aws.ToString(out.KeyMaterialId)}, nil
}

// readBack has KMS unwrap a data key that it has just made.
func (e *endpoint) readBack(ctx, caller context.Context, call *call, keyARN string, encryptionContext map[string]string, made dataKey) (materialID string, f *failure) {
	plain, materialID, f := e.open(ctx, caller, call, keyARN, encryptionContext, made.wrapped)
	defer clear(plain)
	switch {
	case f != nil && f.class == classInvalidCiphertext:
		return "", corrupt()
	case f != nil:
		return "", f
	case subtle.ConstantTimeCompare(plain, made.plain) != 1:
		return "", corrupt()
	}
	return materialID, nil
}

// open decrypts with the key pinned: without KeyId, KMS would decrypt under any
// key that the role may use.
func (e *endpoint) open(ctx, caller context.Context, call *call, keyARN string, encryptionContext map[string]string, ciphertext []byte) (plaintext []byte, materialID string, f *failure) {
	const op = "Decrypt"
	start, name := time.Now(), e.arn(keyARN)
	out, err := e.kms.Decrypt(ctx, &kms.DecryptInput{
		KeyId:             aws.String(name),
		CiphertextBlob:    ciphertext,
		EncryptionContext: encryptionContext,
	})
	if err == nil {
		call.saw(requestID(out.ResultMetadata))
		f = judge(op, name, out.KeyId, len(out.Plaintext) > 0 && len(out.Plaintext) <= maxCiphertext)
	}
	if f = e.done(caller, call, op, start, err, f); f != nil {
		if out != nil {
			clear(out.Plaintext)
		}
		return nil, "", f
	}
	return out.Plaintext, aws.ToString(out.KeyMaterialId), nil
}

func (e *endpoint) describe(ctx, caller context.Context, call *call, name string) (*types.KeyMetadata, *failure) {
	const op = "DescribeKey"
	start := time.Now()
	out, err := e.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(name)})
	var f *failure
	if err == nil {
		call.saw(requestID(out.ResultMetadata))
		e.noteSkew(out.ResultMetadata)
		if out.KeyMetadata == nil || aws.ToString(out.KeyMetadata.Arn) == "" {
			f = incomplete(op)
		}
	}
	if f = e.done(caller, call, op, start, err, f); f != nil {
		return nil, f
	}
	return out.KeyMetadata, nil
}

// listGrants asks for a page of a key's grants, those for one grantee or all.
func (e *endpoint) listGrants(ctx, caller context.Context, keyARN, grantee, marker string) (*kms.ListGrantsOutput, *failure) {
	in := &kms.ListGrantsInput{KeyId: aws.String(e.arn(keyARN)), Limit: aws.Int32(grantPage)}
	if grantee != "" {
		in.GranteePrincipal = aws.String(grantee)
	}
	if marker != "" {
		in.Marker = aws.String(marker)
	}
	start := time.Now()
	out, err := e.kms.ListGrants(ctx, in)
	if f := e.done(caller, &call{}, "ListGrants", start, err, nil); f != nil {
		return nil, f
	}
	return out, nil
}

// done classifies the error of a call, or takes what its answer was found to be,
// and measures it either way.
func (e *endpoint) done(caller context.Context, call *call, op string, start time.Time, err error, found *failure) (f *failure) {
	if f = found; err != nil {
		f = classify(caller, op, err)
		call.saw(f.requestID)
	}
	e.metrics.requests.WithLabelValues(op, e.Region, resultOf(f)).Inc()
	e.metrics.requestTook.WithLabelValues(op, e.Region).Observe(time.Since(start).Seconds())
	return f
}

// noteSkew keeps how far the clocks are apart. The SDK signs with the corrected
// time once it knows, so a wrong clock may go unnoticed until it restarts.
func (e *endpoint) noteSkew(m middleware.Metadata) {
	if skew, ok := awsmiddleware.GetAttemptSkew(m); ok {
		e.metrics.skew.WithLabelValues(e.Region).Set(skew.Seconds())
	}
}
