package estate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/value"
)

// Principal is a role, a user or a group.
type Principal struct {
	*Thing
	// Policies are its IAM policies that are in the estate, those of a user's groups too.
	Policies []*Policy
	// Managed are the names of AWS's policies that it has and that say something on keys.
	Managed []string
	// Elsewhere are the policies that it has and that are not in the estate.
	Elsewhere []string
	// Runs says what of a cluster, or on one, a role is for. Empty if it is for nothing of
	// that kind.
	Runs string
}

// principals are the kinds of those who have policies.
var principals = []Kind{KindRole, KindUser, KindGroup}

// managed are the policies of AWS that say something on keys and that clusters are made
// with, with the actions that they allow on all of them.
//
// Source: AWS Managed Policy Reference Guide.
var managed = map[string][]string{
	"AdministratorAccess":    {"*"},
	"PowerUserAccess":        {"kms:*"},
	"AmazonEKSClusterPolicy": {"kms:DescribeKey"},
}

func allowOnAll(name string, actions ...string) iampolicy.NamedDocument {
	d, _ := iampolicy.NamedDocument{Name: name, Document: iampolicy.NewDocument(iampolicy.Statement{
		Effect: iampolicy.Allow, Action: actions, Resource: iampolicy.Values{"*"},
	})}.Checked(false) // there is nothing wrong with it
	return d
}

// Everything is the IAM policy of an administrator.
func Everything() []iampolicy.NamedDocument {
	return []iampolicy.NamedDocument{allowOnAll("IAM", "*")}
}

// Documents are the IAM policies of the principal, as far as they are known.
func (p *Principal) Documents() (all []iampolicy.NamedDocument) {
	for _, policy := range p.Policies {
		if policy.Resolved != nil {
			all = append(all, policy.NamedDocument)
		}
	}
	for _, name := range p.Managed {
		all = append(all, allowOnAll(name, managed[name]...))
	}
	return all
}

// Principal returns the one whom a value names. Nil if it is not in the estate.
func (e *Estate) Principal(v any) *Principal {
	e.readPrincipals()
	return e.principals[e.LookupOf(nil, v, principals...)]
}

// IdentityPolicies are all IAM policies.
func (e *Estate) IdentityPolicies() []*Policy {
	e.readPrincipals()
	return e.identity
}

// Identities are the IAM policies of the roles and users, by ARN.
func (e *Estate) Identities() map[string][]iampolicy.NamedDocument {
	if e.identities != nil {
		return e.identities
	}
	all := map[string][]iampolicy.NamedDocument{}
	e.identities = all
	for _, kind := range []Kind{KindRole, KindUser} {
		for _, t := range e.Of(kind) {
			all[t.ARN] = e.Principal(t.ARN).Documents()
		}
	}
	return all
}

// readPrincipals reads the IAM policies, and who has them.
func (e *Estate) readPrincipals() {
	e.reading.Lock()
	defer e.reading.Unlock()
	if e.principals != nil {
		return
	}
	e.principals = map[*Thing]*Principal{}
	var all []*Principal
	for _, kind := range []Kind{KindRole, KindUser, KindGroup} {
		for _, t := range e.Of(kind) {
			p := &Principal{Thing: t}
			e.principals[t], all = p, append(all, p)
			for _, inline := range value.List(t.Settings["Policies"]) {
				p.Policies = append(p.Policies, e.identityPolicy(t, t.Resource+" "+value.Text(value.At(inline, "PolicyName")), value.At(inline, "PolicyDocument")))
			}
		}
	}
	give := func(t *Thing, policy *Policy) {
		for _, name := range []string{"Roles", "RoleName", "Users", "UserName", "Groups", "GroupName"} {
			for _, v := range value.List(t.Settings[name]) {
				if holder := e.principals[e.LookupOf(t, v, principals...)]; holder != nil {
					holder.Policies = append(holder.Policies, policy)
				}
			}
		}
	}
	for _, t := range e.Of(KindInlinePolicy) {
		give(t, e.identityPolicy(t, t.Resource, t.Settings["PolicyDocument"]))
	}
	boundaries := map[*Thing]bool{}
	for _, p := range all {
		if b := p.Settings["PermissionsBoundary"]; b != nil {
			boundaries[e.LookupOf(nil, b, KindManagedPolicy)] = true
		}
	}
	byManaged := map[*Thing]*Policy{}
	for _, t := range e.Of(KindManagedPolicy) {
		if !boundaries[t] { // a boundary allows nothing by itself
			byManaged[t] = e.identityPolicy(t, t.Resource, t.Settings["PolicyDocument"])
			give(t, byManaged[t])
		}
	}
	for _, p := range all {
		for _, arn := range value.List(p.Settings["ManagedPolicyArns"]) {
			of := e.LookupOf(nil, arn, KindManagedPolicy)
			switch name := managedName(value.Text(arn)); {
			case managed[name] != nil:
				p.Managed = append(p.Managed, name)
			case byManaged[of] != nil:
				p.Policies = append(p.Policies, byManaged[of])
			case name == "" && of == nil:
				p.Elsewhere = append(p.Elsewhere, value.Show(arn))
			}
		}
	}
	e.joinGroups()
	e.findRoles()
}

func (e *Estate) identityPolicy(on *Thing, name string, policy any) *Policy {
	p := e.readPolicy(on, name, policy, ofIdentity)
	e.identity = append(e.identity, p)
	return p
}

// joinGroups gives users the policies of their groups.
func (e *Estate) joinGroups() {
	join := func(user, group any) {
		u, g := e.principals[e.LookupOf(nil, user, KindUser)], e.principals[e.LookupOf(nil, group, KindGroup)]
		if u != nil && g != nil {
			u.Policies, u.Managed, u.Elsewhere = append(u.Policies, g.Policies...), append(u.Managed, g.Managed...), append(u.Elsewhere, g.Elsewhere...)
		}
	}
	for _, user := range e.Of(KindUser) {
		for _, group := range value.List(user.Settings["Groups"]) {
			join(user.ARN, group)
		}
	}
	for _, m := range e.Of(KindMembership) {
		for _, user := range value.List(m.Settings["Users"]) {
			join(user, m.Settings["GroupName"])
		}
	}
}

// managedName is the name of a policy of AWS, or empty.
func managedName(arn string) string {
	if parts, _ := place.ParseARN(arn); parts.AccountID != "aws" {
		return ""
	}
	return arn[strings.LastIndex(arn, "/")+1:]
}

// findRoles finds the roles that run on a cluster, or for it.
func (e *Estate) findRoles() {
	mark := func(v any, what string) {
		if p := e.principals[e.LookupOf(nil, v, principals...)]; p != nil {
			p.Runs = what
		}
	}
	for _, r := range e.Of(KindRole) {
		for _, s := range value.List(value.At(r.Settings, "AssumeRolePolicyDocument", "Statement")) {
			for _, service := range value.Texts(value.At(s, "Principal", "Service")) {
				switch {
				case strings.HasPrefix(service, "ec2.amazonaws.com"):
					mark(r.ARN, "a role of instances")
				case service == "pods.eks.amazonaws.com":
					mark(r.ARN, "a role of pods")
				case service == "eks.amazonaws.com":
					mark(r.ARN, "a role of EKS")
				}
			}
			if slices.ContainsFunc(value.Texts(value.At(s, "Principal", "Federated")), func(f string) bool { return strings.Contains(f, "oidc-provider") }) {
				mark(r.ARN, "a role of pods")
			}
		}
	}
	for _, c := range e.Clusters {
		mark(value.At(c.Settings, "RoleArn"), "the cluster's role")
		mark(value.At(c.Settings, "ComputeConfig", "NodeRoleArn"), "the nodes' role")
	}
	for _, t := range e.Of(KindNodeGroup) {
		mark(t.Settings["NodeRole"], "the nodes' role")
	}
	for _, t := range e.Of(KindAssociation) {
		mark(t.Settings["RoleArn"], "a role of pods")
	}
}

// PolicyOf returns the policy of a key, the trust policy of a role, or that which a thing
// carries for a bucket, a topic, a queue or a function.
func (e *Estate) PolicyOf(t *Thing) *Policy {
	e.reading.Lock()
	defer e.reading.Unlock()
	if p := e.policies[t]; p != nil {
		return p
	}
	var p *Policy
	switch t.Kind {
	case KindKey:
		document := t.Settings["KeyPolicy"]
		if document == nil {
			document = defaultKeyPolicy(t.In)
		}
		p = e.readPolicy(t, "key policy", document, ofKey)
	case KindRole:
		p = e.readPolicy(t, "trust policy", t.Settings["AssumeRolePolicyDocument"], ofResource)
	case KindPermission:
		p = e.readPolicy(t, "permission", permission(t), ofResource)
	default:
		p = e.readPolicy(t, string(t.Kind), t.Settings["PolicyDocument"], ofResource)
	}
	e.policies[t] = p
	return p
}

// permission is the statement that Lambda makes of a permission.
//
// Source: AWS Lambda API Reference, AddPermission.
func permission(t *Thing) any {
	principal := map[string]any{"AWS": t.Settings["Principal"]}
	if service, ok := t.Settings["Principal"].(string); ok && strings.HasSuffix(service, ".amazonaws.com") {
		principal = map[string]any{"Service": service}
	}
	statement := map[string]any{"Effect": "Allow", "Principal": principal, "Action": t.Settings["Action"], "Resource": "*"}
	condition := map[string]any{}
	for operator, of := range map[string][2]string{"ArnLike": {"SourceArn", "aws:SourceArn"}, "StringEquals": {"SourceAccount", "aws:SourceAccount"}} {
		if v := t.Settings[of[0]]; v != nil {
			condition[operator] = map[string]any{of[1]: v}
		}
	}
	if len(condition) > 0 {
		statement["Condition"] = condition
	}
	return map[string]any{"Version": iampolicy.Version, "Statement": []any{statement}}
}

// PoliciesFor are the policies of a bucket, a topic or a queue, and the permissions of a
// function.
func (e *Estate) PoliciesFor(t *Thing) (all []*Policy) {
	for _, carrier := range e.carriers[t] {
		all = append(all, e.PolicyOf(carrier))
	}
	return all
}

// Unplaced tells that there is a policy for a bucket, a topic, a queue or a function of which
// is not known for which.
func (e *Estate) Unplaced(t *Thing) bool { return e.unplaced[t.Kind] }

// Access is all that decides on the use of a key.
func (e *Estate) Access(key *Thing) iampolicy.Access {
	return iampolicy.Access{Key: key.ARN, Policy: e.PolicyOf(key).NamedDocument, Identity: e.Identities()}
}

// NotesOnPrincipals say which of their policies are not known.
func (e *Estate) NotesOnPrincipals() (all []finding.Note) {
	for _, kind := range []Kind{KindRole, KindUser} {
		for _, t := range e.Of(kind) {
			p := e.Principal(t.ARN)
			for _, policy := range p.Policies {
				if policy.Broken != nil {
					all = append(all, finding.Note{Resource: t.Resource, Message: fmt.Sprintf("its IAM policy %s was not judged in full: %v", policy.Name, policy.Broken)})
				}
				if len(policy.Missing) > 0 && (policy.Partial || policy.Resolved == nil || speaksOfKMS(policy)) {
					all = append(all, finding.Note{Resource: t.Resource, Message: fmt.Sprintf("its IAM policy %s has %s, which is not in the template: it was taken for something that nothing else is", policy.Name, policy.Unknown())})
				}
			}
			for _, arn := range p.Elsewhere {
				all = append(all, finding.Note{Resource: t.Resource, Message: fmt.Sprintf("its IAM policy %s is not in the templates: it was not judged", arn)})
			}
		}
	}
	return all
}

// speaksOfKMS tells whether a policy has a statement on an action of KMS.
func speaksOfKMS(p *Policy) bool {
	return slices.ContainsFunc(p.Statement, func(s iampolicy.Statement) bool { return len(s.ExpandActions()) > 0 })
}

// NotesOn say what was assumed of what decides on the use of a key.
func (e *Estate) NotesOn(key *Thing) []finding.Note {
	all := e.NotesOnPrincipals()
	for _, m := range e.PolicyOf(key).Missing {
		all = append(all, finding.Note{Resource: key.Resource, Message: fmt.Sprintf("KeyPolicy has ${%s}, which is not in the template: a name that nothing else has stands for it", m)})
	}
	return all
}
