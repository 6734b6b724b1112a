package kmsplugin

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// credentialSource is a source of credentials that can be made to fail.
type credentialSource struct {
	mu        sync.Mutex
	id        string
	expires   time.Time
	fault     string // "", "hangs" or "500"
	requested int
	end       chan struct{}
}

func (s *credentialSource) gives(id string, valid time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id, s.expires, s.fault = id, time.Now().Add(valid).UTC().Truncate(time.Second), ""
}

func (s *credentialSource) fails(how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = how
}

func (s *credentialSource) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requested
}

// answer hands out what it gives, in the words of a source, or fails.
func (s *credentialSource) answer(say func(w http.ResponseWriter, r *http.Request, id string, expires time.Time)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requested++
		id, expires, fault := s.id, s.expires, s.fault
		s.mu.Unlock()
		switch fault {
		case "hangs":
			select {
			case <-r.Context().Done():
			case <-s.end:
			}
		case "500":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			say(w, r, id, expires)
		}
	}
}

var signedBy = regexp.MustCompile(`Credential=([^/]+)/`)

// Each source hangs, answers 500, and is well again: the credentials that are
// valid still are used all the while, no call waits, and the new ones come. KMS
// calling them expired has the source asked again.
func TestCredentialSources(t *testing.T) {
	timeout, pause, total := sourceTimeout, renewPause, renewTimeout
	sourceTimeout, renewPause, renewTimeout = 100*time.Millisecond, 20*time.Millisecond, time.Second
	t.Cleanup(func() { sourceTimeout, renewPause, renewTimeout = timeout, pause, total })

	for name, c := range map[string]struct {
		say func(w http.ResponseWriter, r *http.Request, id string, expires time.Time)
		use func(t *testing.T, url string)
	}{
		"container endpoint": {
			func(w http.ResponseWriter, _ *http.Request, id string, expires time.Time) {
				fmt.Fprintf(w, `{"AccessKeyId":%q,"SecretAccessKey":"s","Token":"t","Expiration":%q}`, id, expires.Format(time.RFC3339))
			},
			func(t *testing.T, url string) { t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url+"/v1/credentials") },
		},
		"instance metadata": {
			func(w http.ResponseWriter, r *http.Request, id string, expires time.Time) {
				switch r.URL.Path {
				case "/latest/api/token":
					w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
					_, _ = io.WriteString(w, "token")
				case "/latest/meta-data/iam/security-credentials/":
					_, _ = io.WriteString(w, "role")
				case "/latest/meta-data/iam/security-credentials/role":
					fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":%q,"SecretAccessKey":"s","Token":"t","Expiration":%q}`, id, expires.Format(time.RFC3339))
				default:
					w.WriteHeader(http.StatusNotFound)
				}
			},
			func(t *testing.T, url string) {
				t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
				t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
			},
		},
		"web identity": {
			func(w http.ResponseWriter, _ *http.Request, id string, expires time.Time) {
				w.Header().Set("Content-Type", "text/xml")
				fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>`+
					`<AccessKeyId>%s</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%s</Expiration>`+
					`</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, id, expires.Format(time.RFC3339))
			},
			func(t *testing.T, url string) {
				file := filepath.Join(t.TempDir(), "token")
				mustf(t, os.WriteFile(file, []byte("jwt"), 0o600), "token")
				t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
				t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/plugin")
				t.Setenv("AWS_ENDPOINT_URL_STS", url)
			},
		},
		"SSO": {
			func(w http.ResponseWriter, _ *http.Request, id string, expires time.Time) {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, `{"roleCredentials":{"accessKeyId":%q,"secretAccessKey":"s","sessionToken":"t","expiration":%d}}`, id, expires.UnixMilli())
			},
			func(t *testing.T, url string) {
				home := t.TempDir()
				t.Setenv("HOME", home)
				const start = "https://example.awsapps.com/start"
				sum := sha1.Sum([]byte(start))
				cache := filepath.Join(home, ".aws", "sso", "cache")
				mustf(t, os.MkdirAll(cache, 0o700), "cache")
				token := fmt.Sprintf(`{"accessToken":"a","expiresAt":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
				mustf(t, os.WriteFile(filepath.Join(cache, hex.EncodeToString(sum[:])+".json"), []byte(token), 0o600), "token")
				config := filepath.Join(home, "config")
				mustf(t, os.WriteFile(config, []byte("[default]\nsso_start_url = "+start+"\nsso_region = eu-central-1\nsso_account_id = 111122223333\nsso_role_name = plugin\n"), 0o600), "config")
				t.Setenv("AWS_CONFIG_FILE", config)
				t.Setenv("AWS_ENDPOINT_URL_SSO", url)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			awsEnv(t)
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "")
			source := &credentialSource{end: make(chan struct{})}
			source.gives("FIRST", renewAhead-time.Minute) // due to be renewed from the start on
			c.use(t, listenHandler(t, source.answer(c.say)))
			t.Cleanup(func() { close(source.end) })

			fake := kmsfake.New(region)
			key := fake.NewKey()
			var mu sync.Mutex
			var last, expired string
			url := listenHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				m := signedBy.FindStringSubmatch(r.Header.Get("Authorization"))
				mu.Lock()
				last = m[1]
				refuse := last == expired
				mu.Unlock()
				if refuse {
					w.WriteHeader(http.StatusBadRequest)
					_, _ = io.WriteString(w, `{"__type":"ExpiredTokenException"}`)
					return
				}
				fake.ServeHTTP(w, r)
			}))
			logs := &syncBuffer{}
			client, err := NewClient(t.Context(), ClientOptions{Region: region, EndpointURL: url, log: slogTo(logs)})
			mustf(t, err, "client")
			call := func() (signer string, err error) {
				_, err = client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &key.ARN})
				mu.Lock()
				defer mu.Unlock()
				return last, err
			}
			if signer, err := call(); err != nil || signer != "FIRST" {
				t.Fatalf("signed by %s: %v", signer, err)
			}
			for _, fault := range []string{"hangs", "500"} {
				source.fails(fault)
				before := source.requests()
				eventually(t, "it is asked while it fails", func() bool {
					if signer, err := call(); err != nil || signer != "FIRST" {
						t.Fatalf("the source %s: signed by %s: %v", fault, signer, err)
					}
					return source.requests() > before
				})
			}
			source.gives("SECOND", 6*time.Hour)
			eventually(t, "the new ones are used", func() bool {
				signer, err := call()
				mustf(t, err, "call")
				return signer == "SECOND"
			})
			mu.Lock()
			expired = "SECOND"
			mu.Unlock()
			source.gives("THIRD", 6*time.Hour)
			eventually(t, "KMS calls them expired, and new ones come", func() bool {
				signer, err := call()
				return err == nil && signer == "THIRD"
			})
			if strings.Contains(logs.String(), "SECOND") || strings.Contains(logs.String(), "THIRD") {
				t.Error("an access key is logged")
			}
		})
	}
}

// When they are renewed, who waits for it, and what the log says.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requested int
		var answer func(context.Context) (aws.Credentials, error)
		gives := func(id string, valid time.Duration) {
			expires := time.Now().Add(valid)
			answer = func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: id, SecretAccessKey: "s", CanExpire: true, Expires: expires}, nil
			}
		}
		logs := &syncBuffer{}
		r := newRenewal(aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			requested++
			return answer(ctx)
		})), newMetrics(), slogTo(logs))
		want := func(id string, requests int) {
			t.Helper()
			began := time.Now()
			c, err := r.Retrieve(t.Context())
			synctest.Wait()
			if err != nil || c.AccessKeyID != id || requested != requests || time.Since(began) != 0 {
				t.Fatalf("%s after %d requests and %s: %v, want %s after %d at once", c.AccessKeyID, requested, time.Since(began), err, id, requests)
			}
		}
		gives("A", time.Hour)
		want("A", 1)
		time.Sleep(time.Hour - renewAhead - 1)
		want("A", 1)
		answer = func(context.Context) (aws.Credentials, error) { // it hangs, whatever its context says
			time.Sleep(time.Minute)
			return aws.Credentials{}, errors.New("no answer")
		}
		time.Sleep(time.Nanosecond)
		want("A", 2)
		time.Sleep(renewTimeout)
		synctest.Wait()
		if !strings.Contains(logs.String(), "can't renew") || !strings.Contains(logs.String(), `"old_ones_are_valid":true`) {
			t.Errorf("the log: %s", logs)
		}
		answer = func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("500") }
		time.Sleep(time.Minute)
		want("A", 3)
		want("A", 3) // not again at once
		time.Sleep(renewPause)
		want("A", 4)
		gives("B", time.Hour)
		time.Sleep(renewPause)
		want("A", 5)
		want("B", 5)
		if strings.Count(logs.String(), "can't renew") != 1 || strings.Count(logs.String(), "renewed again") != 1 {
			t.Errorf("the log: %s", logs)
		}
		r.refuse("A") // an old request's answer
		want("B", 5)
		r.refuse("B")
		gives("C", time.Hour)
		want("C", 6)
		r.refuse("C")
		want("C", 6) // KMS may be wrong: not more often than once in a while
		time.Sleep(renewPause)
		want("C", 7)

		answer = func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("500") }
		r.have.Source = ec2rolecreds.ProviderName
		time.Sleep(2 * time.Hour)
		if c, err := r.Retrieve(t.Context()); err != nil || c.AccessKeyID != "C" {
			t.Errorf("those of an instance, whose metadata are away: %s, %v", c.AccessKeyID, err)
		}
		r.have.Source = ""
		time.Sleep(renewPause)
		if c, err := r.Retrieve(t.Context()); err == nil {
			t.Errorf("credentials that have expired: %s", c.AccessKeyID)
		}
		time.Sleep(2 * time.Minute) // the one that hung has ended
	})
}

// Once they have expired, and their source is away, that is what is said; a hung
// source holds up nobody for longer than its time-out.
func TestCredentialsThatExpired(t *testing.T) {
	timeout, pause, total := sourceTimeout, renewPause, renewTimeout
	sourceTimeout, renewPause, renewTimeout = 50*time.Millisecond, time.Millisecond, 300*time.Millisecond
	t.Cleanup(func() { sourceTimeout, renewPause, renewTimeout = timeout, pause, total })
	awsEnv(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	source := &credentialSource{end: make(chan struct{}), fault: "hangs"}
	url := listenHandler(t, source.answer(nil))
	t.Cleanup(func() { close(source.end) })
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
	client, err := NewClient(t.Context(), ClientOptions{Region: region, EndpointURL: url})
	mustf(t, err, "client")
	for range 2 { // the second finds the failure of the first
		id := exampleARN
		_, err = client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		if f := classify(t.Context(), "DescribeKey", err); f.class != classNoCredentials {
			t.Errorf("class %s: %v", f.class, err)
		}
	}
}
