package kmsfake

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

const region = "eu-central-1"

var plaintext = []byte("0123456789abcdef0123456789abcdef")

// listen puts a server on a real port.
func listen(t testing.TB, s *Server) *httptest.Server {
	t.Helper()
	web := httptest.NewUnstartedServer(s)
	web.Config.ConnState = s.ConnState
	web.Start()
	t.Cleanup(web.Close)
	return web
}

// overHTTP is the real SDK against a server on a real port. It never retries.
func overHTTP(t testing.TB, s *Server, change ...func(*kms.Options)) *kms.Client {
	t.Helper()
	web := listen(t, s)
	return sdk(s, append([]func(*kms.Options){func(o *kms.Options) {
		o.BaseEndpoint, o.HTTPClient = aws.String(web.URL), web.Client()
	}}, change...)...)
}

// inProcess is the real SDK on a server's RoundTripper. It never retries.
func inProcess(s *Server, change ...func(*kms.Options)) *kms.Client {
	return sdk(s, append([]func(*kms.Options){func(o *kms.Options) {
		o.BaseEndpoint, o.HTTPClient = aws.String("http://kms.test"), &http.Client{Transport: s.RoundTripper()}
	}}, change...)...)
}

func sdk(s *Server, change ...func(*kms.Options)) *kms.Client {
	o := kms.Options{Region: s.region, Credentials: signer("AKTEST", ""), Retryer: aws.NopRetryer{}}
	for _, c := range change {
		c(&o)
	}
	return kms.New(o)
}

func signer(accessKeyID, sessionToken string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: "secret", SessionToken: sessionToken}, nil
	})
}

// overBoth runs a test over HTTP and in process: what a client sees is the same.
func overBoth(t *testing.T, test func(*testing.T, *Server, *kms.Client)) {
	t.Helper()
	t.Run("http", func(t *testing.T) {
		s := New(region)
		test(t, s, overHTTP(t, s))
	})
	t.Run("in process", func(t *testing.T) {
		s := New(region)
		test(t, s, inProcess(s))
	})
}

func encrypt(ctx context.Context, c *kms.Client, key string, encryptionContext ...string) ([]byte, error) {
	out, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: plaintext, EncryptionContext: pairs(encryptionContext)})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}

func decrypt(ctx context.Context, c *kms.Client, key string, blob []byte, encryptionContext ...string) (*kms.DecryptOutput, error) {
	return c.Decrypt(ctx, &kms.DecryptInput{KeyId: &key, CiphertextBlob: blob, EncryptionContext: pairs(encryptionContext)})
}

func describe(ctx context.Context, c *kms.Client, key string) (*types.KeyMetadata, error) {
	out, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &key})
	if err != nil {
		return nil, err
	}
	return out.KeyMetadata, nil
}

func dataKey(ctx context.Context, c *kms.Client, key string, encryptionContext ...string) (*kms.GenerateDataKeyOutput, error) {
	return c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: &key, KeySpec: types.DataKeySpecAes256, EncryptionContext: pairs(encryptionContext),
	})
}

func pairs(flat []string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(flat); i += 2 {
		m[flat[i]] = flat[i+1]
	}
	return m
}

func mustEncrypt(t testing.TB, c *kms.Client, key string, encryptionContext ...string) []byte {
	t.Helper()
	blob, err := encrypt(t.Context(), c, key, encryptionContext...)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func mustDescribe(t testing.TB, c *kms.Client, key string) *types.KeyMetadata {
	t.Helper()
	m, err := describe(t.Context(), c, key)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wantCode wants an error of the service with a code, "" for no error.
func wantCode(t testing.TB, what string, err error, code string) {
	t.Helper()
	if got := codeOf(err); got != code || (err != nil) != (code != "") {
		t.Errorf("%s: %v, want code %q", what, err, code)
	}
}

func codeOf(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// is says whether an error is one that the SDK has a type for.
func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// until polls for something that another goroutine is about to do.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 60_000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("never happened: %s", what)
}
