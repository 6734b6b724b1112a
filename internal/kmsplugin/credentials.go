package kmsplugin

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// They are variables for tests alone.
var (
	// renewAhead is how long before their expiry credentials of all sources are
	// renewed. By default the SDK does so for some sources only.
	renewAhead = 5 * time.Minute
	// sourceTimeout is of one request to a source of credentials (container
	// endpoint, instance metadata, STS, SSO). The SDK has none for most of them.
	sourceTimeout = 2 * time.Second
	// renewTimeout is of one renewal, with the requests that the SDK repeats.
	renewTimeout = 10 * time.Second
	// renewPause is between a renewal that failed and the next one, and between
	// two that KMS has caused by calling credentials expired.
	renewPause = 5 * time.Second
)

// sourceClient is the HTTP client of all sources of credentials.
func sourceClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTimeout(sourceTimeout)
}

// renewal renews credentials before they expire, in the background, once for all
// calls that want them. As long as the old ones are valid, no call waits for
// their source, and none fails for it.
type renewal struct {
	source  aws.CredentialsProvider
	metrics *metrics
	log     *slog.Logger

	mu      sync.Mutex
	have    aws.Credentials
	refused bool          // KMS calls what we have expired
	done    chan struct{} // of the renewal that is under way, else nil
	err     error         // of the last one
	notYet  time.Time     // no renewal before that
}

// credentialsError makes the failures of the credential chain recognisable, since
// the SDK reports them as plain text.
type credentialsError struct{ error }

func (e credentialsError) Unwrap() error { return e.error }

func newRenewal(source aws.CredentialsProvider, m *metrics, log *slog.Logger) *renewal {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &renewal{source: source, metrics: m, log: log}
}

// usable tells whether what we have may sign a request now.
func (r *renewal) usable(now time.Time) bool {
	return r.have.HasKeys() && (!r.have.CanExpire || now.Before(r.have.Expires))
}

func (r *renewal) fresh(now time.Time) bool {
	return r.usable(now) && !r.refused && (!r.have.CanExpire || now.Before(r.have.Expires.Add(-renewAhead)))
}

// Retrieve is what the SDK signs with.
func (r *renewal) Retrieve(ctx context.Context) (aws.Credentials, error) {
	r.mu.Lock()
	now := time.Now()
	if r.fresh(now) {
		defer r.mu.Unlock()
		return r.have, nil
	}
	if r.done == nil && !now.Before(r.notYet) {
		r.done = make(chan struct{})
		go r.renew(context.WithoutCancel(ctx), r.done)
	}
	done, waits := r.done, !r.usable(now) || r.refused
	r.mu.Unlock()
	if waits && done != nil {
		select {
		case <-done:
		case <-ctx.Done():
			return aws.Credentials{}, credentialsError{ctx.Err()}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Those of the instance metadata may be taken longer than they say: AWS prolongs
	// them while it can't give new ones (aws-sdk-go-v2, ec2rolecreds).
	if !r.usable(time.Now()) && r.have.Source != ec2rolecreds.ProviderName {
		return aws.Credentials{}, credentialsError{r.err}
	}
	return r.have, nil
}

func (r *renewal) renew(ctx context.Context, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	if cache, ok := r.source.(*aws.CredentialsCache); ok {
		cache.Invalidate() // it knows of no renewal ahead
	}
	c, err := r.source.Retrieve(ctx)
	now := time.Now()
	if err == nil && (!c.HasKeys() || c.CanExpire && !now.Before(c.Expires)) {
		err = errors.New("the source gave credentials that have expired, or none")
	}
	r.mu.Lock()
	failedBefore, again := r.err != nil, r.refused
	if r.err = err; err == nil {
		r.have, r.refused = c, false
	}
	if err != nil || again || c.CanExpire && c.Expires.Sub(now) <= renewAhead {
		// The source may give nothing better for a while.
		r.notYet = now.Add(renewPause)
	}
	usable := r.usable(now)
	r.done = nil
	r.mu.Unlock()
	close(done)
	switch {
	case err == nil:
		if c.CanExpire {
			c.Expires = c.Expires.Add(-renewAhead)
		}
		r.metrics.credentialsExpire(c)
		if failedBefore {
			r.log.Info("AWS credentials are renewed again")
		}
	case !failedBefore:
		r.log.Warn("can't renew the AWS credentials: check their source", "old_ones_are_valid", usable)
	}
}

// register has every answer of KMS looked at.
func (r *renewal) register(stack *middleware.Stack) error {
	return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("ekskmsExpired", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleFinalize(ctx, in)
		var api smithy.APIError
		if err != nil && errors.As(err, &api) && classOfCode("", api, err).class == classExpiredCredentials {
			r.refuse(signer(in.Request))
		}
		return out, metadata, err
	}), "Signing", middleware.After)
}

// signer is the access key that a request is signed with (AWS Signature Version 4,
// "Authorization header").
func signer(request any) string {
	r, ok := request.(*smithyhttp.Request)
	if !ok {
		return ""
	}
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	id, _, _ := strings.Cut(rest, "/")
	return id
}

// refuse takes it that KMS calls the credentials of this access key expired.
func (r *renewal) refuse(accessKeyID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = r.refused || accessKeyID == r.have.AccessKeyID // and not of what we had before
}
