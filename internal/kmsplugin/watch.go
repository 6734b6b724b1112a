package kmsplugin

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"google.golang.org/grpc/codes"
)

const (
	// repeatAfter is how often a danger that lasts is said again: Kubernetes
	// keeps Events for an hour by default, and log searches look back less.
	repeatAfter = 30 * time.Minute

	// One look at all grants asks for so many pages at most. A key may have
	// 50,000 grants (KMS quotas), one of ekskms's own has one or a few.
	grantPage     = 100
	maxGrantPages = 20
	// readAllEvery is how many polls pass between two looks at all grants.
	readAllEvery = 10
)

// watch looks after one EKS cluster's use of the first key: at what the probe
// finds, and whether EKS still has its grant. EKS itself notices after hours, or
// when an API server restarts.
//
// It has a goroutine of its own, so that nothing it waits for delays a probe, a
// Status or a call.
type watch struct {
	cluster
	key     *cmk
	log     *slog.Logger
	report  *reporter     // nil without a Deployment to report on
	probed  chan struct{} // a probe is over
	current atomic.Pointer[watched]

	// What only run touches.
	grant    grantState
	named    bool       // the grant under its usual name was seen
	answer   grantState // of the last look
	times    int        // looks in a row with that answer
	confirms bool       // the next look is to confirm the last one
	filters  bool       // the filter by grantee has shown the grant
	nextAll  time.Time  // when all grants may be read again
	failing  time.Time  // since when no look has had an answer; zero after one
	blinded  bool       // and the log knows
	looked   bool       // a look has ended, well or badly
	nextLook time.Time
	saidAt   time.Time // when the log last told of the danger
}

// watched is what metrics and the report are made of.
type watched struct {
	verdict
	grant grantState
}

func newWatch(c cluster, k *cmk) *watch {
	return &watch{cluster: c, key: k, log: k.log, probed: make(chan struct{}, 1), grant: grantUnknown}
}

// sees is called by the probe. It never waits.
func (w *watch) sees() {
	if w == nil {
		return
	}
	select {
	case w.probed <- struct{}{}:
	default:
	}
}

// now is the zero value before the first verdict.
func (w *watch) now() watched {
	if p := w.current.Load(); p != nil {
		return *p
	}
	return watched{grant: grantUnknown}
}

// run judges after each probe, and looks at the grants once a poll.
func (w *watch) run(ctx context.Context) {
	select { // there is nothing to judge before the first probe
	case <-ctx.Done():
	case <-w.probed:
	}
	for ctx.Err() == nil {
		w.judgeNow()
		if !time.Now().Before(w.nextLook) {
			w.look(ctx)
			w.judgeNow()
		}
		sleep(ctx, time.Until(w.nextLook), w.probed)
	}
}

// look asks once for EKS's grants, and sets when to look again.
func (w *watch) look(ctx context.Context) {
	now := time.Now()
	w.nextLook = now.Add(w.key.poll)
	found, proof, f := w.find(ctx, now)
	switch {
	case ctx.Err() != nil:
		return
	case f != nil:
		w.blind(f, now)
		return
	}
	w.failing = time.Time{}
	if !proof {
		return // what an earlier look has shown stands
	}
	w.blinded = false
	after := found.state()
	if after != w.answer {
		w.answer, w.times = after, 0
	}
	w.times++
	w.named = w.named || found.own
	// KMS is eventually consistent: one answer is no proof of a loss.
	if w.confirms = w.times < confirmations && after != w.grant && lost(after, w.named); w.confirms {
		w.nextLook = now.Add(min(w.key.poll, confirmPoll))
		return
	}
	w.looked = true
	if after == w.grant {
		return
	}
	w.log.Info("grant of EKS on the key", "cluster", w.name, "grant", after, "was", w.grant)
	w.grant = after
	if usable, words := wordsOfGrant(after, w.named); usable == usableUnknown {
		w.log.Warn(w.fill(words.what), "cluster", w.name, "reason", words.reason, "way_back", w.fill(words.wayBack))
	}
}

// blind notes that the look which began now has shown nothing. Only a refusal, or unknownAfter polls
// of whatever failure, change what is known, and take no loss back that was seen:
// who revokes a grant may also forbid to look.
func (w *watch) blind(f *failure, now time.Time) {
	if w.failing.IsZero() {
		w.failing = now
	}
	if f.class != classPermissionDenied && f.class != classTooManyGrants && now.Sub(w.failing) < unknownAfter*w.key.poll {
		return
	}
	w.looked = true
	if !lost(w.grant, w.named) {
		w.grant = grantUnknown
	}
	if !w.blinded {
		w.blinded = true
		w.log.Warn("whether EKS has its grant on the key is not known: "+f.text, "cluster", w.name, "class", f.class, "aws_code", f.awsCode)
	}
}

// classTooManyGrants is no class of KMS's failures: it shows in one log line.
const classTooManyGrants = "too-many-grants"

// grants sums up a list of grants.
type grants struct {
	own bool // this cluster's is among them
	any bool // one for EKS is
}

func (g grants) state() grantState {
	switch {
	case g.own:
		return grantPresent
	case g.any:
		return grantUnrecognized
	}
	return grantMissing
}

// find looks for the grant with the filter by grantee, which is one request. What
// that does not show is no proof that there is none, unless it has shown it
// before: a grant that was made with GranteeServicePrincipal, as AWS's services
// may, is not documented to be found by the filter for GranteePrincipal, and the
// other filter is for services only (KMS API reference, ListGrants). So all grants
// are read then, every readAllEvery polls and to confirm a loss.
func (w *watch) find(ctx context.Context, now time.Time) (found grants, proof bool, f *failure) {
	found, f = w.list(ctx, w.key.id, w.grantee())
	w.filters = w.filters || found.own
	switch {
	case f != nil, w.filters:
		return found, true, f
	case now.Before(w.nextAll) && !w.confirms:
		return found, false, nil
	}
	if found, f = w.list(ctx, w.key.id, ""); f == nil || f.class == classTooManyGrants {
		w.nextAll = now.Add(readAllEvery * w.key.poll)
	}
	return found, true, f
}

// list goes through the grants of the key, in its own Region: those of a grantee,
// or with "" all.
func (w *watch) list(ctx context.Context, keyARN, grantee string) (found grants, f *failure) {
	marker := ""
	for range maxGrantPages {
		budget, cancel := context.WithTimeout(ctx, w.key.budget)
		page, f := w.key.endpoints[0].listGrants(budget, ctx, keyARN, grantee, marker)
		cancel()
		if f != nil {
			return found, f
		}
		for _, g := range page.Grants {
			if w.isEKS(g) {
				found.any = true
				found.own = found.own || w.isOwn(g)
			}
		}
		marker = aws.ToString(page.NextMarker)
		if found.own || !page.Truncated || marker == "" {
			return found, nil
		}
	}
	return found, &failure{class: classTooManyGrants, code: codes.ResourceExhausted,
		text: "the key has more grants than the plugin reads: give the cluster a key of its own"}
}

// judgeNow makes the verdict and, where it is news or old news of a danger, says
// it. Before a look at the grants has ended it says nothing but a danger: a plugin
// that was just started must not give the all-clear.
func (w *watch) judgeNow() {
	now := time.Now()
	old := w.now()
	v := w.judge(w.key, w.grant, w.named, now)
	if !w.looked && !v.danger() {
		return
	}
	w.current.Store(&watched{v, w.grant})
	if v != old.verdict && w.report != nil {
		w.report.wake()
	}
	switch {
	case v.danger() && (v != old.verdict || now.Sub(w.saidAt) >= repeatAfter):
		w.saidAt = now
		w.log.Error("cluster in danger: "+v.what, "cluster", w.name, "reason", v.reason, "way_back", v.wayBack)
	case !v.danger() && old.danger():
		w.log.Info("cluster no longer in danger: "+v.what, "cluster", w.name, "reason", v.reason, "was", old.reason)
	}
}
