package evidence

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/explain"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/place"
)

// Written is what is written of a key: who may do what with it, and whom AWS stands for.
type Written struct {
	cases []explain.Input
	// names of roles that CloudFormation makes up, by the beginnings of those that it gives.
	stacks map[string]*estate.Thing
	// clusters and tenants are the values that the policies ask for in the encryption context.
	clusters, tenants map[string]bool
	encrypts          bool // the secrets of a cluster
}

// Against reads what is written of a key: its path, logical ID or ARN, or the one of the cluster
// if it is empty.
func Against(there *estate.Estate, key string) (*Written, error) {
	inputs, err := explain.FromEstate(there, "")
	if err != nil {
		return nil, err
	}
	named := slices.DeleteFunc(slices.Clone(inputs), func(in explain.Input) bool {
		return in.Path != key && !meant(in.Key, key)
	})
	if len(named) > 0 {
		inputs = named
	}
	var keys []string
	for _, in := range inputs {
		if !slices.Contains(keys, in.Key) {
			keys = append(keys, in.Key)
		}
	}
	if len(keys) > 1 {
		return nil, fmt.Errorf("the keys of %d clusters are written there, and none has the ARN of the logs: name one cluster with --only, or a template of one", len(keys))
	}
	w := &Written{cases: inputs, stacks: map[string]*estate.Thing{}, clusters: map[string]bool{}, tenants: map[string]bool{}}
	for _, c := range there.Clusters {
		w.encrypts = w.encrypts || c.Key != nil && c.Key.ARN == keys[0] || c.Key == nil
	}
	for _, role := range there.Of(estate.KindRole) {
		if role.Settings["RoleName"] == nil {
			w.stacks[role.In.Name+"-"+role.LogicalID] = role
		}
	}
	for _, in := range inputs {
		for _, s := range in.Policy.Statement {
			for _, values := range s.Condition {
				for name, of := range values {
					for _, v := range of {
						switch {
						case strings.EqualFold(name, "kms:EncryptionContext:"+keypolicy.ContextKey):
							w.clusters[v] = true
						case strings.EqualFold(name, "kms:EncryptionContext:"+keypolicy.TenantKey):
							w.tenants[v] = true
						}
					}
				}
			}
		}
	}
	return w, nil
}

// Tenant names a tenant of which a policy speaks: see [Options].
func (w *Written) Tenant(cluster, name string) string {
	if !w.clusters[cluster] || !w.tenants[name] {
		return ""
	}
	return "tenant " + name
}

// Judge says what is expected of a use: see [Judge].
func (w *Written) Judge(principal, via, action, context string) (Verdict, string) {
	ofAWS := !strings.HasPrefix(principal, "arn:")
	switch {
	case principal == byKMS || via == byKMS:
		return Expected, "AWS KMS itself"
	case strings.HasPrefix(principal, "account ") && w.encrypts && context == ContextEKS:
		return Unexpected, "a principal of another account, which CloudTrail does not name, with the encryption context of EKS: if the account is one of AWS's, it may be EKS"
	case strings.HasPrefix(principal, "account "):
		return NotAllowed, "a principal of another account, which CloudTrail does not name"
	case ofAWS && w.encrypts && strings.HasPrefix(principal, "eks."):
		return Expected, "EKS, under its grant"
	}
	verdict, why := NotAllowed, "no statement and no IAM policy that is known allows it"
	for _, in := range w.cases {
		if v, by := w.judge(in, principal, action); slices.Index(verdicts, v) > slices.Index(verdicts, verdict) || v == verdict && by != "" {
			verdict, why = v, by
		}
	}
	return verdict, why
}

func (w *Written) judge(in explain.Input, principal, action string) (Verdict, string) {
	written := w.written(in, principal)
	identity, known := in.Identity[written]
	if !known && strings.HasPrefix(principal, "arn:") {
		identity = explain.Administrator() // what IAM may give it
	}
	outcome, err := iampolicy.Explain(
		iampolicy.Request{Caller: iampolicy.Caller{ARN: written}, Action: "kms:" + action, Resource: in.Key},
		iampolicy.Policies{Resource: in.Policy, Identity: identity, Grants: in.Grants, Organization: in.Organization})
	if err != nil {
		return Unjudged, err.Error()
	}
	for _, d := range outcome.Deny {
		if len(d.Conditions) == 0 {
			return NotAllowed, d.By[0].String() + " denies it"
		}
	}
	if len(outcome.Allow) == 0 {
		return NotAllowed, ""
	}
	for _, a := range outcome.Allow {
		for _, by := range a.By {
			if by.Policy == in.Policy.Name && by.Statement > 0 && names(in.Policy.Statement[by.Statement-1].Principal, written) {
				return Expected, by.String()
			}
		}
	}
	why := outcome.Allow[0].By[0].String()
	if !known && strings.HasPrefix(principal, "arn:") {
		why += ", if IAM allows it"
	}
	return Unexpected, why
}

// written is a principal as it is written: a role whose name CloudFormation made up is known by
// its stack and its logical ID.
func (w *Written) written(in explain.Input, principal string) string {
	arn, ok := place.ParseARN(principal)
	name, isRole := strings.CutPrefix(arn.Resource, "role/")
	if !ok || !isRole {
		return principal
	}
	for _, s := range in.Policy.Statement {
		if names(s.Principal, principal) {
			return principal
		}
	}
	i := strings.LastIndex(name, "-")
	if i < 0 {
		return principal
	}
	base := name[strings.LastIndex(name, "/")+1 : i]
	for begin, role := range w.stacks {
		if base != "" && (begin == base || len(name) >= 60 && shortened(begin, base)) && (role.In.Account == arn.AccountID || role.In.Assumed) {
			return role.ARN
		}
	}
	return principal
}

// shortened tells whether CloudFormation may have made the beginning of a name of this, which
// must have 64 characters with what it adds. That it cuts each of both parts at its end is
// inferred.
func shortened(whole, base string) bool {
	for i := range base {
		if base[i] == '-' && strings.HasPrefix(whole, base[:i]) && strings.Contains(whole[i:], base[i:]) {
			return true
		}
	}
	return strings.HasPrefix(whole, base)
}

// names tells whether a statement names a principal itself, and not all of an account.
func names(p iampolicy.Principal, who string) bool {
	return slices.Contains(p.AWS, who) || slices.Contains(p.Service, who)
}
