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

	// One look at the grants asks for so many pages at most. A key may have
	// 50,000 grants (KMS quotas), one of ekskms's own has one or a few.
	grantPage     = 100
	maxGrantPages = 20
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
	named    bool // the grant under its usual name was seen
	absent   int  // looks in a row that missed it
	listAll  bool // the filter by grantee has not found it
	refused  bool // kms:ListGrants, as the log knows
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

// now is the zero value before the first probe.
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
	w.nextLook = time.Now().Add(w.key.poll)
	keyARN := w.key.resolved()
	if keyARN == "" {
		return // an alias that no probe could look up
	}
	found, f := w.list(ctx, keyARN)
	switch {
	case ctx.Err() != nil:
		return
	case f != nil:
		w.blind(f)
		return
	}
	w.refused = false
	if !found.own {
		// A grant that was made with GranteeServicePrincipal, as AWS's services
		// may, is not documented to be found by the filter for GranteePrincipal,
		// and the other filter is for services only (KMS API reference,
		// ListGrants).
		w.listAll = true
	}
	old := w.grant
	switch {
	case found.own:
		w.grant, w.named, w.absent = grantPresent, true, 0
	case found.any && !w.named:
		w.grant, w.absent = grantUnrecognized, 0
	default:
		// KMS is eventually consistent: one answer is no proof.
		if w.absent++; w.absent < confirmations {
			w.nextLook = time.Now().Add(min(w.key.poll, confirmPoll))
			return
		}
		w.grant = grantMissing
	}
	if w.grant != old {
		w.log.Info("grant of EKS on the key", "cluster", w.name, "grant", w.grant, "was", old)
	}
}

// blind notes that a look has shown nothing. Only a refusal changes what is
// known, and takes nothing back that was seen: who revokes a grant may also
// forbid to look.
func (w *watch) blind(f *failure) {
	if f.class != classPermissionDenied && f.class != classTooManyGrants {
		return
	}
	if w.grant != grantMissing {
		w.grant = grantUnknown
	}
	if !w.refused {
		w.refused = true
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

// list goes through the grants of the key, in its own Region.
func (w *watch) list(ctx context.Context, keyARN string) (found grants, f *failure) {
	grantee := w.grantee()
	if w.listAll {
		grantee = ""
	}
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
// it.
func (w *watch) judgeNow() {
	now := time.Now()
	old := w.now()
	v := w.judge(w.key, w.grant, now)
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
