package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/iampolicy"
)

// identityPolicy is an IAM policy of the templates.
type identityPolicy struct {
	on *cfn.Resource
	iampolicy.NamedDocument
	// statements are read as those of a key policy.
	statements []statement
	broken     error
}

// managed are the policies of AWS that say something on keys and that clusters
// are made with. Source: AWS Managed Policy Reference Guide.
var managed = map[string][]string{
	"AdministratorAccess":    {"*"},
	"PowerUserAccess":        {"kms:*"},
	"AmazonEKSClusterPolicy": {actionDescribe},
}

func allowOnAll(name string, actions ...string) iampolicy.NamedDocument {
	d, _ := iampolicy.NamedDocument{Name: name, Document: iampolicy.NewDocument(iampolicy.Statement{
		Effect: iampolicy.Allow, Action: actions, Resource: iampolicy.Values{"*"},
	})}.Checked(false) // there is nothing wrong with it
	return d
}

// everything is the policy of an administrator elsewhere.
func everything() []iampolicy.NamedDocument {
	return []iampolicy.NamedDocument{allowOnAll("IAM", "*")}
}

// identityOf returns the IAM policies of a subject: of a role of the templates,
// what they say. For a principal of another account its administrators decide,
// so the most is assumed; for one that is not in the templates nothing.
func (c *checker) identityOf(s *subject) []iampolicy.NamedDocument {
	if s.foreign {
		return everything()
	}
	if s.role == nil {
		return nil
	}
	var all []iampolicy.NamedDocument
	for _, p := range c.attached[s.role] {
		if p.broken == nil {
			all = append(all, p.NamedDocument)
		}
	}
	for _, arn := range texts(s.role.Properties["ManagedPolicyArns"]) {
		if name := managedName(arn); managed[name] != nil {
			all = append(all, allowOnAll(name, managed[name]...))
		}
	}
	return all
}

// findIdentities reads the IAM policies, and who has them.
func (c *checker) findIdentities() {
	c.attached = map[*cfn.Resource][]*identityPolicy{}
	read := func(r *cfn.Resource, name string, policy any, holders ...any) *identityPolicy {
		p := &identityPolicy{on: r}
		doc, resolved, missing, err := document(policy, r.Template)
		p.NamedDocument = iampolicy.NamedDocument{Name: name, Document: doc}
		p.statements, p.broken = readStatements(resolved, r.Template.Partition), err
		for _, s := range p.statements {
			if err == nil && (s.anybody || s.federated || len(s.principals)+len(s.services) > 0) {
				p.broken = fmt.Errorf("%s has a Principal, which the policy of an identity can't have", s)
			}
		}
		if slices.ContainsFunc(p.statements, func(s statement) bool { return s.allow && slices.ContainsFunc(keyActions, s.covers) }) {
			for _, m := range missing {
				c.noteAt(r.Path, "%s has ${%s}, which is not in the template: it was taken for something that nothing else is", name, m)
			}
		}
		c.policies = append(c.policies, p)
		for _, h := range holders {
			if holder := c.assembly.Lookup(h); holder != nil {
				c.attached[holder] = append(c.attached[holder], p)
			}
		}
		return p
	}
	for _, kind := range []string{"AWS::IAM::Role", "AWS::IAM::User", "AWS::IAM::Group"} {
		for _, r := range c.assembly.OfType(kind) {
			for _, inline := range list(r.Properties["Policies"]) {
				p := read(r, r.Path+" "+text(at(inline, "PolicyName")), at(inline, "PolicyDocument"))
				c.attached[r] = append(c.attached[r], p)
			}
		}
	}
	for _, kind := range []string{"AWS::IAM::Policy", "AWS::IAM::RolePolicy", "AWS::IAM::UserPolicy", "AWS::IAM::GroupPolicy"} {
		for _, r := range c.assembly.OfType(kind) {
			read(r, r.Path, r.Properties["PolicyDocument"], holders(r)...)
		}
	}
	boundaries := map[*cfn.Resource]bool{}
	for _, kind := range []string{"AWS::IAM::Role", "AWS::IAM::User"} {
		for _, r := range c.assembly.OfType(kind) {
			if b := r.Properties["PermissionsBoundary"]; b != nil {
				boundaries[c.assembly.Lookup(b)] = true
			}
		}
	}
	byManaged := map[*cfn.Resource]*identityPolicy{}
	for _, r := range c.assembly.OfType("AWS::IAM::ManagedPolicy") {
		// A boundary allows nothing by itself.
		if !boundaries[r] {
			byManaged[r] = read(r, r.Path, r.Properties["PolicyDocument"], holders(r)...)
		}
	}
	for _, kind := range []string{"AWS::IAM::Role", "AWS::IAM::User", "AWS::IAM::Group"} {
		for _, r := range c.assembly.OfType(kind) {
			for _, arn := range list(r.Properties["ManagedPolicyArns"]) {
				if p := byManaged[c.assembly.Lookup(arn)]; p != nil {
					c.attached[r] = append(c.attached[r], p)
				}
			}
		}
	}
	c.joinGroups()
	c.findRoles()
}

// holders are who has an IAM policy that is a resource of its own.
func holders(r *cfn.Resource) (all []any) {
	for _, property := range []string{"Roles", "RoleName", "Users", "UserName", "Groups", "GroupName"} {
		all = append(all, list(r.Properties[property])...)
	}
	return all
}

// joinGroups gives users the policies of their groups.
func (c *checker) joinGroups() {
	join := func(user, group *cfn.Resource) {
		if user == nil || group == nil {
			return
		}
		c.attached[user] = append(c.attached[user], c.attached[group]...)
		for _, arn := range texts(group.Properties["ManagedPolicyArns"]) {
			if name := managedName(arn); managed[name] != nil {
				c.attached[user] = append(c.attached[user], &identityPolicy{on: group, NamedDocument: allowOnAll(name, managed[name]...)})
			}
		}
	}
	for _, user := range c.assembly.OfType("AWS::IAM::User") {
		for _, group := range list(user.Properties["Groups"]) {
			join(user, c.assembly.Lookup(group))
		}
	}
	for _, r := range c.assembly.OfType("AWS::IAM::UserToGroupAddition") {
		for _, user := range list(r.Properties["Users"]) {
			join(c.assembly.Lookup(user), c.assembly.Lookup(r.Properties["GroupName"]))
		}
	}
}

// managedName is the name of a policy of AWS, or empty.
func managedName(arn string) string {
	if accountOf(arn) != "aws" {
		return ""
	}
	return arn[strings.LastIndex(arn, "/")+1:]
}

// findRoles finds the roles that run on a cluster, or for it: they create none.
func (c *checker) findRoles() {
	c.noCreator = map[*cfn.Resource]string{}
	mark := func(value any, what string) {
		if r := c.assembly.Lookup(value); value != nil && r != nil {
			c.noCreator[r] = what
		}
	}
	for _, r := range c.assembly.OfType("AWS::IAM::Role") {
		for _, s := range list(at(r.Properties, "AssumeRolePolicyDocument", "Statement")) {
			for _, service := range texts(at(s, "Principal", "Service")) {
				switch {
				case strings.HasPrefix(service, "ec2.amazonaws.com"):
					c.noCreator[r] = "a role of instances"
				case service == "pods.eks.amazonaws.com":
					c.noCreator[r] = "a role of pods"
				case service == "eks.amazonaws.com":
					c.noCreator[r] = "a role of EKS"
				}
			}
			if strings.Contains(strings.Join(texts(at(s, "Principal", "Federated")), " "), "oidc-provider") {
				c.noCreator[r] = "a role of pods"
			}
		}
	}
	for _, cl := range c.clusters {
		mark(at(cl.spec, "RoleArn"), "the cluster's role")
		mark(at(cl.spec, "ComputeConfig", "NodeRoleArn"), "the nodes' role")
	}
	for _, r := range c.assembly.OfType("AWS::EKS::Nodegroup") {
		mark(r.Properties["NodeRole"], "the nodes' role")
	}
	for _, r := range c.assembly.OfType("AWS::EKS::PodIdentityAssociation") {
		mark(r.Properties["RoleArn"], "a role of pods")
	}
	delete(c.noCreator, nil)
}

// checkIdentities asks of each IAM policy whether its holder may decrypt with a
// key that nobody has thought of, in another Region, if its policy trusts the
// account.
func (c *checker) checkIdentities() {
	for _, p := range c.policies {
		var candidates []string
		for _, action := range []string{"kms:Decrypt", "kms:ReEncryptFrom"} {
			if slices.ContainsFunc(p.statements, func(s statement) bool { return s.allow && s.covers(action) }) {
				candidates = append(candidates, action)
			}
		}
		if len(candidates) == 0 {
			continue
		}
		if p.broken != nil {
			c.find("policy-not-understood", p.on, "%s: %v", p.Name, p.broken)
			continue
		}
		var may []string
		for _, action := range candidates {
			allowed, err := onAnyKey(p, action, c.organization)
			if err != nil {
				c.find("policy-not-understood", p.on, "%s: %v", p.Name, err)
				may = nil
				break
			}
			if allowed {
				may = append(may, action)
			}
		}
		if len(may) > 0 {
			c.find("iam-decrypt-any-key", p.on, "%s allows %s on all keys", p.Name, strings.Join(may, " and "))
		}
	}
}

// onAnyKey asks for a key in the template's own Region, and in another.
func onAnyKey(p *identityPolicy, action string, organization []iampolicy.NamedDocument) (bool, error) {
	t := p.on.Template
	root := "arn:" + t.Partition + ":iam::" + t.Account + ":root"
	key := iampolicy.NewDocument(iampolicy.Statement{
		Effect: iampolicy.Allow, Principal: iampolicy.Principal{AWS: iampolicy.Values{root}}, Action: iampolicy.Values{"kms:*"}, Resource: iampolicy.Values{"*"},
	})
	bound := chosen(append([]string{"kms:ViaService", "kms:ResourceAliases", "kms:RequestAlias", "aws:ResourceTag/*"}, contextKeys...)...)
	holder := "arn:" + t.Partition + ":iam::" + t.Account + ":role/Holder"
	for _, region := range []string{t.Region, "xx-other-1"} {
		access := iampolicy.Access{
			Key:    "arn:" + t.Partition + ":kms:" + region + ":" + t.Account + ":key/00000000-0000-4000-8000-000000000000",
			Policy: iampolicy.NamedDocument{Name: nameOfKeyPolicy, Document: key}, Identity: map[string][]iampolicy.NamedDocument{holder: {p.NamedDocument}}, Organization: organization,
		}
		outcome, err := iampolicy.Explain(iampolicy.Request{Caller: iampolicy.Caller{ARN: holder}, Action: action, Resource: access.Key},
			iampolicy.Policies{Resource: access.Policy, Identity: access.Identity[holder], Organization: organization})
		if err == nil && len(outcome.Allow) == 0 {
			continue // as nearly always
		}
		survey, err := access.Survey()
		if err != nil {
			return false, err
		}
		uses, err := survey.Uses([]string{action}, bound)
		if err != nil || slices.ContainsFunc(uses, func(use iampolicy.Use) bool { return use.ARN == holder }) {
			return err == nil, err
		}
	}
	return false, nil
}
