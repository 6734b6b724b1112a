package kmsplugin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// reports makes the watching plugin, and neighbours of it, report to the fake.
func (w *watching) reports(p *Plugin) *Plugin {
	w.t.Helper()
	p.reportTo(w.kube.api(w.t))
	return p
}

func (w *watching) wantCondition(u usable, reason string) kubeCondition {
	w.t.Helper()
	c := w.kube.usable()
	if c.Status != u || c.Reason != reason {
		w.t.Errorf("the condition is %q for %q, want %q for %q", c.Status, c.Reason, u, reason)
	}
	return c
}

func (w *watching) wantEvents(want ...string) {
	w.t.Helper()
	if got := w.kube.told(); !slices.Equal(got, want) {
		w.t.Errorf("Events %q, want %q", got, want)
	}
}

// failures are the reports that failed, by the metric.
func (w *watching) failures() (n int) {
	w.t.Helper()
	_, rest, _ := strings.Cut(scrape(w.t, w.p), "ekskms_plugin_report_failures_total ")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// A danger comes, lasts and ends: what Kubernetes shows.
func TestReport(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		began := time.Now().UTC().Truncate(time.Second)
		defer runs(t, w.reports(w.p))()
		c := w.wantCondition(usableTrue, "KeyUsable")
		if !c.LastTransitionTime.Equal(began) || !c.LastUpdateTime.Equal(began) || c.Message != "the KMS key of cluster demo can be used." {
			t.Errorf("condition %+v", c)
		}
		w.wantEvents()
		pass(10 * time.Minute)

		w.key.SetState(kmsfake.Disabled)
		pass(defaultPollInterval + confirmPoll)
		c = w.wantCondition(usableFalse, "KeyDisabled")
		wantIn(t, "the condition", c.Message, "cluster demo", "aws kms enable-key --key-id "+w.key.ARN+" --region eu-central-1")
		w.wantEvents("Warning KeyDisabled")
		e := w.kube.seen()[0]
		if e.Message != c.Message || e.InvolvedObject.Kind != "Deployment" || e.InvolvedObject.APIVersion != "apps/v1" || e.InvolvedObject.Name != kubeDeployment ||
			e.InvolvedObject.UID != w.kube.uid || e.Source.Component != "kms-plugin" || e.Count != 1 || e.LastTimestamp.IsZero() || e.Metadata.GenerateName != "kms-plugin." {
			t.Errorf("event %+v", e)
		}
		since := c.LastTransitionTime
		pass(2*time.Hour - 10*time.Minute)
		w.wantEvents(slices.Repeat([]string{"Warning KeyDisabled"}, 4)...)
		events := w.kube.seen()
		for i, e := range events[1:] {
			if after := e.at.Sub(events[i].at); after < repeatAfter || after > repeatAfter+2*defaultPollInterval {
				t.Errorf("Event %d came %s after the one before", i+1, after)
			}
		}
		c = w.wantCondition(usableFalse, "KeyDisabled")
		if !c.LastTransitionTime.Equal(since) || time.Since(c.LastUpdateTime) > defaultPollInterval {
			t.Errorf("condition %+v after two hours", c)
		}

		w.key.SetState(kmsfake.PendingDeletion) // one danger becomes another
		pass(confirmPoll)
		c = w.wantCondition(usableFalse, "KeyPendingDeletion")
		if !c.LastTransitionTime.Equal(since) {
			t.Error("the status did not change, its time of transition did")
		}
		w.key.SetState(kmsfake.Enabled)
		pass(confirmPoll)
		c = w.wantCondition(usableTrue, "KeyUsable")
		if time.Since(c.LastTransitionTime) > confirmPoll {
			t.Errorf("condition %+v", c)
		}
		pass(time.Hour)
		w.wantEvents(append(slices.Repeat([]string{"Warning KeyDisabled"}, 4), "Warning KeyPendingDeletion", "Normal KeyUsable")...)
		if got := w.kube.types(); !slices.Equal(got, []string{"Available", "Progressing", conditionType}) {
			t.Errorf("the conditions are %q", got)
		}
		if n := w.failures(); n != 0 {
			t.Errorf("%d failures", n)
		}
	})
}

// In quiet times there is one GET a poll, and nothing is written.
func TestQuietTimes(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		defer runs(t, w.reports(w.p))()
		pass(24*time.Hour - time.Second)
		if get, patch, post := w.kube.count("get deployments"), w.kube.count("patch deployments/status"), w.kube.count("create events"); get != 24*60 || patch != 1 || post != 0 {
			t.Errorf("a day: %d GET, %d PATCH, %d POST", get, patch, post)
		}
	})
}

// An outage is Unknown, in other words once the plugin can't vouch for the key any
// more, and no Event: the cluster is not in danger by it.
func TestReportOfAnOutage(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		defer runs(t, w.reports(w.p))()
		w.fake.Fail("*", &kmsfake.Error{Status: 500, Code: "KMSInternalException"})
		pass(5 * defaultPollInterval)
		wantIn(t, "the condition", w.wantCondition(usableUnknown, "KMSFault").Message, "AWS Health Dashboard")
		pass(defaultVouchFor - 6*defaultPollInterval)
		pass(3 * defaultPollInterval)
		wantIn(t, "the condition", w.wantCondition(usableUnknown, "KMSFault").Message, "can't vouch")
		w.fake.Fail("*", nil)
		pass(defaultPollInterval)
		w.wantCondition(usableTrue, "KeyUsable")
		w.wantEvents()
	})
}

// Two replicas write one condition. One has lost the key, the other has not:
// what is there does not change to and fro.
func TestReplicas(t *testing.T) {
	// deny takes the key away from one of them.
	type replica struct {
		kms  *deniable
		stop func()
	}
	pair := func(w *watching) (a, b replica) {
		one := func() replica {
			d := &deniable{KMS: w.p.cfg.Keys[0].Clients[0].KMS}
			p := w.reports(w.watcher(func(_ *fixture, c *Config) {
				c.Keys = []Key{{ID: w.key.ARN, Clients: []*Client{{KMS: d, Region: region, http: &http.Client{}}}}}
			}))
			return replica{d, runs(w.t, p)}
		}
		return one(), one()
	}
	transitions := func(w *watching, d time.Duration) (all []usable) {
		last := usable("")
		for range d / time.Second {
			if now := w.kube.usable().Status; now != last {
				all, last = append(all, now), now
			}
			pass(time.Second)
		}
		return all
	}
	t.Run("both see it", func(t *testing.T) {
		watchBubble(t, func(t *testing.T, w *watching) {
			a, b := pair(w)
			defer a.stop()
			defer b.stop()
			w.key.SetState(kmsfake.Disabled)
			if got := transitions(w, time.Hour); !slices.Equal(got, []usable{usableTrue, usableFalse}) {
				t.Errorf("the condition went %q", got)
			}
			w.key.SetState(kmsfake.Enabled)
			if got := transitions(w, time.Hour); !slices.Equal(got, []usable{usableFalse, usableTrue}) {
				t.Errorf("the condition went %q", got)
			}
		})
	})
	t.Run("one sees it", func(t *testing.T) {
		watchBubble(t, func(t *testing.T, w *watching) {
			a, b := pair(w)
			defer a.stop()
			defer b.stop()
			pass(17 * time.Second)
			a.kms.deny.Store(true)
			if got := transitions(w, time.Hour); !slices.Equal(got, []usable{usableTrue, usableFalse}) {
				t.Errorf("the condition went %q", got)
			}
			a.kms.deny.Store(false)
			if got := transitions(w, time.Hour); !slices.Equal(got, []usable{usableFalse, usableTrue}) {
				t.Errorf("the condition went %q", got)
			}
			if got := w.kube.told(); len(got) != 3 || got[0] != "Warning AccessDenied" || got[2] != "Normal KeyUsable" {
				t.Errorf("Events %q", got)
			}
		})
	})
	t.Run("the one that sees it ends", func(t *testing.T) {
		watchBubble(t, func(t *testing.T, w *watching) {
			a, b := pair(w)
			defer b.stop()
			a.kms.deny.Store(true)
			pass(10 * time.Minute)
			a.stop()
			pass(replicaPatience*defaultPollInterval - confirmPoll)
			w.wantCondition(usableFalse, "AccessDenied")
			pass(2 * defaultPollInterval)
			w.wantCondition(usableTrue, "KeyUsable")
			if got := w.kube.told(); got[len(got)-1] != "Normal KeyUsable" {
				t.Errorf("Events %q", got) // who takes over says that it is over
			}
		})
	})
	t.Run("they see different dangers", func(t *testing.T) {
		watchBubble(t, func(t *testing.T, w *watching) {
			a, b := pair(w)
			defer a.stop()
			defer b.stop()
			a.kms.deny.Store(true)
			pass(5 * time.Minute)
			w.key.Revoke(w.grant) // b sees this only
			last, changes := kubeCondition{}, 0
			for range 3600 {
				pass(time.Second)
				if c := w.kube.usable(); c.Reason != last.Reason {
					last, changes = c, changes+1
				}
			}
			if changes != 1 || last.Status != usableFalse {
				t.Errorf("the reason changed %d times, last to %s", changes, last.Reason)
			}
		})
	})
}

// A restarted plugin does not know that it wrote the condition. It takes it over
// when nobody has refreshed it, and says that the danger is over.
func TestReportAfterARestart(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		w.kube.change(func(k *kubeFake) {
			k.set(kubeCondition{Type: conditionType, Status: usableFalse, Reason: "KeyDisabled", LastUpdateTime: time.Now(), LastTransitionTime: time.Now()})
		})
		defer runs(t, w.reports(w.p))()
		pass(replicaPatience*defaultPollInterval - time.Second)
		w.wantCondition(usableFalse, "KeyDisabled")
		pass(defaultPollInterval)
		w.wantCondition(usableTrue, "KeyUsable")
		w.wantEvents("Normal KeyUsable")
	})
}

// What is written next over what is there, case by case.
func TestNextCondition(t *testing.T) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	good := verdict{usable: usableTrue, reason: "KeyUsable", what: "good"}
	bad := verdict{usable: usableFalse, reason: "KeyDisabled", what: "bad"}
	worse := verdict{usable: usableFalse, reason: "KeyPendingDeletion", what: "worse"}
	dark := verdict{usable: usableUnknown, reason: "Unreachable", what: "dark"}
	for name, c := range map[string]struct {
		there verdict
		age   time.Duration // since this replica saw it change; negative: it is new
		own   bool
		now   verdict
		write bool
	}{
		"none is there":                          {verdict{}, 0, false, good, true},
		"good stays good":                        {good, 24 * time.Hour, true, good, false},
		"good stays another's good":              {good, 0, false, good, false},
		"good becomes bad":                       {good, 0, false, bad, true},
		"good becomes unknown":                   {good, 0, false, dark, true},
		"bad is refreshed":                       {bad, time.Minute, true, bad, true},
		"another's bad is refreshed":             {bad, time.Minute, false, bad, true},
		"unknown is refreshed":                   {dark, time.Minute, true, dark, true},
		"one's own bad is over":                  {bad, 0, true, good, true},
		"another's bad is left alone":            {bad, 3*time.Minute - 1, false, good, false},
		"another's bad is left alone by unknown": {bad, time.Minute, false, dark, false},
		"another's unknown is left alone":        {dark, time.Minute, false, good, false},
		"another's stale bad is taken over":      {bad, 3 * time.Minute, false, good, true},
		"another's stale unknown is taken over":  {dark, 3 * time.Minute, false, good, true},
		"unknown gives way to bad":               {dark, 0, false, bad, true},
		"another's danger is left alone":         {bad, time.Minute, false, worse, false},
		"one's own danger changes":               {bad, time.Minute, true, worse, true},
		"another's bad is new":                   {bad, -1, false, good, false},
	} {
		r := &reporter{poll: time.Minute}
		var there kubeCondition
		if c.there.usable != "" {
			there = kubeCondition{Type: conditionType, Status: c.there.usable, Reason: c.there.reason, Message: c.there.message(),
				LastUpdateTime: now.Add(-24 * time.Hour), LastTransitionTime: now.Add(-48 * time.Hour)} // by a clock that is wrong
			if c.age >= 0 {
				r.seen, r.seenAt = there.LastUpdateTime, now.Add(-c.age)
			}
		}
		if c.own {
			r.stamp = there.LastUpdateTime
		}
		got, write := r.next(there, watched{c.now, grantPresent}, now)
		if write != c.write {
			t.Errorf("%s: write %t", name, write)
		}
		if changed := !got.LastTransitionTime.Equal(there.LastTransitionTime); changed != (c.there.usable != c.now.usable) {
			t.Errorf("%s: time of transition %s", name, got.LastTransitionTime)
		}
	}
}

// A replica whose clock is minutes ahead or behind sees a danger: the other, which
// sees none, leaves its condition alone.
func TestReplicasWithOtherClocks(t *testing.T) {
	for _, skew := range []time.Duration{4 * time.Minute, -4 * time.Minute, time.Hour, -time.Hour} {
		well, bad := &reporter{poll: time.Minute}, &reporter{poll: time.Minute}
		var there kubeCondition
		now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
		write := func(r *reporter, v verdict, now time.Time) {
			if c, ok := r.next(there, watched{v, grantPresent}, now); ok {
				there, r.stamp = c, c.LastUpdateTime
			}
		}
		for range 10 {
			now = now.Add(time.Minute)
			write(bad, verdict{usable: usableFalse, reason: "AccessDenied"}, now.Add(skew))
			write(well, verdict{usable: usableTrue, reason: "KeyUsable"}, now)
			if there.Status != usableFalse {
				t.Fatalf("%s: the condition is %s", skew, there.Status)
			}
		}
		now = now.Add(replicaPatience * time.Minute) // the other has ended
		write(well, verdict{usable: usableTrue, reason: "KeyUsable"}, now)
		if there.Status != usableTrue {
			t.Errorf("%s: the condition stays %s", skew, there.Status)
		}
	}
}

// A grant was lost, and the plugin is restarted: that the new process has not seen
// it is no all-clear, whatever it finds instead.
func TestRestartIsNoAllClear(t *testing.T) {
	for name, meanwhile := range map[string]func(*watching){
		"nothing":        func(*watching) {},
		"another grant":  func(w *watching) { w.key.Grant(eksGrant(func(g *kmsfake.Grant) { g.Name = "eks-grant-other" })) },
		"looks refused":  func(w *watching) { w.fake.Deny("ListGrants", w.key) },
		"looks fail":     func(w *watching) { w.fake.Fail("ListGrants", &kmsfake.Error{Code: "ValidationException"}) },
		"another danger": func(w *watching) { w.key.SetState(kmsfake.Disabled) },
		"danger and dark": func(w *watching) {
			w.fake.Deny("ListGrants", w.key)
			w.key.SetState(kmsfake.Disabled)
		},
	} {
		t.Run(name, func(t *testing.T) {
			watchBubble(t, func(t *testing.T, w *watching) {
				stop := runs(t, w.reports(w.p))
				w.key.Revoke(w.grant)
				pass(5 * time.Minute)
				w.wantCondition(usableFalse, "EKSGrantMissing")
				stop()
				meanwhile(w)
				pass(time.Hour)
				defer runs(t, w.reports(w.watcher()))()
				pass(10 * time.Minute)
				w.key.SetState(kmsfake.Enabled)
				pass(10 * time.Minute)
				if c := w.kube.usable(); c.Status == usableTrue {
					t.Errorf("the condition is %s for %s", c.Status, c.Reason)
				}
				if got := w.kube.told(); slices.Contains(got, "Normal KeyUsable") {
					t.Errorf("Events %q", got)
				}
				w.fake.Allow("ListGrants", w.key)
				w.fake.Fail("ListGrants", nil)
				w.key.Grant(eksGrant())
				pass(2 * readAllEvery * defaultPollInterval)
				w.wantCondition(usableTrue, "KeyUsable")
				if got := w.kube.told(); got[len(got)-1] != "Normal KeyUsable" {
					t.Errorf("Events %q", got)
				}
			})
		})
	}
}

// Somebody else changes the Deployment between the read and the write: the
// condition is written on what is there then, and at once.
func TestConflict(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		meet := 2
		w.kube.change(func(k *kubeFake) {
			k.meanwhile = func(k *kubeFake) {
				if meet--; meet >= 0 {
					k.version++
				}
			}
		})
		defer runs(t, w.reports(w.p))()
		w.wantCondition(usableTrue, "KeyUsable")
		if n := w.failures(); n != 0 {
			t.Errorf("%d failures", n)
		}
		// A neighbour's False that came in between is not overwritten.
		w.kube.change(func(k *kubeFake) {
			k.conditions, meet = k.conditions[:2], 1
			k.meanwhile = func(k *kubeFake) {
				if meet--; meet == 0 {
					k.set(kubeCondition{Type: conditionType, Status: usableFalse, Reason: "KeyDisabled", LastUpdateTime: time.Now()})
				}
			}
		})
		pass(defaultPollInterval)
		w.wantCondition(usableFalse, "KeyDisabled")
	})
	watchBubble(t, func(t *testing.T, w *watching) {
		w.kube.change(func(k *kubeFake) { k.meanwhile = func(k *kubeFake) { k.version++ } })
		defer runs(t, w.reports(w.p))()
		if n := w.failures(); n != 1 || w.kube.count("patch deployments/status") != conflictTries {
			t.Errorf("%d failures, %d PATCH", n, w.kube.count("patch deployments/status"))
		}
		wantIn(t, "the log", w.logs.String(), "has changed meanwhile")
	})
}

// Kubernetes refuses or is down: it is counted, said once, and tried again with
// the next poll. The plugin's own work goes on.
func TestReportFails(t *testing.T) {
	refuse := func(what string, status int) func(*kubeFake) {
		return func(k *kubeFake) { k.answer[what] = status }
	}
	for name, c := range map[string]struct {
		fault func(*kubeFake)
		says  string
	}{
		"down":                        {func(k *kubeFake) { k.down = true }, "no answer of the Kubernetes API"},
		"no such Deployment":          {func(k *kubeFake) { k.gone = true }, "there is no Deployment kms-plugin in namespace kms"},
		"the token is refused":        {func(k *kubeFake) { k.token = "another" }, "does not take the service account's token"},
		"may not read the Deployment": {refuse("get deployments", http.StatusForbidden), "read the Deployment: the Kubernetes API answers 403: the plugin's service account needs"},
		"may not write the condition": {refuse("patch deployments/status", http.StatusForbidden), "write the condition: the Kubernetes API answers 403"},
		"may not create Events":       {refuse("create events", http.StatusForbidden), "create an Event: the Kubernetes API answers 403"},
		"too many requests":           {refuse("get deployments", http.StatusTooManyRequests), "answers 429"},
		"an internal error":           {refuse("patch deployments/status", http.StatusInternalServerError), "answers 500"},
		"a redirect":                  {refuse("get deployments", http.StatusFound), "answers 302"},
	} {
		t.Run(name, func(t *testing.T) {
			watchBubble(t, func(t *testing.T, w *watching) {
				said := func() int { return strings.Count(w.logs.String(), "can't report to Kubernetes") }
				defer runs(t, w.reports(w.p))()
				pass(time.Second)
				w.kube.change(c.fault)
				w.key.Revoke(w.grant) // so that there is something to report; the key is well
				pass(time.Hour)
				if n := w.failures(); n < 58 || n > 62 {
					t.Errorf("%d failures in an hour", n)
				}
				if said() != 1 || !strings.Contains(w.logs.String(), c.says) {
					t.Errorf("said %d times, want %q once:\n%s", said(), c.says, w.logs)
				}
				w.wantVerdict(usableFalse, "EKSGrantMissing") // log and metric need no Kubernetes
				w.wantOK(w.currentKeyID())
				w.wantOpens(w.p, w.mustEncrypt(seed))
				if n := w.fake.Count("DescribeKey"); n != 61 {
					t.Errorf("%d probes in an hour", n)
				}

				w.kube.change(func(k *kubeFake) {
					k.down, k.gone, k.token, k.answer = false, false, kubeToken, map[string]int{}
				})
				pass(defaultPollInterval)
				w.wantCondition(usableFalse, "EKSGrantMissing")
				if got := w.kube.told(); len(got) == 0 || got[0] != "Warning EKSGrantMissing" {
					t.Errorf("Events %q", got)
				}
				before := w.failures()
				pass(10 * time.Minute)
				if after := w.failures(); after != before {
					t.Errorf("%d more failures", after-before)
				}
				wantIn(t, "the log", w.logs.String(), "reports to Kubernetes again")
			})
		})
	}
}

// The right to the one is no condition for the other.
func TestEventAndConditionAreIndependent(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		defer runs(t, w.reports(w.p))()
		w.key.SetState(kmsfake.Disabled)
		w.kube.change(func(k *kubeFake) { k.answer["create events"] = http.StatusForbidden })
		pass(2 * defaultPollInterval)
		w.wantCondition(usableFalse, "KeyDisabled")
		w.wantEvents()
	})
	watchBubble(t, func(t *testing.T, w *watching) {
		w.kube.change(func(k *kubeFake) { k.answer["patch deployments/status"] = http.StatusForbidden })
		defer runs(t, w.reports(w.p))()
		w.key.SetState(kmsfake.Disabled)
		pass(2 * defaultPollInterval)
		w.wantEvents("Warning KeyDisabled")
		w.key.SetState(kmsfake.Enabled)
		pass(defaultPollInterval)
		w.wantEvents("Warning KeyDisabled", "Normal KeyUsable")
	})
}

// Every state is gone through, and all that Kubernetes was told is searched.
func TestNothingSecretIsReported(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		defer runs(t, w.reports(w.p))()
		seen := map[usable]bool{}
		told := ""
		look := func() {
			c := w.kube.usable()
			seen[c.Status] = true
			b, err := json.Marshal(c)
			mustf(t, err, "marshal")
			told += string(b)
		}
		e := w.mustEncrypt("plaintext-that-nobody-may-see-00")
		for _, code := range []string{"AccessDeniedException", "NotFoundException", "InvalidKeyUsageException", "SomethingNewException"} {
			w.fake.Fail("*", &kmsfake.Error{Code: code, Message: "context " + demoARN + " " + contextValue})
			for range 7 {
				pass(defaultPollInterval)
				look()
			}
			w.fake.Fail("*", nil)
			pass(2 * defaultPollInterval)
			look()
		}
		for _, e := range w.kube.seen() {
			told += fmt.Sprintf("%+v", e)
		}
		if len(seen) != 3 || len(w.kube.seen()) < 6 {
			t.Fatalf("too little was said: %v, %d Events", seen, len(w.kube.seen()))
		}
		for name, secret := range map[string]string{"context value": demoARN, "other context value": contextValue, "token": kubeToken,
			"plaintext": "plaintext-that-nobody", "ciphertext": string(e.Ciphertext)} {
			if strings.Contains(told, secret) {
				t.Errorf("Kubernetes was told the %s:\n%s", name, told)
			}
		}
	})
}

// deniable is AWS KMS for one role, from which the key can be taken away.
type deniable struct {
	KMS
	deny atomic.Bool
}

func (d *deniable) GenerateDataKey(ctx context.Context, in *kms.GenerateDataKeyInput, o ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error) {
	if d.deny.Load() {
		return nil, &smithy.GenericAPIError{Code: "AccessDeniedException"}
	}
	return d.KMS.GenerateDataKey(ctx, in, o...)
}
