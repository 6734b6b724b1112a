package check

import (
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/iampolicy"
)

// identityOf returns the IAM policies of a subject: of a principal of the templates, what
// they say. For one of another account than the key's, which KMS asks for more than the key
// policy, its administrators decide: the most is assumed. For one that is not in the
// templates nothing.
func (c *checker) identityOf(s *subject) []iampolicy.NamedDocument {
	switch {
	case s.foreign, s.abroad && s.role == nil:
		return estate.Everything()
	case s.role == nil:
		return nil
	}
	return s.role.Documents()
}

// checkIdentity asks of an IAM policy whether its holder may decrypt with a key that nobody
// has thought of, in another Region, if its policy trusts the account.
func (c *checker) checkIdentity(p *estate.Policy) {
	statements := readStatements(p.Resolved, p.On.In.Partition)
	allows := func(all []statement, actions ...string) bool {
		return slices.ContainsFunc(all, func(s statement) bool { return s.allow && slices.ContainsFunc(actions, s.covers) })
	}
	if allows(statements, keyActions...) || p.Partial || p.Resolved == nil {
		for _, m := range p.Missing {
			c.noteAt(p.On.Resource, "%s has ${%s}, which is not in the template: it was taken for something that nothing else is", p.Name, m)
		}
	}
	silenced := readStatements(map[string]any{"Statement": p.Silenced}, p.On.In.Partition)
	reads := []string{"kms:Decrypt", "kms:ReEncryptFrom"}
	if p.Broken != nil && allows(slices.Concat(statements, silenced), reads...) {
		c.find("policy-not-understood", p.On, "%s: %v", p.Name, p.Broken)
	}
	var may []string
	for _, action := range reads {
		if !allows(statements, action) {
			continue
		}
		allowed, err := onAnyKey(p, action, c.organization)
		if err != nil {
			c.find("policy-not-understood", p.On, "%s: %v", p.Name, err)
			may = nil
			break
		}
		if allowed {
			may = append(may, action)
		}
	}
	if len(may) > 0 {
		c.find("iam-decrypt-any-key", p.On, "%s allows %s on all keys", p.Name, strings.Join(may, " and "))
	}
}

// onAnyKey asks for a key in the template's own Region, and in another.
func onAnyKey(p *estate.Policy, action string, organization []iampolicy.NamedDocument) (bool, error) {
	t := p.On.In
	key := iampolicy.NewDocument(iampolicy.Statement{
		Effect: iampolicy.Allow, Principal: iampolicy.Principal{AWS: iampolicy.Values{t.Root()}}, Action: iampolicy.Values{"kms:*"}, Resource: iampolicy.Values{"*"},
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
		uses, err := survey.Uses([]string{action}, bound, func(h iampolicy.Holder) bool { return h.ARN == holder })
		if err != nil || slices.ContainsFunc(uses, func(use iampolicy.Use) bool { return use.ARN == holder }) {
			return err == nil, err
		}
	}
	return false, nil
}
