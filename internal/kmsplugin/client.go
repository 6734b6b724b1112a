package kmsplugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"
)

// KMS is what the plugin needs of AWS KMS, and all that its role may do.
// *kms.Client has it.
type KMS interface {
	DescribeKey(context.Context, *kms.DescribeKeyInput, ...func(*kms.Options)) (*kms.DescribeKeyOutput, error)
	Encrypt(context.Context, *kms.EncryptInput, ...func(*kms.Options)) (*kms.EncryptOutput, error)
	Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error)
	// ListGrants is called where a cluster is watched, and by doctor.
	ListGrants(context.Context, *kms.ListGrantsInput, ...func(*kms.Options)) (*kms.ListGrantsOutput, error)
}

const (
	// maxAttempts with their waits fit into one call's time limit as long as
	// KMS answers; where it is silent, attemptTimeout leaves room for two.
	maxAttempts    = 3
	attemptTimeout = time.Second
	baseBackoff    = 50 * time.Millisecond
	maxBackoff     = 200 * time.Millisecond

	// maxConns is the calls in flight and some more for probes: never more
	// connections than that, and all of them stay open between bursts.
	maxConns = maxInFlight + 8
	// warmConns are opened at start, so that the API server's first calls don't
	// each wait for DNS, TCP and TLS.
	warmConns = 4
	// renewAhead is how long before their expiry credentials of all sources are
	// renewed. By default the SDK does so for some sources only.
	renewAhead = 5 * time.Minute
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

	attemptTimeout time.Duration // of one request, without its retries
	metrics        *metrics
}

// Client is AWS KMS in one Region.
type Client struct {
	KMS
	Region string
	// Endpoint is the URL that calls go to.
	Endpoint string

	http        *http.Client
	credentials aws.CredentialsProvider
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
		config.WithCredentialsCacheOptions(func(c *aws.CredentialsCacheOptions) { c.ExpiryWindow = renewAhead }),
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
	cfg.Credentials = markedCredentials{cfg.Credentials, o.metrics}
	client := &Client{Region: o.Region, http: httpClient(cfg, o), credentials: cfg.Credentials}
	sdk := kms.NewFromConfig(cfg, func(k *kms.Options) {
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
		Transport: plainBodies{transport},
		Timeout:   o.attemptTimeout,
		// KMS does not redirect, and seeds are not sent where somebody else
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

// plainBodies hides the WriteTo method of the SDK's request bodies. Once the SDK
// has closed a body, that method answers io.EOF (smithy-go v1.28.8,
// transport/http/internal/io), which net/http takes for a failed write: it
// would throw away one connection in some tens of calls.
type plainBodies struct{ http.RoundTripper }

func (p plainBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		plain := *r
		plain.Body = struct{ io.ReadCloser }{r.Body}
		r = &plain
	}
	return p.RoundTripper.RoundTrip(r)
}

// CloseIdleConnections is what http.Client asks its transport for.
func (p plainBodies) CloseIdleConnections() {
	if t, ok := p.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

func retryer() aws.RetryerV2 {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = maxAttempts
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
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // read, or it can't be used again
			_ = resp.Body.Close()
		})
	}
	all.Wait()
}

// markedCredentials makes the failures of the credential chain recognisable,
// since the SDK reports them as plain text, and notes when credentials expire.
type markedCredentials struct {
	aws.CredentialsProvider
	metrics *metrics
}

type credentialsError struct{ error }

func (e credentialsError) Unwrap() error { return e.error }

func (m markedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := m.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return c, credentialsError{err}
	}
	m.metrics.credentialsExpire(c)
	return c, nil
}

func requestID(m middleware.Metadata) string {
	id, _ := awsmiddleware.GetRequestIDMetadata(m)
	return id
}
