package check

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/calls"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/place"
)

// nameOfKeyPolicy is the name of the key policy in the evaluator's answers.
const nameOfKeyPolicy = "key policy"

// keyPolicy is the policy of a key that encrypts a cluster's secrets, and those
// who are asked about.
type keyPolicy struct {
	c          *checker
	key        *estate.Key
	policy     *estate.Policy
	statements []statement
	// open are the positions of statements that are for everybody; all are those
	// that give all actions. Other rules do not repeat them.
	open, all map[int]bool
	subjects  []*subject
	// survey is of everybody whom the policy can tell apart. It is made when it is needed.
	survey *iampolicy.Survey
	// identity are the IAM policies of the subjects that are roles of the templates.
	identity map[string][]iampolicy.NamedDocument
	// broken is the first thing that the evaluator did not understand.
	broken error
}

// subject is a principal whose access is judged.
type subject struct {
	arn string
	// role in the templates, or another principal there. Nil if it is not there.
	role    *estate.Principal
	root    bool
	service bool
	// abroad tells that it is of another account than the key, foreign that no cluster under
	// the key is there either.
	abroad, foreign bool
	// like are the patterns by which it is named: it is an example.
	like     []string
	identity []iampolicy.NamedDocument
}

func (c *checker) checkKeyPolicy(k *estate.Key) {
	policy := c.estate.PolicyOf(k.Thing)
	if policy.Broken != nil {
		c.find("policy-not-understood", k.Thing, "KeyPolicy: %v", policy.Broken)
	}
	if policy.Resolved == nil {
		if policy.Broken == nil {
			c.open(k.Thing, "KeyPolicy is %s, which is not in the template: it was not judged", policy.Unknown())
		}
		return
	}
	for _, m := range policy.Missing {
		c.noteAt(k.Resource, "KeyPolicy has ${%s}, which is not in the template: a principal is taken for a role of the account that is not in the templates, an account for that of the template, another value for one that nothing else has; a statement of which it is the whole or the effect, or a Deny of which it is a condition, was not judged, nor whether what such a statement can give is missing", m)
	}
	before := len(c.report.Findings)
	kp := c.keyPolicy(k, policy)
	kp.judge()
	if kp.broken != nil {
		// What was found by then rests on a policy that is not understood.
		c.report.Findings = c.report.Findings[:before]
		c.find("policy-not-understood", k.Thing, "KeyPolicy: %v", kp.broken)
	}
}

func (c *checker) keyPolicy(k *estate.Key, policy *estate.Policy) *keyPolicy {
	kp := &keyPolicy{
		c: c, key: k, policy: policy, statements: readStatements(policy.Resolved, k.In.Partition),
		open: map[int]bool{}, all: map[int]bool{}, identity: map[string][]iampolicy.NamedDocument{},
	}
	for i := range kp.statements {
		kp.statements[i].without = policy.Loosened[i+1]
	}
	kp.findSubjects()
	for _, s := range kp.subjects {
		if s.role != nil {
			kp.identity[s.arn] = s.identity
		}
	}
	kp.likeSubjects()
	return kp
}

func (kp *keyPolicy) judge() {
	for _, s := range kp.statements {
		if s.allow && s.federated {
			kp.c.noteAt(kp.key.Resource, "%s of the key policy is for identities of a provider: what they may do was not judged", s)
		}
	}
	accounts := kp.undecided()
	switch len(accounts) {
	case 0:
		kp.judgeAll()
	case 1:
		kp.judgeTwice(accounts[0])
	default:
		kp.checkAnybody()
		kp.checkNever()
		kp.c.noteAt(kp.key.Resource, "the key policy names account %s, and which account the template is for is not known: only that part of the policy was judged which does not depend on it; name it with --account", strings.Join(accounts, ", "))
	}
}

// runs says what of a cluster the subject is for, and so that it creates none.
func (s *subject) runs() string {
	if s.role == nil {
		return ""
	}
	return s.role.Runs
}

// judgeTwice takes an account that the policy names for that of the template, and
// for another one. What is wrong in both cases is found; the rest is a note.
func (kp *keyPolicy) judgeTwice(account string) {
	findings := func(kp *keyPolicy) []finding.Finding {
		before := len(kp.c.report.Findings)
		kp.judgeAll()
		found := slices.Clone(kp.c.report.Findings[before:])
		kp.c.report.Findings = kp.c.report.Findings[:before]
		return found
	}
	own := kp.c.keyPolicy(kp.key, kp.policy.Replaced(account, kp.key.In.Account))
	home, elsewhere := findings(own), findings(kp)
	kp.broken = cmp.Or(kp.broken, own.broken)
	has := func(list []finding.Finding, rule string) bool {
		return slices.ContainsFunc(list, func(f finding.Finding) bool { return f.Rule == rule })
	}
	var open []string
	for _, f := range elsewhere {
		switch {
		case has(home, f.Rule):
			kp.c.report.Findings = append(kp.c.report.Findings, f)
		case !slices.Contains(open, f.Rule):
			open = append(open, f.Rule)
		}
	}
	for _, f := range home {
		if !has(elsewhere, f.Rule) && !slices.Contains(open, f.Rule) {
			open = append(open, f.Rule)
		}
	}
	if len(open) > 0 {
		slices.Sort(open)
		kp.c.noteAt(kp.key.Resource, "the key policy names account %s, and which account the template is for is not known: whether there is %s depends on it; name it with --account, or in CDK with the stack's Env", account, strings.Join(open, ", "))
	}
}

func (kp *keyPolicy) judgeAll() {
	kp.checkAnybody()
	kp.checkNever()
	kp.checkAllActions()
	kp.checkDelegation()
	kp.checkOtherAccounts()
	if kp.bypassed() {
		kp.c.find("key-lockout-check-bypassed", kp.key.Thing, "BypassPolicyLockoutSafetyCheck is true")
	}
	// What is not known could be what is missed.
	if !kp.policy.MayAllow(actionPut, false) {
		kp.checkDurableAdmin()
	}
	if !kp.policy.MayAllow(actionGrant, false) && !kp.policy.MayAllow(actionDescribe, false) {
		kp.checkCreators()
	}
	if !kp.policy.MayAllow(actionDescribe, true) {
		kp.checkClusterRoles()
	}
	kp.checkGrants()
	kp.checkUse()
	kp.checkLockedOut()
}

// undecided lists the accounts of which one may be that of the template: nobody
// said which it is.
func (kp *keyPolicy) undecided() (accounts []string) {
	if t := kp.key.In; !t.Assumed || t.Account != estate.ExampleAccount {
		return nil
	}
	for _, s := range kp.statements {
		for _, p := range s.principals {
			if account := accountOf(p); place.IsAccount(account) && account != estate.ExampleAccount && !slices.Contains(accounts, account) {
				accounts = append(accounts, account)
			}
		}
	}
	return accounts
}

// findSubjects lists whom the policy names, in its order, and the account.
func (kp *keyPolicy) findSubjects() {
	seen := map[string]bool{}
	add := func(arn string, service bool) {
		if seen[arn] {
			return
		}
		seen[arn] = true
		s := &subject{arn: arn, service: service, root: arn == kp.key.In.Root()}
		if !service {
			s.role = kp.c.estate.Principal(arn)
			account := accountOf(arn)
			s.abroad = account != "" && account != kp.key.In.Account
			s.foreign = s.abroad && !kp.home(account)
			if s.foreign && strings.HasPrefix(account, "unknown-") {
				kp.c.noteAt(kp.key.Resource, "the key policy names %s, whose account is not in the template: whether it is another account was not judged", arn)
				s.foreign = false
			}
		}
		s.identity = kp.c.identityOf(s)
		kp.subjects = append(kp.subjects, s)
	}
	add(kp.key.In.Root(), false)
	for _, s := range kp.statements {
		if !s.allow {
			continue
		}
		for _, p := range s.principals {
			add(p, false)
		}
		for _, p := range s.services {
			add(p, true)
		}
		if s.anybody || slices.Contains(s.principals, kp.key.In.Root()) {
			for _, arn := range kp.principals(s) {
				add(arn, false)
			}
		}
	}
}

// likeSubjects adds an example of each kind of principals of the account that the policy
// names by a pattern, where no role of the templates is one.
func (kp *keyPolicy) likeSubjects() {
	if !kp.patterns() {
		return
	}
	for _, use := range kp.uses(append(slices.Clone(keyActions), actionDescribe), nil, kp.ofAccount) {
		if use.Named || len(use.Like) == 0 || !kp.home(use.Account) || slices.ContainsFunc(kp.subjects, func(s *subject) bool { return s.arn == use.ARN }) {
			continue
		}
		kp.subjects = append(kp.subjects, &subject{arn: use.ARN, like: use.Like, identity: estate.Everything()})
	}
}

// patterns tells whether a condition asks who the caller is.
func (kp *keyPolicy) patterns() bool {
	return slices.ContainsFunc(kp.statements, func(s statement) bool {
		return slices.ContainsFunc(s.conditions, func(r iampolicy.Requirement) bool {
			return isKey(r, "aws:PrincipalArn", "aws:username", "aws:PrincipalAccount", "kms:CallerAccount")
		})
	})
}

// Who is of interest to a rule: those of the account who have no name, those of other
// accounts, those who have a name or are like a pattern.
func (kp *keyPolicy) ofAccount(h iampolicy.Holder) bool {
	return !h.Named && kp.home(h.Account)
}
func (kp *keyPolicy) ofOthers(h iampolicy.Holder) bool {
	return h.Account != "" && !kp.home(h.Account)
}

// home tells whether an account is that of the key, or of a cluster under it: a key may be
// in an account of its own.
func (kp *keyPolicy) home(account string) bool {
	return account == kp.key.In.Account || slices.ContainsFunc(kp.key.Clusters, func(cl *estate.Cluster) bool { return cl.In.Account == account })
}
func (kp *keyPolicy) ofSomebody() func(iampolicy.Holder) bool {
	patterns := kp.patterns()
	return func(h iampolicy.Holder) bool { return h.Named || patterns }
}

// principals lists who everybody, or the account, is by the conditions of a
// statement.
func (kp *keyPolicy) principals(s statement) (arns []string) {
	for _, r := range s.conditions {
		if !namesExactly(r) {
			continue
		}
		for _, v := range r.Values {
			switch {
			case isKey(r, "kms:CallerAccount", "aws:PrincipalAccount") && place.IsAccount(v):
				arns = append(arns, "arn:"+kp.key.In.Partition+":iam::"+v+":root")
			case !isKey(r, "aws:PrincipalArn"):
			case !strings.ContainsAny(v, "*?"):
				arns = append(arns, v)
			default:
				for _, role := range kp.c.estate.Of(estate.KindRole) {
					if arn := role.ARN; wild(v, arn) {
						arns = append(arns, arn)
					}
				}
			}
		}
	}
	return arns
}

// explain asks the evaluator what a subject may do, and under which conditions.
func (kp *keyPolicy) explain(s *subject, action string, context iampolicy.Context) iampolicy.Outcome {
	known := iampolicy.Context{}
	if account := accountOf(s.arn); account != "" {
		known["kms:CallerAccount"], known["aws:PrincipalAccount"] = iampolicy.Values{account}, iampolicy.Values{account}
		known["aws:PrincipalIsAWSService"] = iampolicy.Values{"false"}
	}
	for key, values := range context {
		known[key] = values
	}
	caller := s.arn
	if s.abroad {
		// An account is all of its roles, and a root has no tags, say.
		if account, ok := strings.CutSuffix(caller, ":root"); ok {
			caller = account + ":role/Somebody"
		}
	}
	outcome, err := iampolicy.Explain(
		iampolicy.Request{Caller: iampolicy.Caller{ARN: caller}, Action: action, Resource: kp.key.ARN, Context: known},
		iampolicy.Policies{Resource: kp.policy.NamedDocument, Identity: s.identity, Organization: kp.c.organization})
	if err != nil && kp.broken == nil {
		kp.broken = err
	}
	return outcome
}

// by returns the statement of the key policy that a path goes through, and
// whether the path needs nothing but it.
func (kp *keyPolicy) by(path iampolicy.Path) (s statement, alone bool) {
	for _, source := range path.By {
		if source.Policy == nameOfKeyPolicy && source.Statement >= 1 && source.Statement <= len(kp.statements) {
			return kp.statements[source.Statement-1], len(path.By) == 1
		}
	}
	return statement{}, false
}

// possible tells whether a path can be gone: no condition on it is one that EKS
// never meets.
func (kp *keyPolicy) possible(outcome iampolicy.Outcome) bool {
	return slices.ContainsFunc(outcome.Allow, func(p iampolicy.Path) bool {
		return !slices.ContainsFunc(p.Conditions, func(r iampolicy.Requirement) bool { return kp.never(r) != "" })
	})
}

// checkAnybody asks who may use the key in accounts that nobody named, or administer it:
// that KMS takes from its own account only, where the principal "*" needs no IAM policy.
func (kp *keyPolicy) checkAnybody() {
	if !kp.speaksOfAnybody() {
		return
	}
	worst := map[int]iampolicy.Use{} // by the position of the statement
	for _, use := range kp.uses(keyActions, iampolicy.Named, nil) {
		s, direct := kp.by(use.Way)
		ofAccount := direct && !use.Named && len(use.Like) == 0 && use.Account == kp.key.In.Account && !s.namesAccount()
		if s.position == 0 || !use.AnyAccount && !ofAccount {
			continue
		}
		if now, told := worst[s.position]; !told || use.AnyAccount && (!now.AnyAccount || len(use.Like) < len(now.Like)) {
			worst[s.position] = use
		}
	}
	for _, position := range sortedKeys(worst) {
		s := kp.statements[position-1]
		kp.open[position] = true
		kp.c.find("key-policy-any-principal", kp.key.Thing, "%s allows %s to %s", s, s.actionText(), everybody(worst[position]))
	}
}

// speaksOfAnybody tells whether a statement is for everybody: no other can be for somebody
// whose account, or which is itself not named.
func (kp *keyPolicy) speaksOfAnybody() bool {
	return slices.ContainsFunc(kp.statements, func(s statement) bool { return s.allow && s.anybody })
}

// everybody says whom of all accounts a use is an example of.
func everybody(use iampolicy.Use) string {
	if !use.AnyAccount {
		return "everybody in the account, who needs no IAM policy for it"
	}
	if len(use.Like) == 0 {
		return "everybody"
	}
	return fmt.Sprintf("everybody who has a principal like %s, such as %s, which any account can have", strings.Join(use.Like, " and "), use.ARN)
}

// uses asks who may do some of the actions, by requests that are not bound.
func (kp *keyPolicy) uses(actions []string, bound iampolicy.Bound, ofInterest func(iampolicy.Holder) bool) []iampolicy.Use {
	var err error
	if kp.survey == nil && kp.broken == nil {
		kp.survey, err = iampolicy.Access{Key: kp.key.ARN, Policy: kp.policy.NamedDocument, Identity: kp.identity, Organization: kp.c.organization}.Survey()
	}
	if err != nil {
		kp.broken = err
	}
	if kp.broken != nil {
		return nil
	}
	var uses []iampolicy.Use
	uses, kp.broken = kp.survey.Uses(actions, bound, ofInterest)
	for _, n := range kp.survey.Notes() {
		kp.c.noteAt(kp.key.Resource, "%s", n)
	}
	return uses
}

// chosen is the bound of the keys, each with a value that not every text is.
func chosen(keys ...string) iampolicy.Bound {
	return func(key, value string) bool {
		return isKey(iampolicy.Requirement{Key: key}, keys...) && !anything(value)
	}
}

func (kp *keyPolicy) checkAllActions() {
	for _, s := range kp.statements {
		if !s.allow || !s.coversAll() {
			continue
		}
		for _, p := range kp.subjects {
			if p.root || p.service || !slices.Contains(s.principals, p.arn) || len(kp.explain(p, "kms:Decrypt", nil).Allow) == 0 {
				continue
			}
			kp.all[s.position] = true
			kp.c.find("key-policy-all-actions", kp.key.Thing, "%s allows %s to %s", s, s.actionText(), p.arn)
		}
	}
}

// checkDurableAdmin: a principal of this stack goes with it, and KMS keeps a
// role by its unique ID: one made again under the same name is another.
func (kp *keyPolicy) checkDurableAdmin() {
	var lapsing []string
	anybody := &subject{arn: strings.Replace(kp.key.In.Root(), ":root", ":role/Somebody", 1), like: []string{"any role"}, identity: estate.Everything()}
	for _, s := range append(slices.Clone(kp.subjects), anybody) {
		if s.service || s.role != nil && s.role.In == kp.key.In && !strings.HasPrefix(s.role.Deletion, "Retain") {
			continue
		}
		outcome := kp.explain(s, actionPut, nil)
		if i := slices.IndexFunc(outcome.Deny, deniesInTime); i >= 0 {
			lapsing = append(lapsing, fmt.Sprintf("%s denies it to %s under a condition on %s", outcome.Deny[i].By[0], s.arn, outcome.Deny[i].Conditions[0].Key))
			continue
		}
		for _, p := range outcome.Allow {
			by, alone := kp.by(p)
			if !alone && s.like == nil {
				continue
			}
			lapses := slices.IndexFunc(p.Conditions, func(r iampolicy.Requirement) bool { return !isKey(r, durableKeys...) && !kp.outlives(r) })
			if lapses < 0 {
				if strings.Contains(s.arn, ":role/aws-reserved/sso.amazonaws.com/") {
					kp.c.noteAt(kp.key.Resource, "the role %s is one of IAM Identity Center, which makes it again when its permission set is assigned again: name the account root as administrator too", s.arn)
				}
				return
			}
			lapsing = append(lapsing, fmt.Sprintf("%s allows it to %s under a condition on %s", by, s.arn, p.Conditions[lapses].Key))
		}
	}
	message := "neither the account root nor a role outside the stack may do kms:PutKeyPolicy"
	if len(lapsing) > 0 {
		message += ": " + strings.Join(lapsing, "; ")
	}
	kp.c.find("key-no-durable-admin", kp.key.Thing, "%s", message)
}

// deniesInTime tells whether a Deny comes to hold by itself, or holds unless a
// passing circumstance is given.
func deniesInTime(d iampolicy.Path) bool {
	return len(d.Conditions) > 0 && !slices.ContainsFunc(d.Conditions, func(r iampolicy.Requirement) bool {
		passing := excludes(r) && !isKey(r, durableKeys...) && !isKey(r, "aws:PrincipalArn")
		return !passing && !isKey(r, "aws:CurrentTime", "aws:EpochTime")
	})
}

// outlives tells whether a condition on the principal's ARN is met by somebody
// outside the stack.
func (kp *keyPolicy) outlives(r iampolicy.Requirement) bool {
	return isKey(r, "aws:PrincipalArn") && namesExactly(r) && slices.ContainsFunc(r.Values, func(v string) bool { return kp.c.estate.Lookup(v) == nil })
}

// checkDelegation: what the account root may do, every identity of the account
// may do whose IAM policies say so.
func (kp *keyPolicy) checkDelegation() {
	delegated, alone := map[int][]string{}, map[int]bool{}
	for _, use := range kp.uses(usesAndGrants, chosen(delegateKeys...), kp.ofAccount) {
		s, direct := kp.by(use.Way)
		if use.Named || use.Account != kp.key.In.Account || s.position == 0 || kp.open[s.position] {
			continue
		}
		// What is for everybody is for the account if it says so.
		if s.anybody && !s.namesAccount() {
			continue
		}
		actions := slices.Clone(use.Actions)
		if !direct { // administration is what the account is named for
			actions = slices.DeleteFunc(actions, func(a string) bool { return a == actionPut })
		}
		if len(actions) == 0 {
			continue
		}
		delegated[s.position] = append(delegated[s.position], actions...)
		alone[s.position] = alone[s.position] || direct
	}
	for _, position := range sortedKeys(delegated) {
		s, whom := kp.statements[position-1], "the account"
		if alone[position] {
			whom = "all principals of the account, without an IAM policy,"
		}
		kp.c.find("crypto-delegated-to-iam", kp.key.Thing, "%s allows %s %s: %s", s, whom, s.actionText(), strings.Join(inOrder(delegated[position]), ", "))
	}
}

// usesAndGrants are the actions that open what is encrypted, or let somebody open it.
var usesAndGrants = append(slices.Clone(useActions), actionGrant, actionPut)

// inOrder are those of the actions, each once, as [usesAndGrants] has them.
func inOrder(actions []string) []string {
	return slices.DeleteFunc(slices.Clone(usesAndGrants), func(a string) bool { return !slices.Contains(actions, a) })
}

func (kp *keyPolicy) checkOtherAccounts() {
	named := map[string][]string{}
	told := map[int]bool{}
	for _, use := range kp.uses(usesAndGrants, nil, kp.ofOthers) {
		s, _ := kp.by(use.Way)
		if use.Account == "" || use.Account == kp.key.In.Account || kp.open[s.position] {
			continue
		}
		like := strings.Join(use.Like, " and ")
		if !use.AnyAccount && (use.Named || like == "") {
			who := use.ARN
			if !use.Named {
				who = "arn:" + kp.key.In.Partition + ":iam::" + use.Account + ":root"
			}
			named[who] = append(named[who], use.Actions...)
			continue
		}
		if told[s.position] {
			continue
		}
		told[s.position] = true
		whom := "all accounts that are in the organization, or behind the endpoint, that it names"
		switch {
		case !use.AnyAccount:
			whom = "principals of account " + use.Account + " like " + like
		case like != "":
			whom += ", with a principal like " + like
		}
		kp.c.find("key-policy-cross-account", kp.key.Thing, "%s allows %s to %s", s, s.actionText(), whom)
	}
	for _, who := range sortedKeys(named) {
		kp.c.find("key-policy-cross-account", kp.key.Thing, "%s of account %s may do %s", who, accountOf(who), strings.Join(inOrder(named[who]), ", "))
	}
}

// creation is the context of the CreateGrant that EKS sends in the creator's
// name. That it carries kms:ViaService is inferred. Sources: Amazon EKS User
// Guide, "Encrypt Kubernetes secrets with KMS"; grants as seen on clusters.
func (kp *keyPolicy) creation(forAWSResource string) iampolicy.Context {
	return calls.Forwarded(iampolicy.Context{
		"kms:GrantIsForAWSResource": {forAWSResource},
		"kms:GrantConstraintType":   {"EncryptionContextEquals"},
		"kms:EncryptionContextKeys": {"aws:eks:context"},
		"kms:GrantOperations":       {"Decrypt", "Encrypt"},
		"kms:ViaService":            {kp.c.eksEndpoint(kp.key.In)},
	})
}

func (kp *keyPolicy) checkCreators() {
	rootSees := kp.possible(kp.explain(kp.subjects[0], actionDescribe, nil))
	who := func(forAWSResource string) (all []*subject) {
		for _, s := range kp.subjects {
			if s.service || s.foreign || s.runs() != "" {
				continue
			}
			// An IAM policy that is not in the template may let it see the key.
			sees := rootSees || kp.possible(kp.explain(s, actionDescribe, calls.Forwarded(iampolicy.Context{})))
			if sees && kp.possible(kp.explain(s, actionGrant, kp.creation(forAWSResource))) {
				all = append(all, s)
			}
		}
		return all
	}
	creators := who("false")
	kp.checkCreation(creators)
	switch {
	case len(creators) > 0:
	case len(who("true")) > 0:
		kp.c.find("grant-for-aws-resource", kp.key.Thing, "kms:CreateGrant is allowed to the cluster's creators only where kms:GrantIsForAWSResource is true")
	default:
		kp.c.find("cluster-creator-missing", kp.key.Thing, "nobody who can create the cluster may do both kms:DescribeKey and kms:CreateGrant")
	}
}

func (kp *keyPolicy) checkClusterRoles() {
	for _, cl := range kp.key.Clusters {
		value := at(cl.Settings, "RoleArn")
		arn := text(value)
		if arn == "" || strings.Contains(arn, "${") {
			kp.c.noteAt(cl.Resource, "RoleArn is %s, which is not in the template: whether the role can see the key was not judged", show(value))
			continue
		}
		s := &subject{arn: arn, role: kp.c.estate.Principal(arn)}
		s.identity = kp.c.identityOf(s)
		if kp.possible(kp.explain(s, actionDescribe, nil)) {
			continue
		}
		if s.role == nil && kp.possible(kp.explain(kp.subjects[0], actionDescribe, nil)) {
			kp.c.noteAt(cl.Resource, "the cluster's role %s is not in the templates: whether its IAM policies allow kms:DescribeKey on the key was not judged", arn)
			continue
		}
		kp.c.find("cluster-role-missing", kp.key.Thing, "the cluster's role %s may not do kms:DescribeKey", arn)
	}
}

func (kp *keyPolicy) checkGrants() {
	for _, use := range kp.uses([]string{actionGrant}, chosen(slices.Concat(grantKeys, sourceKeys)...), kp.ofSomebody()) {
		by, direct := kp.by(use.Way)
		s := kp.subject(use)
		if s == nil || s.root || !kp.names(by, s, direct) || kp.all[by.position] {
			continue
		}
		switch why := s.runs(); {
		case s.service:
			kp.c.find("grants-unrestricted", kp.key.Thing, "%s allows kms:CreateGrant to the service %s, for any source", by, s.arn)
		case s.foreign:
			kp.c.find("grants-unrestricted", kp.key.Thing, "%s allows kms:CreateGrant without a limit to %s of another account", by, s.arn)
		case why != "":
			kp.c.find("grants-unrestricted", kp.key.Thing, "%s allows kms:CreateGrant without a limit to %s, %s", by, s.arn, why)
		case !kp.policy.MayAllow(actionDescribe, true) && !kp.policy.MayAllow(actionGrant, true) && !kp.possible(kp.explain(s, actionDescribe, nil)):
			kp.c.find("grants-unrestricted", kp.key.Thing, "%s allows kms:CreateGrant without a limit to %s, which has no kms:DescribeKey and so creates no cluster", by, s.arn)
		}
	}
}

// subject is the one of whom a use is; nil if it is of nobody whom the policy names, but
// of an account, or of everybody.
func (kp *keyPolicy) subject(use iampolicy.Use) *subject {
	i := slices.IndexFunc(kp.subjects, func(s *subject) bool { return s.arn == use.ARN || len(use.Like) > 0 && slices.Equal(s.like, use.Like) })
	switch {
	case i >= 0:
		return kp.subjects[i]
	case !use.Named && len(use.Like) > 0 && !use.AnyAccount:
		return &subject{arn: use.ARN, like: use.Like, identity: estate.Everything(), foreign: !kp.home(use.Account)}
	}
	return nil
}

// names tells whether a statement is about the subject itself: not about its
// account, and not about everybody. Where it needs no IAM policy, and a Deny leaves only
// those like it, they are meant too.
func (kp *keyPolicy) names(s statement, who *subject, direct bool) bool {
	if slices.Contains(s.principals, who.arn) || slices.Contains(s.services, who.arn) {
		return true
	}
	return !kp.open[s.position] && (direct && who.like != nil || slices.ContainsFunc(s.conditions, func(r iampolicy.Requirement) bool {
		return isKey(r, "aws:PrincipalArn") && namesExactly(r) && slices.ContainsFunc(r.Values, func(v string) bool { return wild(v, who.arn) })
	}))
}

func (kp *keyPolicy) checkUse() {
	through, may := map[string]statement{}, map[string][]string{}
	for _, use := range kp.uses(useActions, chosen(slices.Concat(contextKeys, sourceKeys, []string{"kms:ViaService"})...), kp.ofSomebody()) {
		by, direct := kp.by(use.Way)
		s := kp.subject(use)
		if s == nil || s.root || s.foreign || !kp.names(by, s, direct) || kp.all[by.position] {
			continue
		}
		through[s.arn], may[s.arn] = by, append(may[s.arn], use.Actions...)
	}
	for _, arn := range sortedKeys(may) {
		kp.c.find("use-without-context", kp.key.Thing, "%s allows %s to %s, under any encryption context", through[arn], strings.Join(inOrder(may[arn]), ", "), arn)
	}
}

// checkNever looks for conditions that can't be met.
func (kp *keyPolicy) checkNever() {
	for _, s := range kp.statements {
		for _, r := range s.conditions {
			if why := kp.never(r); why != "" {
				kp.c.find("condition-never-matches", kp.key.Thing, "%s has the condition %s on %s: %s", s, r.Operator, r.Key, why)
			}
		}
	}
}

// never says why a requirement can't be met by a call of EKS, or is empty. That
// EKS sends no other key than aws:eks:context was seen in its grants; that
// conditions on others never match is inferred.
func (kp *keyPolicy) never(r iampolicy.Requirement) string {
	operator := strings.TrimPrefix(r.Operator, "ForAnyValue:")
	if strings.HasPrefix(operator, "ForAllValues:") || strings.HasSuffix(operator, "IfExists") || strings.Contains(operator, "Not") || operator == "Null" {
		return ""
	}
	switch {
	case isKey(r, "aws:PrincipalArn") && !slices.ContainsFunc(r.Values, func(v string) bool { return !ofSession.MatchString(v) }):
		return "it is the ARN of a role, also in a session of it"
	case isKey(r, "kms:EncryptionContext:aws:eks:*") && !isKey(r, "kms:EncryptionContext:aws:eks:context"):
		return "EKS sends no such key, only aws:eks:context"
	case isKey(r, "kms:ViaService") && !kp.key.In.Assumed:
		endpoint := kp.c.eksEndpoint(kp.key.In)
		if !slices.ContainsFunc(r.Values, func(v string) bool { return !strings.HasPrefix(v, "eks.") || wild(v, endpoint) }) {
			return fmt.Sprintf("%s is not the endpoint of EKS in the key's Region, which is %s", strings.Join(r.Values, ", "), endpoint)
		}
	}
	return ""
}

// ofSession matches the ARNs of a role's sessions, which no request has as aws:PrincipalArn.
// Source: IAM User Guide, "AWS global condition context keys".
var ofSession = regexp.MustCompile(`^arn:[a-z*-]*:sts:[^:]*:[^:]*:assumed-role/`)

// eksEndpoint is the value of kms:ViaService for EKS.
func (c *checker) eksEndpoint(t *estate.Stack) string {
	suffix := "amazonaws.com"
	if t.Partition == "aws-cn" {
		suffix += ".cn"
	}
	return "eks." + t.Region + "." + suffix
}
