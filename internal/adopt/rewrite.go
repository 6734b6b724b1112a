package adopt

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/flowcontrol"
)

// Rewrite has the API server store all secrets again, each as it is.
//
// An API server writes an object that is sent back unchanged only if what etcd holds of it is
// not under its newest key, and then gives it another resourceVersion. So nothing but the write
// changes, what was done before an interrupt is not done again, and each answer says whether
// there was something to do.
//
// Source: k8s.io/apiserver, storage/etcd3/store.go, GuaranteedUpdate: "stale".
type Rewrite struct {
	Client dynamic.Interface
	// Rate is the most writes a second. Default: 20.
	Rate float32
	// PageSize is that of a list. Default: 200.
	PageSize int64
	// Progress is called after each page.
	Progress func(Rewritten)
}

// Rewritten is what became of secrets.
type Rewritten struct {
	// Stored were stored again, by this or by somebody else meanwhile, Current were under the newest key already, and Gone were
	// deleted meanwhile.
	Stored, Current, Gone int
	// Failed are those that could not be written, by namespace and name, with the reason.
	Failed []string
}

// Seen are all secrets that were there.
func (r Rewritten) Seen() int { return r.Stored + r.Current + r.Gone + len(r.Failed) }

var secrets = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}

// maxConflicts is how often a secret that somebody else writes is tried again.
const maxConflicts = 5

// Run rewrites all secrets. The error is why it ended before: what was done until then is
// among the answer, and is not done again by another run.
func (w Rewrite) Run(ctx context.Context) (done Rewritten, err error) {
	rate, size := w.Rate, w.PageSize
	if rate <= 0 {
		rate = 20
	}
	if size <= 0 {
		size = 200
	}
	limit := flowcontrol.NewTokenBucketRateLimiter(rate, max(1, int(rate)))
	next := ""
	for {
		list, err := w.Client.Resource(secrets).List(ctx, metav1.ListOptions{Limit: size, Continue: next})
		if apierrors.IsResourceExpired(err) && next != "" {
			// The list is older than etcd keeps. It goes on from where it was, with what is there
			// now, by a token that comes with the error; else it begins again.
			next = ""
			var status apierrors.APIStatus
			if errors.As(err, &status) {
				next = status.Status().Continue
			}
			continue
		}
		if err != nil {
			return done, fmt.Errorf("secrets can't be listed: %w", err)
		}
		for i := range list.Items {
			if err := limit.Wait(ctx); err != nil {
				return done, err
			}
			if err := w.one(ctx, &list.Items[i], &done); err != nil {
				return done, err
			}
		}
		if w.Progress != nil {
			w.Progress(done)
		}
		if next = list.GetContinue(); next == "" {
			return done, nil
		}
	}
}

// one rewrites a secret. The error is that of the context alone.
func (w Rewrite) one(ctx context.Context, secret *unstructured.Unstructured, done *Rewritten) error {
	of := w.Client.Resource(secrets).Namespace(secret.GetNamespace())
	name := secret.GetNamespace() + "/" + secret.GetName()
	for attempt := 0; ; attempt++ {
		before := secret.GetResourceVersion()
		after, err := of.Update(ctx, secret, metav1.UpdateOptions{})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && after.GetResourceVersion() == before:
			done.Current++
			return nil
		case err == nil:
			done.Stored++
			return nil
		case apierrors.IsNotFound(err):
			done.Gone++
			return nil
		case apierrors.IsConflict(err) && attempt < maxConflicts:
			// Somebody has written it, and so it is stored again. What it is now is sent back all
			// the same, which says whether that is so.
			if secret, err = of.Get(ctx, secret.GetName(), metav1.GetOptions{}); apierrors.IsNotFound(err) {
				done.Gone++
				return nil
			} else if err != nil {
				done.fail(name, err)
				return nil
			}
		case apierrors.IsConflict(err):
			// It was written between each look and the write after it: others store it again.
			done.Stored++
			return nil
		case (apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err)) && attempt < maxConflicts:
			seconds, _ := apierrors.SuggestsClientDelay(err)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(max(seconds, 1)) * time.Second):
			}
		default:
			done.fail(name, err)
			return nil
		}
	}
}

// fail keeps the reason, and nothing of the secret but its name.
func (r *Rewritten) fail(name string, err error) {
	reason := string(apierrors.ReasonForError(err))
	if reason == "" {
		reason = err.Error()
	}
	r.Failed = append(r.Failed, name+": "+reason)
}
