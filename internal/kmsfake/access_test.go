package kmsfake

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func TestDeny(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k, other := s.NewKey(), s.NewKey()
		name := "alias/x"
		s.Alias(name, k)
		ops := map[string]func(k *Key) error{
			"DescribeKey":     func(k *Key) error { _, err := describe(t.Context(), c, k.ARN); return err },
			"Encrypt":         func(k *Key) error { _, err := encrypt(t.Context(), c, k.ARN); return err },
			"GenerateDataKey": func(k *Key) error { _, err := dataKey(t.Context(), c, k.ARN); return err },
			"Decrypt": func(k *Key) error {
				_, err := decrypt(t.Context(), c, k.ARN, []byte("anything"))
				if is[*types.InvalidCiphertextException](err) {
					return nil // it was allowed to try
				}
				return err
			},
			"UpdateAlias": func(k *Key) error {
				_, err := c.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: &name, TargetKeyId: &k.ARN})
				return err
			},
		}
		check := func(denied func(op string, k *Key) bool) {
			t.Helper()
			for op, call := range ops {
				for _, each := range []*Key{k, other} {
					s.Alias(name, each)
					code := ""
					if denied(op, each) {
						code = "AccessDeniedException"
					}
					wantCode(t, op+" with "+each.ARN, call(each), code)
				}
			}
		}
		for op := range ops {
			s.Deny(op, k)
			check(func(o string, each *Key) bool { return o == op && each == k })
			s.Allow(op, k)
			s.Deny(op, nil)
			check(func(o string, _ *Key) bool { return o == op })
			s.Allow(op, nil)
		}
		s.Deny("*", k)
		check(func(_ string, each *Key) bool { return each == k })
		s.Allow("*", k)
		check(func(string, *Key) bool { return false })

		s.Deny("CreateKey", nil)
		_, err := c.CreateKey(t.Context(), &kms.CreateKeyInput{})
		wantCode(t, "CreateKey", err, "AccessDeniedException")
		s.Deny("DeleteAlias", other)
		_, err = c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: &name})
		wantCode(t, "DeleteAlias", err, "AccessDeniedException")
		mustDescribe(t, c, name)

		k.SetState(Disabled)
		s.Deny("Encrypt", k)
		_, err = encrypt(t.Context(), c, k.ARN)
		wantCode(t, "Encrypt under a disabled key", err, "AccessDeniedException")
		if !strings.Contains(err.Error(), "kms:Encrypt") || !strings.Contains(err.Error(), k.ARN) {
			t.Errorf("wording: %v", err)
		}
	})
}

func TestRequireContext(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k, other := s.NewKey(), s.NewKey()
		blob, otherBlob := mustEncrypt(t, c, k.ARN, "a", "1"), mustEncrypt(t, c, other.ARN)
		want := map[string]string{"a": "1"}
		check := func(code, otherCode string) {
			t.Helper()
			_, err := encrypt(t.Context(), c, k.ARN)
			wantCode(t, "Encrypt", err, code)
			_, err = decrypt(t.Context(), c, k.ARN, blob)
			wantCode(t, "Decrypt", err, cmpOr(code, "InvalidCiphertextException"))
			_, err = dataKey(t.Context(), c, k.ARN, "a", "1", "b", "2")
			wantCode(t, "GenerateDataKey", err, code)
			_, err = decrypt(t.Context(), c, k.ARN, blob, "a", "1")
			wantCode(t, "Decrypt under the right context", err, "")
			_, err = decrypt(t.Context(), c, other.ARN, otherBlob)
			wantCode(t, "Decrypt under another key", err, otherCode)
			mustDescribe(t, c, k.ARN)
		}
		check("", "")
		s.RequireContext(want)
		check("AccessDeniedException", "AccessDeniedException")
		want["a"] = "2" // it was copied
		check("AccessDeniedException", "AccessDeniedException")
		s.RequireContext(nil)
		check("", "")
		k.RequireContext(map[string]string{"a": "1"})
		check("AccessDeniedException", "")
		k.RequireContext(nil)
		check("", "")
		k.RequireContext(map[string]string{})
		_, err := encrypt(t.Context(), c, k.ARN, "a", "1")
		wantCode(t, "Encrypt under a context where none is required", err, "AccessDeniedException")
		mustEncrypt(t, c, k.ARN)
	})
}

func TestCredentials(t *testing.T) {
	s := New(region)
	k := s.NewKey()
	s.Credentials("AKLONG", "", time.Time{})
	s.Credentials("ASTEMP", "token", time.Now().Add(time.Hour))
	s.Credentials("ASPAST", "token", time.Now().Add(-time.Hour))
	s.Credentials("AKGONE", "", time.Time{})
	s.Revoke("AKGONE")
	for name, tt := range map[string]struct{ id, token, code string }{
		"long-lived":          {"AKLONG", "", ""},
		"temporary":           {"ASTEMP", "token", ""},
		"another token":       {"ASTEMP", "other", "UnrecognizedClientException"},
		"no token":            {"ASTEMP", "", "UnrecognizedClientException"},
		"a token too many":    {"AKLONG", "token", "UnrecognizedClientException"},
		"expired":             {"ASPAST", "token", "ExpiredTokenException"},
		"expired, and wrong":  {"ASPAST", "other", "UnrecognizedClientException"},
		"unknown":             {"AKOTHER", "", "UnrecognizedClientException"},
		"revoked":             {"AKGONE", "", "UnrecognizedClientException"},
		"start of a known ID": {"AKLON", "", "UnrecognizedClientException"},
	} {
		with := func(o *kms.Options) { o.Credentials = signer(tt.id, tt.token) }
		for _, c := range []*kms.Client{overHTTP(t, s, with), inProcess(s, with)} {
			_, err := describe(t.Context(), c, k.ARN)
			wantCode(t, name, err, tt.code)
		}
	}
}

func TestRevokeOfTheLastCredentials(t *testing.T) {
	s := New(region)
	c, k := inProcess(s), s.NewKey()
	mustDescribe(t, c, k.ARN) // nobody asks
	s.Revoke("AKTEST")
	_, err := describe(t.Context(), c, k.ARN)
	wantCode(t, "revoked", err, "UnrecognizedClientException")
	s.Credentials("AKTEST", "", time.Time{})
	mustDescribe(t, c, k.ARN)
}

func TestCredentialsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(region)
		c, k := inProcess(s), s.NewKey()
		s.Credentials("AKTEST", "", time.Now().Add(time.Hour))
		time.Sleep(time.Hour - time.Second)
		mustDescribe(t, c, k.ARN)
		time.Sleep(time.Second)
		_, err := describe(t.Context(), c, k.ARN)
		wantCode(t, "after an hour", err, "ExpiredTokenException")
		s.Credentials("AKTEST", "", time.Now().Add(time.Hour))
		mustDescribe(t, c, k.ARN)
	})
}

// Nothing that the SDK does, so without it.
func TestUnsignedRequests(t *testing.T) {
	s := New(region)
	web := listen(t, s)
	k := s.NewKey()
	send := func(header ...string) string {
		t.Helper()
		r := post(t, web.URL, "TrentService.DescribeKey", `{"KeyId":"`+k.ARN+`"}`)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, err := web.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		if ok := res.StatusCode == http.StatusOK; ok == strings.Contains(string(body), "__type") {
			t.Errorf("status %d: %s", res.StatusCode, body)
		}
		return string(body)
	}
	if body := send(); !strings.Contains(body, k.ARN) {
		t.Errorf("a server that asks for nothing: %s", body)
	}
	s.Clock(0)
	if body := send(); !strings.Contains(body, "MissingAuthenticationTokenException") {
		t.Errorf("unsigned: %s", body)
	}
	authorization := "AWS4-HMAC-SHA256 Credential=AKTEST/20260101/eu-central-1/kms/aws4_request, SignedHeaders=host, Signature=00"
	if body := send("Authorization", authorization); !strings.Contains(body, "IncompleteSignatureException") {
		t.Errorf("undated: %s", body)
	}
	dated := []string{"Authorization", authorization, "X-Amz-Date", time.Now().UTC().Format(amzDate)}
	if body := send(dated...); !strings.Contains(body, k.ARN) {
		t.Errorf("dated: %s", body)
	}
	s = New(region)
	s.Credentials("AKTEST", "", time.Time{})
	r := post(t, "http://kms.test", "TrentService.DescribeKey", "{}")
	res, err := s.RoundTripper().RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(res.Body); !strings.Contains(string(body), "MissingAuthenticationTokenException") {
		t.Errorf("unsigned: %s", body)
	}
	_ = res.Body.Close()
}
