package kmsfake

import (
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const eks = "eks." + region + ".amazonaws.com"

func createGrant(t testing.TB, c *kms.Client, key, name string, context ...string) (string, error) {
	t.Helper()
	in := &kms.CreateGrantInput{
		KeyId: &key, Name: &name, GranteePrincipal: aws.String(eks), RetiringPrincipal: aws.String(eks),
		Operations: []types.GrantOperation{types.GrantOperationDecrypt, types.GrantOperationEncrypt},
	}
	if len(context) > 0 {
		in.Constraints = &types.GrantConstraints{EncryptionContextEquals: pairs(context)}
	}
	out, err := c.CreateGrant(t.Context(), in)
	if err != nil {
		return "", err
	}
	return *out.GrantId, nil
}

func listGrants(t testing.TB, c *kms.Client, in kms.ListGrantsInput) *kms.ListGrantsOutput {
	t.Helper()
	out, err := c.ListGrants(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGrants(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k, other := s.NewKey(), s.NewKey()
		id, err := createGrant(t, c, k.ARN, "eks-grant-demo", "aws:eks:context", "1")
		wantCode(t, "CreateGrant", err, "")
		again, err := createGrant(t, c, k.ARN, "eks-grant-demo", "aws:eks:context", "1")
		if wantCode(t, "CreateGrant again", err, ""); again != id {
			t.Errorf("the same request made the grants %s and %s", id, again)
		}
		got := listGrants(t, c, kms.ListGrantsInput{KeyId: &k.ARN})
		if len(got.Grants) != 1 || got.Truncated || got.NextMarker != nil {
			t.Fatalf("listed %+v", got)
		}
		if g := got.Grants[0]; *g.GrantId != id || *g.Name != "eks-grant-demo" || *g.GranteePrincipal != eks || *g.RetiringPrincipal != eks ||
			*g.KeyId != k.ARN || g.CreationDate.IsZero() || g.Constraints.EncryptionContextEquals["aws:eks:context"] != "1" ||
			!slices.Equal(g.Operations, []types.GrantOperation{"Decrypt", "Encrypt"}) {
			t.Errorf("listed %+v", g)
		}
		if n := len(listGrants(t, c, kms.ListGrantsInput{KeyId: &other.ARN}).Grants); n != 0 {
			t.Errorf("another key has %d grants", n)
		}

		// The states of a key in which KMS does what.
		for _, state := range []string{Disabled, PendingDeletion} {
			k.SetState(state)
			_, err = createGrant(t, c, k.ARN, "another")
			wantCode(t, "CreateGrant on a key that is "+state, err, map[string]string{Disabled: "DisabledException", PendingDeletion: "KMSInvalidStateException"}[state])
			if n := len(listGrants(t, c, kms.ListGrantsInput{KeyId: &k.ARN}).Grants); n != 1 {
				t.Errorf("%s: %d grants", state, n)
			}
		}
		revoke := func() error {
			_, err := c.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: &k.ARN, GrantId: &id})
			return err
		}
		wantCode(t, "RevokeGrant", revoke(), "")
		wantCode(t, "RevokeGrant again", revoke(), "NotFoundException")
		if n := len(listGrants(t, c, kms.ListGrantsInput{KeyId: &k.ARN}).Grants); n != 0 {
			t.Errorf("%d grants are left", n)
		}
	})
}

func TestListGrants(t *testing.T) {
	s := New(region)
	c, k := inProcess(s), s.NewKey()
	var ids []string
	for i := range 120 {
		g := Grant{Name: fmt.Sprint(i), GranteePrincipal: eks, Operations: []string{"Encrypt"}}
		switch i % 3 {
		case 1:
			g.GranteePrincipal = "arn:aws:iam::111122223333:role/other"
		case 2:
			g.Service = true
		}
		ids = append(ids, k.Grant(g))
	}
	for name, tt := range map[string]struct {
		in   kms.ListGrantsInput
		want []int // grants in each answer
	}{
		"all, 50 at a time":      {kms.ListGrantsInput{}, []int{50, 50, 20}},
		"as many as may be":      {kms.ListGrantsInput{Limit: aws.Int32(100)}, []int{100, 20}},
		"one principal's":        {kms.ListGrantsInput{GranteePrincipal: aws.String(eks), Limit: aws.Int32(30)}, []int{30, 10}},
		"the last page is full":  {kms.ListGrantsInput{GranteePrincipal: aws.String(eks), Limit: aws.Int32(20)}, []int{20, 20}},
		"nobody's":               {kms.ListGrantsInput{GranteePrincipal: aws.String("nobody")}, []int{0}},
		"one":                    {kms.ListGrantsInput{GrantId: &ids[7]}, []int{1}},
		"one of another grantee": {kms.ListGrantsInput{GrantId: &ids[7], GranteePrincipal: aws.String(eks)}, []int{0}},
	} {
		tt.in.KeyId = &k.ARN
		var got []int
		seen := map[string]bool{}
		for {
			out := listGrants(t, c, tt.in)
			got = append(got, len(out.Grants))
			for _, g := range out.Grants {
				seen[*g.GrantId] = true
				if (g.GranteeServicePrincipal == nil) == (g.GranteePrincipal == nil) {
					t.Errorf("%s: grantee of %+v", name, g)
				}
			}
			if !out.Truncated {
				break
			}
			tt.in.Marker = out.NextMarker
		}
		total := 0
		for _, n := range got {
			total += n
		}
		if !slices.Equal(got, tt.want) || len(seen) != total {
			t.Errorf("%s: pages of %v with %d different grants, want %v", name, got, len(seen), tt.want)
		}
	}
	for name, tt := range map[string]struct {
		in   kms.ListGrantsInput
		code string
	}{
		"no grants at a time": {kms.ListGrantsInput{Limit: aws.Int32(0)}, "ValidationException"},
		"too many at a time":  {kms.ListGrantsInput{Limit: aws.Int32(101)}, "ValidationException"},
		"a foreign marker":    {kms.ListGrantsInput{Marker: aws.String("x")}, "InvalidMarkerException"},
		"a service's filter":  {kms.ListGrantsInput{GranteeServicePrincipal: aws.String(eks)}, "ValidationException"},
	} {
		tt.in.KeyId = &k.ARN
		_, err := c.ListGrants(t.Context(), &tt.in)
		wantCode(t, name, err, tt.code)
	}
	s.Deny("ListGrants", k)
	_, err := c.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &k.ARN})
	wantCode(t, "denied", err, "AccessDeniedException")
}

func TestCreateGrantIsStrict(t *testing.T) {
	s := New(region)
	c, k := inProcess(s), s.NewKey()
	for _, ops := range [][]types.GrantOperation{{"Sign"}, {"Encrypt", "Decript"}} {
		_, err := c.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &k.ARN, GranteePrincipal: aws.String(eks), Operations: ops})
		wantCode(t, fmt.Sprint(ops), err, "ValidationException")
	}
	_, err := c.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &k.ARN, GranteePrincipal: aws.String(""), Operations: []types.GrantOperation{"Encrypt"}})
	wantCode(t, "no grantee", err, "ValidationException")
}
