package kmsplugin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
)

// KMS is what the plugin needs of AWS KMS, and all that its role may do.
// *kms.Client has it.
type KMS interface {
	DescribeKey(context.Context, *kms.DescribeKeyInput, ...func(*kms.Options)) (*kms.DescribeKeyOutput, error)
	GenerateDataKey(context.Context, *kms.GenerateDataKeyInput, ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error)
	Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error)
	// ListGrants is called where a cluster is watched, and by doctor.
	ListGrants(context.Context, *kms.ListGrantsInput, ...func(*kms.Options)) (*kms.ListGrantsOutput, error)
}

const (
	// maxAttempts with their waits fit into one call's time limit as long as
	// KMS answers. An attempt is given up after attemptTimeout, as long as
	// that much is left for another one: the last one gets all that is left.
	maxAttempts    = 3
	attemptTimeout = time.Second
	// maxAnswer is the most that is read of one answer. KMS's longest to these
	// calls, a page of 100 grants, has about that; all others under 2 KiB.
	maxAnswer   = 64 << 10
	baseBackoff = 50 * time.Millisecond
	maxBackoff  = 200 * time.Millisecond

	// maxConns is the calls in flight and some more for probes: never more
	// connections than that, and all of them stay open between bursts.
	maxConns = maxInFlight + 8
	// warmConns are opened at start, so that the API server's first calls don't
	// each wait for DNS, TCP and TLS.
	warmConns = 4
	// idleTimeout is over the default poll interval: the probe keeps a
	// connection warm.
	idleTimeout = 5 * time.Minute
)

// ClientOptions say how to reach AWS KMS in one Region. What they leave out
// comes from the SDK's environment variables and shared configuration files.
type ClientOptions struct {
	Region string // required

	// EndpointURL replaces the Region's public endpoint. Default: for the first
	// Region AWS_ENDPOINT_URL_KMS or AWS_ENDPOINT_URL, else the public one.
	EndpointURL string
	// Replica marks the Region of a replica: the environment's endpoint is not
	// for it.
	Replica bool
	// FIPS and DualStack choose these variants of the public endpoint. Default:
	// AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT.
	FIPS, DualStack bool

	// Transport replaces the pool of connections.
	Transport http.RoundTripper

	attemptTimeout time.Duration // see the constant
	metrics        *metrics
	log            *slog.Logger
}

// Client is AWS KMS in one Region.
type Client struct {
	KMS
	Region string
	// Endpoint is the URL that calls go to.
	Endpoint string

	http        *http.Client
	credentials *renewal
}

// NewClient makes a client with the SDK's default chains for credentials and
// endpoints, a pool of connections for maxInFlight calls, and retries that fit
// into one call's time limit. It calls nobody.
func NewClient(ctx context.Context, o ClientOptions) (*Client, error) {
	if o.metrics == nil {
		o.metrics = newMetrics()
	}
	o.attemptTimeout = cmp.Or(o.attemptTimeout, attemptTimeout)
	load := []func(*config.LoadOptions) error{
		config.WithRegion(o.Region),
		// It would write to stderr, past the log.
		config.WithLogger(logging.Nop{}),
		config.WithHTTPClient(sourceClient()),
		// The one source that does not take that client (seen in config v1.33).
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = sourceClient() }),
		// The true expiry: renewal is ahead of it, and goes on until then.
		config.WithCredentialsCacheOptions(func(c *aws.CredentialsCacheOptions) { c.ExpiryWindow = 0 }),
		config.WithAPIOptions([]func(*middleware.Stack) error{
			awsmiddleware.AddUserAgentKeyValue("ekskms-kms-plugin", Version().Version),
		}),
	}
	if o.FIPS {
		load = append(load, config.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	if o.DualStack {
		load = append(load, config.WithUseDualStackEndpoint(aws.DualStackEndpointStateEnabled))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	renewed := newRenewal(cfg.Credentials, o.metrics, o.log)
	cfg.Credentials = renewed
	client := &Client{Region: o.Region, http: httpClient(cfg, o), credentials: renewed}
	sdk := kms.NewFromConfig(cfg, func(k *kms.Options) {
		k.APIOptions = append(k.APIOptions, attempts{o.attemptTimeout}.register, renewed.register)
		k.HTTPClient = client.http
		k.Retryer = countedRetries{retryer(), o.metrics}
		if o.Replica {
			k.BaseEndpoint = nil
		}
		if o.EndpointURL != "" {
			k.BaseEndpoint = aws.String(o.EndpointURL)
		}
	})
	client.KMS = sdk
	if client.Endpoint, err = endpointOf(ctx, sdk.Options()); err != nil {
		return nil, err
	}
	return client, checkEndpoint(client.Endpoint)
}

func httpClient(cfg aws.Config, o ClientOptions) *http.Client {
	transport := o.Transport
	if transport == nil {
		transport = pool(cfg, o)
	}
	return &http.Client{
		Transport: bounded{transport},
		// KMS does not redirect, and data keys are not sent where somebody else
		// points to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// pool is the SDK's own transport, with the CA bundle of the environment, and
// room for all calls in flight. A dial or a handshake that is not answered holds
// one of the places, so it is given up with the request that waited for it.
func pool(cfg aws.Config, o ClientOptions) *http.Transport {
	client, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		client = awshttp.NewBuildableClient()
	}
	t := client.WithDialerOptions(func(d *net.Dialer) { d.Timeout = o.attemptTimeout }).GetTransport()
	t.TLSHandshakeTimeout = o.attemptTimeout
	t.MaxConnsPerHost = maxConns
	t.MaxIdleConnsPerHost = maxConns
	t.MaxIdleConns = 0 // bounded by host
	t.IdleConnTimeout = idleTimeout
	t.MaxResponseHeaderBytes = maxAnswer
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			o.metrics.connections.Inc()
		}
		return conn, err
	}
	return t
}

// bounded has requests with a body that is in memory, and answers that end.
//
// Of a body that it does not know to be in memory, net/http sends the headers
// apart, which costs a system call and a packet. And the SDK's bodies have a
// WriteTo method that answers io.EOF once the SDK has closed them (smithy-go
// v1.28.8, transport/http/internal/io), for which net/http would throw away one
// connection in some tens of calls.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		body, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			return nil, err
		}
		plain := *r
		plain.Body, plain.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r = &plain
	}
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &capped{resp.Body, maxAnswer}
	}
	return resp, err
}

// CloseIdleConnections is what http.Client asks its transport for.
func (b bounded) CloseIdleConnections() {
	if t, ok := b.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

type capped struct {
	io.ReadCloser
	left int
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooLong
	}
	n, err := c.ReadCloser.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

var errTooLong = errors.New("the answer is over 64 KiB")

// attempts limits the time of each attempt of a call.
type attempts struct{ timeout time.Duration }

type attemptKey struct{}

func (a attempts) register(stack *middleware.Stack) error {
	err := stack.Initialize.Add(middleware.InitializeMiddlewareFunc("ekskmsAttempts", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(middleware.WithStackValue(ctx, attemptKey{}, new(int)), in)
	}), middleware.Before)
	if err != nil {
		return err
	}
	return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("ekskmsAttempt", a.limit), "Retry", middleware.After)
}

func (a attempts) limit(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	timeout, last := a.timeout, false
	if n, ok := middleware.GetStackValue(ctx, attemptKey{}).(*int); ok {
		*n++
		last = *n >= maxAttempts
	}
	if deadline, ok := ctx.Deadline(); last || ok && time.Until(deadline) < 2*timeout {
		timeout = max(timeout, defaultCallTimeout)
	}
	cut, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, metadata, err := next.HandleFinalize(cut, in)
	if err != nil && cut.Err() != nil && ctx.Err() == nil {
		err = silence{}
	}
	return out, metadata, err
}

// silence is an attempt that had no answer in its time. It is worth a retry.
type silence struct{}

func (silence) Error() string        { return "no answer in time" }
func (silence) Timeout() bool        { return true }
func (silence) Temporary() bool      { return true }
func (silence) RetryableError() bool { return true }

func retryer() aws.RetryerV2 {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = maxAttempts
		// The SDK would stop to retry after some dozen failures, and make all calls
		// fail whose first attempt is a slow one. What bounds retries here is the
		// budget of each call, and the cap of calls in flight.
		o.RateLimiter = ratelimit.None
		o.Retryables = append(o.Retryables,
			// An answer that was cut off.
			retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
				if errors.Is(err, io.ErrUnexpectedEOF) {
					return aws.TrueTernary
				}
				return aws.UnknownTernary
			}),
			retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{http.StatusTooManyRequests: {}}})
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			// Full jitter: the SDK's own jitters only waits of over a second.
			return rand.N(min(maxBackoff, baseBackoff<<min(attempt, 8))) + 1, nil //nolint:gosec // no secret
		})
	})
}

type countedRetries struct {
	aws.RetryerV2
	metrics *metrics
}

func (r countedRetries) RetryDelay(attempt int, err error) (time.Duration, error) {
	r.metrics.retries.Inc()
	return r.RetryerV2.RetryDelay(attempt, err)
}

// endpointOf asks the SDK's own rules where the calls will go.
func endpointOf(ctx context.Context, o kms.Options) (string, error) {
	resolved, err := kms.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, kms.EndpointParameters{
		Region:       aws.String(o.Region),
		UseFIPS:      aws.Bool(o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
		UseDualStack: aws.Bool(o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
		Endpoint:     o.BaseEndpoint,
	})
	if err != nil {
		return "", fmt.Errorf("find the KMS endpoint of Region %q: %w", o.Region, err)
	}
	return resolved.URI.String(), nil
}

// checkEndpoint refuses to send seeds in the clear: Encrypt and Decrypt carry
// them, and only TLS hides them on their way.
func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "":
		return errors.New("a KMS endpoint is not a URL such as https://kms.eu-central-1.amazonaws.com")
	case u.User != nil:
		return fmt.Errorf("KMS endpoint %q must hold no user name or password", u.Redacted())
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("KMS endpoint %q must be https: plaintext seeds travel to it (http is taken for loopback only)", endpoint)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Warm opens connections ahead of the first calls. The requests are unsigned
// and their answers mean nothing: KMS refuses them before it looks for a key.
func (c *Client) Warm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, defaultCallTimeout)
	defer cancel()
	// Each request waits until all have a connection, or the quick ones would
	// share one.
	var connected, all sync.WaitGroup
	connected.Add(warmConns)
	for range warmConns {
		all.Go(func() {
			var once sync.Once
			defer once.Do(connected.Done) // without a connection
			ctx := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
				once.Do(connected.Done)
				connected.Wait()
			}})
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Endpoint, nil)
			if err != nil {
				return
			}
			resp, err := c.http.Do(req)
			if err != nil {
				return // the probe says what is wrong
			}
			_, _ = io.Copy(io.Discard, resp.Body) // read, or it can't be used again
			_ = resp.Body.Close()
		})
	}
	all.Wait()
}

func requestID(m middleware.Metadata) string {
	id, _ := awsmiddleware.GetRequestIDMetadata(m)
	return bare(id)
}
