package kmsplugin

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// conditionType is the condition in the status of the plugin's Deployment. The
// Deployment controller copies conditions that it does not know
// (pkg/controller/deployment/sync.go, calculateStatus).
const conditionType = "ekskms.github.io/KeyUsable"

const (
	// replicaPatience is how many polls a replica leaves a worse condition of
	// another alone that it has not seen refreshed.
	replicaPatience = 3
	// conflictTries is how often a condition is read and written again at once,
	// if somebody was quicker.
	conflictTries = 3

	eventNormal, eventWarning = "Normal", "Warning"
)

// reporter tells Kubernetes what a watch finds: Events on the plugin's
// Deployment, and a condition in its status. It works on the state of the moment
// and has no queue: what fails is tried again with the next poll, and touches
// nothing else that the plugin does.
type reporter struct {
	watch    *watch
	api      *kubernetes
	poll     time.Duration
	log      *slog.Logger
	failures prometheus.Counter
	changed  chan struct{}

	// What only run touches.
	told    verdict   // of the last Event
	toldAt  time.Time // when
	over    bool      // a danger that was told is over, and that is not told yet
	stamp   time.Time // lastUpdateTime of the condition that this replica wrote
	seen    time.Time // lastUpdateTime of the condition that was there last
	seenAt  time.Time // when that was first seen, by this process's own clock
	lost    bool      // the condition said that EKS's grant is missing, and nobody has seen it since
	trouble string    // what the log said last of why a report failed
}

func newReporter(w *watch, api *kubernetes, failures prometheus.Counter) *reporter {
	return &reporter{watch: w, api: api, poll: w.key.poll, log: w.log, failures: failures, changed: make(chan struct{}, 1)}
}

// wake asks for a report now. It never waits.
func (r *reporter) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// run reports once a poll, and when the verdict changes.
func (r *reporter) run(ctx context.Context) {
	select { // there is nothing to report before the first verdict
	case <-ctx.Done():
	case <-r.changed:
	}
	for ctx.Err() == nil {
		err := r.report(ctx, r.watch.now())
		if ctx.Err() != nil {
			break
		}
		r.note(err)
		sleep(ctx, r.poll, r.changed)
	}
	r.api.hangUp()
}

// note counts a failure, and logs it once.
func (r *reporter) note(err error) {
	text := ""
	if err != nil {
		r.failures.Inc()
		text = err.Error()
	}
	switch {
	case text == r.trouble:
	case err != nil:
		r.log.Warn("can't report to Kubernetes: "+text, "deployment", r.api.deployment)
	default:
		r.log.Info("reports to Kubernetes again", "deployment", r.api.deployment)
	}
	r.trouble = text
}

func (r *reporter) report(ctx context.Context, v watched) error {
	d, err := r.api.get(ctx)
	if err != nil {
		return err
	}
	// Each by itself: the right to the one may be missing.
	return errors.Join(r.condition(ctx, d, v), r.events(ctx, d, v.verdict))
}

// condition writes the verdict into the Deployment's status. Replicas write the
// same condition, and must not undo each other's forever: the worse one wins.
// One that is worse than True is refreshed with each poll by who sees it, and
// left alone by the others until it is stale.
func (r *reporter) condition(ctx context.Context, d deployment, v watched) error {
	for try := 1; ; try++ {
		c, write := r.next(d.condition(), v, time.Now())
		if !write {
			return nil
		}
		err := r.api.setCondition(ctx, d, c)
		switch {
		case err == nil:
			r.over = r.over || v.usable == usableTrue && d.condition().Status == usableFalse
			r.stamp = c.LastUpdateTime
			return nil
		case !isConflict(err) || try == conflictTries:
			return err
		}
		if d, err = r.api.get(ctx); err != nil {
			return err
		}
	}
}

// condition is ours, or the zero value.
func (d deployment) condition() kubeCondition {
	if i := slices.IndexFunc(d.Status.Conditions, func(c kubeCondition) bool { return c.Type == conditionType }); i >= 0 {
		return d.Status.Conditions[i]
	}
	return kubeCondition{}
}

// next is the condition to write over one that is there, if any.
func (r *reporter) next(there kubeCondition, v watched, now time.Time) (c kubeCondition, write bool) {
	stamp := now.UTC().Truncate(time.Second)
	c = kubeCondition{Type: conditionType, Status: v.usable, Reason: v.reason, Message: v.message(), LastUpdateTime: stamp, LastTransitionTime: stamp}
	// The replica that wrote it may have another clock: how old it is shows by
	// when it was last seen to change.
	if r.seenAt.IsZero() || !there.LastUpdateTime.Equal(r.seen) {
		r.seen, r.seenAt = there.LastUpdateTime, now
	}
	switch {
	case v.grant == grantPresent, there.Status == usableTrue:
		r.lost = false
	case there.Status == usableFalse && there.Reason == reasonGrantMissing:
		r.lost = true
	}
	if there.Type == "" {
		return c, true
	}
	if there.Status == c.Status {
		c.LastTransitionTime = there.LastTransitionTime
	}
	same := there.Status == c.Status && there.Reason == c.Reason && there.Message == c.Message
	own := there.LastUpdateTime.Equal(r.stamp)
	fresh := now.Sub(r.seenAt) < replicaPatience*r.poll
	switch {
	case same:
		return c, v.usable != usableTrue
	case r.lost && !v.danger() && (v.usable == usableTrue || !own):
		// A process that was started since has not seen the grant: that it knows
		// of no loss is no all-clear.
		return c, false
	case !own && fresh && there.Status.rank() >= v.usable.rank():
		return c, false
	}
	return c, true
}

// events tells of a danger when it comes, changes or has lasted for repeatAfter,
// and of its end.
func (r *reporter) events(ctx context.Context, d deployment, v verdict) error {
	now := time.Now()
	kind := eventWarning
	switch {
	case v.danger():
		if v == r.told && now.Sub(r.toldAt) < repeatAfter {
			return nil
		}
	case v.usable == usableTrue && !r.lost && (r.over || r.told.danger()):
		kind = eventNormal
	default:
		return nil
	}
	if err := r.api.event(ctx, d, kind, v.reason, v.message(), now); err != nil {
		return err
	}
	r.told, r.toldAt, r.over = v, now, false
	return nil
}
