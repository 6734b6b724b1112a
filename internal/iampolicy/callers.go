package iampolicy

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Holder is a caller, or an example of all whom the policies name no more closely.
type Holder struct {
	Caller
	// Named tells that a policy or a grant names it by its own ARN, or that its IAM
	// policies are given. Others are an example of their kind.
	Named bool
	// Like are the patterns that it is an example of, as the policies write them.
	Like []string
	// Account of the caller; empty for a service. AnyAccount tells that it is not the
	// key's, and that no policy names it: what the holder may do, somebody may in every
	// account that exists.
	Account    string
	AnyAccount bool
}

// template is a holder, or a kind of principals whose ARN is open.
type template struct {
	Holder
	// format of the ARNs, and those that are callers of their own. Empty for one caller.
	format, others string
	census         *census
}

// callerText stands for the ARN of a template's caller among the keys of a context. From
// it follow others.
const callerText = "aws:principalarn"

// open tells that a condition key follows from what is open of the caller.
func (h template) open(key string) bool {
	switch key {
	case callerText:
		return h.format != ""
	case "aws:principalaccount", "kms:calleraccount":
		return h.AnyAccount
	case "aws:username":
		return strings.Contains(h.format, ":user/")
	}
	return false
}

// spanOf is the key, in small letters, on which a requirement on a key is one in the end.
func (h template) spanOf(key string) string {
	if key = strings.ToLower(key); h.open(key) {
		return callerText
	}
	return key
}

func (h template) formatOf(key string) string {
	if key == callerText && h.format != "" {
		return h.format
	}
	return formatOf(key)
}

// ofCaller makes of the texts of a key those of the caller's ARN, if it follows from it.
func (h template) ofCaller(key, expression string) string {
	switch {
	case key == callerText || !h.open(key):
		return expression
	case key == "aws:username":
		return `arn:[a-z-]+:iam::[0-9]+:user/(?:[^/]+/)*(?:` + expression + `)`
	}
	return `arn:[a-z-]+:[a-z]+::(?:` + expression + `):.*`
}

// derive adds to a context what follows from the caller's ARN.
func (h template) derive(context Context) {
	who, err := parseCaller(Caller{ARN: context[callerText][0]})
	if err != nil {
		return
	}
	for key, values := range who.keys() {
		if h.open(key) {
			context[key] = values
		}
	}
}

// known are the values of a condition key that follow from what is known of the caller.
func (h template) known(key string) (Values, bool) {
	if key == requestedRegion {
		return Values{h.census.region}, true
	}
	who, err := parseCaller(h.Caller)
	if err != nil || h.open(key) {
		return nil, false
	}
	values, ok := who.keys()[key]
	return values, ok || who.lacks(key)
}

// caller takes the caller's ARN out of a context, with what follows from it.
func (h template) caller(context Context) Holder {
	now := h.Holder
	for key := range context {
		if _, known := h.known(key); known {
			delete(context, key)
		}
	}
	if h.format == "" {
		return now
	}
	if arn, chosen := context[callerText]; chosen && strings.Contains(now.ARN, ":assumed-role/") {
		now.RoleARN = arn[0]
	} else if chosen {
		now.ARN = arn[0]
	}
	for key := range context {
		if h.open(key) {
			delete(context, key)
		}
	}
	now.Account, now.Like = accountOf(now.ARN), nil
	for _, pattern := range slices.Sorted(maps.Keys(h.census.like)) {
		if h.census.like[pattern].has(cmp.Or(now.RoleARN, now.ARN)) {
			now.Like = append(now.Like, pattern)
		}
	}
	return now
}

// strangersAccount stands for all accounts that are not named.
const strangersAccount = "999999999999"

// census is whom policies can tell apart.
type census struct {
	partition, account, region string
	// exact are the ARNs that they name; accounts those of whose principals they speak.
	exact, accounts, services, providers map[string]bool
	// like are the patterns on ARNs, and those on names of services.
	like, serviceLike map[string]*language
	// limited tells that an organization has policies, which do not limit service-linked roles.
	limited bool
	// kinds tells that they ask for the kind of a principal, or for the name of a user.
	kinds bool
}

// templates are all callers that the policies of the accesses can tell apart: those that
// they name, and for each account that they name, and one that stands for all others, the
// principals of it.
func templates(d *decider, accesses ...Access) ([]template, error) {
	key := keyARN.FindStringSubmatch(d.key)
	if key == nil {
		return nil, fmt.Errorf("%q is not the ARN of a KMS key", d.key)
	}
	c := &census{
		partition: key[1], account: key[2], region: regionOf(d.key),
		exact: map[string]bool{}, accounts: map[string]bool{key[2]: true}, services: map[string]bool{}, providers: map[string]bool{},
		like: map[string]*language{}, serviceLike: map[string]*language{},
	}
	for _, a := range accesses {
		for arn := range a.Identity {
			c.name(arn)
		}
		for _, g := range a.Grants {
			c.name(g.Grantee)
			c.name(g.Retiring)
		}
		c.limited = c.limited || len(a.Organization) > 0
		for _, d := range append(a.others(), a.Policy) {
			for _, s := range d.Statement {
				c.read(s, d.Version == Version)
			}
		}
	}
	return c.templates(d), nil
}

// name takes what a policy says who is meant: an ARN, an account or a service.
func (c *census) name(who string) {
	switch e, err := parseEntity(who); {
	case accountID.MatchString(who):
		c.accounts[who] = true
	case serviceName.MatchString(who):
		c.services[who] = true
	case err != nil: // "*", or the unique ID of somebody who was deleted
	case e.kind == accountRoot:
		c.accounts[e.account] = true
	default:
		c.exact[who], c.accounts[e.account] = true, true
	}
}

func (c *census) read(s Statement, variables bool) {
	for _, p := range []Principal{s.Principal, s.NotPrincipal} {
		for _, who := range slices.Concat(p.AWS, p.Service) {
			c.name(who)
		}
		for _, provider := range p.Federated {
			c.providers[provider] = true
		}
	}
	for operator, keys := range s.Condition {
		t, err := parseOperator(operator)
		if err != nil {
			continue
		}
		for key, values := range keys {
			key = strings.ToLower(key)
			c.kinds = c.kinds || slices.Contains(ofKind, key)
			for _, v := range values {
				for _, name := range (Requirement{Values: Values{v}}).variables() {
					c.kinds = c.kinds || slices.Contains(ofKind, name)
				}
				p, known, err := (&facts{everything: true, action: everyKey}).text(v, variables)
				if err != nil || known != yes {
					continue // it depends on the rest of the request
				}
				expression, ok := t.expression(p)
				if !ok || t.null {
					continue
				}
				switch {
				case key == "aws:principalarn" && !strings.ContainsAny(v, "*?") && t.name != "StringEqualsIgnoreCase":
					c.name(v)
				case key == "aws:principalarn":
					c.like[v] = newLanguage(expression)
					if a := accountInPattern.FindStringSubmatch(v); a != nil {
						c.accounts[a[1]] = true
					}
				case key == "aws:username":
					c.like[v] = newLanguage(`arn:[a-z-]+:iam::[0-9]+:user/(?:[^/]+/)*` + expression)
				case (key == "aws:principalaccount" || key == "kms:calleraccount") && accountID.MatchString(v):
					c.accounts[v] = true
				case key == "aws:principalaccount" || key == "kms:calleraccount":
					c.like[v] = newLanguage(`arn:[a-z-]+:[a-z]+::` + expression + `:.*`)
				case key == "aws:principalservicename" && serviceName.MatchString(v):
					c.services[v] = true
				case key == "aws:principalservicename":
					c.serviceLike[v] = newLanguage(expression)
				}
			}
		}
	}
}

// ofKind are condition keys that users, roles and federated users do not have alike.
var ofKind = []string{"aws:principaltype", "aws:username", "aws:userid"}

var accountInPattern = regexp.MustCompile(`^arn:[a-z*-]*:(?:iam|sts)::([0-9]{12}):`)

const (
	segmentOfName = `[A-Za-z0-9+=,.@_-]+`
	pathAndName   = `(?:` + segmentOfName + `/)*` + segmentOfName
)

func (c *census) templates(d *decider) (all []template) {
	var named []string
	for _, arn := range slices.Sorted(maps.Keys(c.exact)) {
		named = append(named, regexp.QuoteMeta(arn))
	}
	for _, arn := range slices.Sorted(maps.Keys(c.exact)) {
		h := template{Holder: Holder{Caller: Caller{ARN: arn}, Named: true, Account: accountOf(arn)}, census: c}
		e, _ := parseEntity(arn)
		if e.kind == session {
			// The session's ARN does not say the path of its role.
			own := "arn:" + e.partition + ":iam::" + e.account + ":role/"
			open := h
			open.format, open.others = own+`(?:`+segmentOfName+`/)+`+regexp.QuoteMeta(e.name), strings.Join(slices.Concat(named, []string{own + `aws-service-role/.*`}), `|`)
			all = append(all, open)
			h.RoleARN = own + e.name
			for other := range c.exact {
				if with, err := parseEntity(other); err == nil && with.kind == role && with.name == e.name && with.account == e.account && other != h.RoleARN {
					path := h
					path.RoleARN = other
					all = append(all, path)
				}
			}
		}
		all = append(all, h)
	}
	root := "arn:" + c.partition + ":iam::" + c.account + ":root"
	named = append(named, regexp.QuoteMeta(root))
	all = append(all, template{Holder: Holder{Caller: Caller{ARN: root}, Named: true, Account: c.account}, census: c})
	elsewhere := `arn:[a-z-]+:[a-z]+::(?:` + strings.Join(slices.Sorted(maps.Keys(c.accounts)), `|`) + `):.*`
	for _, account := range append(slices.Sorted(maps.Keys(c.accounts)), "") {
		of := cmp.Or(account, `[0-9]{12}`)
		linked := "iam::" + of + ":role/aws-service-role/" + pathAndName
		for i, kind := range []string{"iam::" + of + ":role/" + pathAndName, "iam::" + of + ":user/" + pathAndName, "sts::" + of + ":federated-user/" + segmentOfName, "iam::" + of + ":root", linked} {
			if i > 0 && !c.kinds && len(c.like) == 0 && kind != linked || kind == linked && !c.limited {
				continue // roles stand for them
			}
			h := template{format: `arn:` + c.partition + `:` + kind, others: strings.Join(named, `|`), census: c}
			if c.limited && i == 0 {
				h.others += `|arn:` + c.partition + `:` + linked
			}
			h.AnyAccount = account == ""
			if h.AnyAccount {
				h.others += `|` + elsewhere
			}
			if text, found := d.word(side{in: []*language{d.language(h.format)}, out: []*language{d.language(h.others)}}); found {
				h.ARN = h.readable(text, side{in: []*language{d.language(h.format)}, out: []*language{d.language(h.others)}})
				h.Account = accountOf(h.ARN)
				all = append(all, h)
			}
		}
	}
	for _, service := range slices.Sorted(maps.Keys(c.services)) {
		all = append(all, template{Holder: Holder{Caller: Caller{ARN: service}, Named: true}, census: c})
	}
	var patterns []*language
	for _, p := range slices.Sorted(maps.Keys(c.serviceLike)) {
		patterns = append(patterns, c.serviceLike[p])
	}
	services, complete := minterms(d.language(`[a-z0-9-]+(?:\.[a-z0-9-]+)*\.amazonaws\.com`), patterns)
	d.note(!complete, "the patterns of services")
	for _, m := range services {
		h := Holder{Caller: Caller{ARN: m.text}}
		for i, p := range slices.Sorted(maps.Keys(c.serviceLike)) {
			if m.in[i] {
				h.Like = append(h.Like, p)
			}
		}
		if len(h.Like) == 0 {
			h.ARN = "any-service.amazonaws.com"
		}
		all = append(all, template{Holder: h, census: c})
	}
	for _, provider := range slices.Sorted(maps.Keys(c.providers)) {
		session := "arn:" + c.partition + ":sts::" + c.account + ":assumed-role/anybody/session"
		all = append(all, template{Holder: Holder{Caller: Caller{ARN: session, Provider: provider}, Named: true, Account: c.account}, census: c})
	}
	return all
}

func accountOf(arn string) string {
	if m := principalARN.FindStringSubmatch(arn); m != nil {
		return m[3]
	}
	return ""
}

// readable is a text of the same side that says that it stands for others, if there is
// one.
func (h template) readable(text string, of side) string {
	try := func(candidate string) {
		if !slices.ContainsFunc(of.in, func(l *language) bool { return !l.has(candidate) }) && !slices.ContainsFunc(of.out, func(l *language) bool { return l.has(candidate) }) {
			text = candidate
		}
	}
	if p := principalARN.FindStringSubmatch(text); p != nil {
		if h.AnyAccount {
			try(strings.Replace(text, ":"+p[3]+":", ":"+strangersAccount+":", 1))
		}
		if p[5] != "" {
			try(strings.TrimSuffix(text, p[5]) + "anybody")
		}
	}
	return text
}
