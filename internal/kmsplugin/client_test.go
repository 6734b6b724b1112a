package kmsplugin

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// spy keeps the requests that would be sent.
type spy struct {
	mu   sync.Mutex
	sent []*http.Request
}

func (s *spy) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, r)
	return nil, errors.New("no network in this test")
}

// sendsTo returns the URL and the user agent of a call.
func sendsTo(t *testing.T, o ClientOptions) (host, agent string) {
	t.Helper()
	s := &spy{}
	o.Transport = s
	c, err := NewClient(t.Context(), o)
	mustf(t, err, "client")
	_, _ = c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &o.Region}, func(k *kms.Options) { k.RetryMaxAttempts = 1 })
	if len(s.sent) == 0 {
		t.Fatal("nothing was sent")
	}
	u := *s.sent[0].URL
	if got := strings.TrimSuffix(c.Endpoint, "/"); got != u.Scheme+"://"+u.Host {
		t.Errorf("Endpoint is %s, the call went to %s", got, u.String())
	}
	return u.Scheme + "://" + u.Host, s.sent[0].UserAgent()
}

func TestEndpoints(t *testing.T) {
	for name, c := range map[string]struct {
		env     map[string]string
		options ClientOptions
		want    string
	}{
		"public":                     {nil, ClientOptions{}, "https://kms.eu-central-1.amazonaws.com"},
		"China":                      {nil, ClientOptions{Region: "cn-north-1"}, "https://kms.cn-north-1.amazonaws.com.cn"},
		"FIPS by environment":        {map[string]string{"AWS_USE_FIPS_ENDPOINT": "true"}, ClientOptions{}, "https://kms-fips.eu-central-1.amazonaws.com"},
		"FIPS by option":             {nil, ClientOptions{FIPS: true}, "https://kms-fips.eu-central-1.amazonaws.com"},
		"dual-stack by environment":  {map[string]string{"AWS_USE_DUALSTACK_ENDPOINT": "true"}, ClientOptions{}, "https://kms.eu-central-1.api.aws"},
		"dual-stack by option":       {nil, ClientOptions{DualStack: true}, "https://kms.eu-central-1.api.aws"},
		"both":                       {nil, ClientOptions{FIPS: true, DualStack: true}, "https://kms-fips.eu-central-1.api.aws"},
		"VPC endpoint, environment":  {map[string]string{"AWS_ENDPOINT_URL_KMS": "https://vpce-1.kms.eu-central-1.vpce.amazonaws.com"}, ClientOptions{}, "https://vpce-1.kms.eu-central-1.vpce.amazonaws.com"},
		"VPC endpoint, option":       {map[string]string{"AWS_ENDPOINT_URL_KMS": "https://other.example.com"}, ClientOptions{EndpointURL: "https://vpce-1.kms.eu-central-1.vpce.amazonaws.com"}, "https://vpce-1.kms.eu-central-1.vpce.amazonaws.com"},
		"a replica's is not the env": {map[string]string{"AWS_ENDPOINT_URL_KMS": "https://vpce-1.example.com"}, ClientOptions{Region: otherRegion, Replica: true}, "https://kms.eu-west-1.amazonaws.com"},
	} {
		t.Run(name, func(t *testing.T) {
			awsEnv(t)
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			if c.options.Region == "" {
				c.options.Region = region
			}
			host, agent := sendsTo(t, c.options)
			if host != c.want {
				t.Errorf("calls go to %s, want %s", host, c.want)
			}
			if !strings.Contains(agent, "ekskms-kms-plugin/") {
				t.Errorf("user agent %q", agent)
			}
		})
	}
}

// Seeds never travel in the clear.
func TestEndpointMustBeTLS(t *testing.T) {
	for url, good := range map[string]bool{
		"https://kms.example.com":      true,
		"http://127.0.0.1:4599":        true,
		"http://localhost:4599":        true,
		"http://[::1]:4599":            true,
		"http://kms.example.com":       false,
		"http://10.0.0.1":              false,
		"http://127.0.0.1.example.com": false,
		"ftp://127.0.0.1":              false,
		"kms.example.com":              false,
	} {
		awsEnv(t)
		_, err := NewClient(t.Context(), ClientOptions{Region: region, EndpointURL: url})
		if (err == nil) != good {
			t.Errorf("%s by option: %v", url, err)
		}
		t.Setenv("AWS_ENDPOINT_URL_KMS", url)
		if _, err := NewClient(t.Context(), ClientOptions{Region: region}); (err == nil) != good {
			t.Errorf("%s by environment: %v", url, err)
		}
		_ = os.Unsetenv("AWS_ENDPOINT_URL_KMS")
	}
}

// The usual reasons why nobody answers have words of their own.
func TestWhyKMSCannotBeReached(t *testing.T) {
	awsEnv(t)
	gone := httptest.NewServer(nil)
	gone.Close()
	untrusted := httptest.NewUnstartedServer(kmsfake.New(region))
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	for url, want := range map[string]string{
		gone.URL:      "refuses connections",
		untrusted.URL: "certificate",
		"https://" + gone.Listener.Addr().String(): "refuses connections",
	} {
		c, err := NewClient(t.Context(), ClientOptions{Region: region, EndpointURL: url})
		mustf(t, err, "client")
		p, err := New(Config{Keys: []Key{{ID: exampleARN, Clients: []*Client{c}}}, EncryptionContext: clusterContext})
		mustf(t, err, "plugin")
		p.sealing().probe(t.Context())
		if f := p.sealing().state.Load().fail; f.class != classUnreachable || !strings.Contains(f.text, want) {
			t.Errorf("%s: %s: %s, want %q", url, f.class, f.text, want)
		}
	}
}

func TestUnresolvableEndpoint(t *testing.T) {
	f := unreachable(fmt.Errorf("send: %w", &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "kms"}}))
	if !strings.Contains(f.text, "can't be resolved") {
		t.Errorf("%s", f.text)
	}
}

// Pod Identity's agent hands out credentials that expire; the metric tells when.
func TestCredentialsOfPodIdentity(t *testing.T) {
	expires := time.Now().Add(6 * time.Hour).UTC().Truncate(time.Second)
	var token string
	agent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token = r.Header.Get("Authorization")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"AccessKeyId":"POD","SecretAccessKey":"s","Token":"t","Expiration":"` + expires.Format(time.RFC3339) + `"}`))
	})
	fake := kmsfake.New(region)
	fake.Credentials("POD", "t", expires)
	dir := t.TempDir()
	mustf(t, os.WriteFile(dir+"/token", []byte("pod-token"), 0o600), "token")
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", listenHandler(t, agent)+"/v1/credentials")
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", dir+"/token")
	r := startWith(t, fake, fake.NewKey(), Listeners{}, func(_ *fixture, c *Config) {
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		client, err := NewClient(t.Context(), ClientOptions{Region: region, metrics: c.metrics})
		mustf(t, err, "client")
		c.Keys[0].Clients[0] = client
	})
	r.wantOK(r.currentKeyID())
	if token != "pod-token" {
		t.Errorf("the agent saw the token %q", token)
	}
	if _, body := r.get("/metrics"); !strings.Contains(body, "\nekskms_plugin_credentials_expiration_timestamp_seconds ") {
		t.Error("the expiry is not shown")
	}
	// The SDK renews them some minutes ahead, and says so by an earlier time.
	if early := expires.Unix() - r.p.metrics.expires.Load(); early < 0 || early > 600 {
		t.Errorf("they expire at %d, shown is %d seconds earlier", expires.Unix(), early)
	}
}

// Seeds go where the endpoint is, and nowhere that it points to.
func TestRedirectsAreNotFollowed(t *testing.T) {
	awsEnv(t)
	followed := false
	elsewhere := listenHandler(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	here := listenHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
	}))
	c, err := NewClient(t.Context(), ClientOptions{Region: region, EndpointURL: here})
	mustf(t, err, "client")
	id := exampleARN
	c.Warm(t.Context())
	if _, err := c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &id, KeySpec: "AES_256"}); err == nil || followed {
		t.Errorf("followed: %t, error %v", followed, err)
	}
}

// The environment's CA bundle is for KMS too.
func TestCABundle(t *testing.T) {
	awsEnv(t)
	fake := kmsfake.New(region)
	key := fake.NewKey()
	web := httptest.NewTLSServer(fake)
	defer web.Close()
	file := t.TempDir() + "/ca.pem"
	mustf(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600), "write")
	t.Setenv("AWS_CA_BUNDLE", file)
	c, err := NewClient(t.Context(), ClientOptions{Region: region, EndpointURL: web.URL})
	mustf(t, err, "client")
	_, err = c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &key.ARN})
	mustf(t, err, "describe")
}

func TestEndpointsHoldNoPasswords(t *testing.T) {
	awsEnv(t)
	_, err := NewClient(t.Context(), ClientOptions{Region: region, EndpointURL: "https://user:hush@kms.example.com"})
	if err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("error %v", err)
	}
}
