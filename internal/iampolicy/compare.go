package iampolicy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Access is everything that decides on the use of one key.
type Access struct {
	// Key is the ARN of the key.
	Key    string
	Policy NamedDocument
	// Identity are the IAM policies of those principals of which all are known, by
	// ARN. Any other principal is judged twice: as if it had none, and as if it had
	// kms:* on all keys.
	Identity map[string][]NamedDocument
	Grants   []Grant
}

// Change is what a principal may do by one set of policies and not by another.
type Change struct {
	// Caller is the principal, or the identity provider of a session of any role.
	// Stranger tells that it stands for all like it: a role of the account, or of
	// another account, that no policy names and that has kms:* in IAM; or a service.
	Caller   string
	Stranger bool
	// Actions, sorted.
	Actions []string
	// Example is a request among them, and By is what allows it.
	Example Request
	By      []Source
	// Entirely tells that the other policies do not allow the actions at all;
	// otherwise they do, but not for the example.
	Entirely bool
}

// Widenings finds what is allowed after and was not before. Each change has an
// example that [Evaluate] decides differently by the two, so none is false. All
// are found but for two limits, which are told in the notes: of a pattern with
// wildcards samples are tried, and of very many condition keys not all
// combinations.
func Widenings(before, after Access) (changes []Change, notes []string, err error) {
	return compare(before, after, func(c *comparison, path Path, keys domain) (Context, error) {
		return c.search(c.meeting(path, keys), func(context Context) (bool, error) {
			was, err := c.allowed(before, c.caller.before, context)
			if err != nil || was {
				return false, err
			}
			return c.allowed(after, c.caller.after, context)
		})
	})
}

// Losses finds what was allowed before and is not after, whatever else the
// request says. A condition that is added is no loss: with it the request is
// still allowed.
func Losses(before, after Access) (changes []Change, notes []string, err error) {
	return compare(after, before, func(c *comparison, path Path, keys domain) (Context, error) {
		var lost Context
		_, err := c.search(chosen(path), func(context Context) (bool, error) {
			open := keys.with(context)
			had, err := c.search(c.meeting(path, open), func(full Context) (bool, error) { return c.allowed(before, c.caller.after, full) })
			if err != nil || had == nil {
				return false, err
			}
			for _, way := range c.ways {
				has, err := c.search(c.meeting(way, open), func(full Context) (bool, error) { return c.allowed(after, c.caller.before, full) })
				if err != nil || has != nil {
					return false, err
				}
			}
			lost = had
			return true, nil
		})
		return lost, err
	})
}

// comparison asks about one caller and one action.
type comparison struct {
	caller principal
	action string
	// ways are those in which the first of the two compared allows the action.
	ways      []Path
	truncated bool
}

// principal is a caller with what IAM says of it on both sides.
type principal struct {
	Caller
	stranger      bool
	before, after []NamedDocument
}

func (c *comparison) question(a Access, identity []NamedDocument, context Context) (Request, Policies) {
	return Request{Caller: c.caller.Caller, Action: c.action, Resource: a.Key, Context: context},
		Policies{Resource: a.Policy, Identity: identity, Grants: a.Grants, checked: true}
}

func (c *comparison) allowed(a Access, identity []NamedDocument, context Context) (bool, error) {
	d, err := Evaluate(c.question(a, identity, context))
	return d.Allowed, err
}

// compare asks for each caller and action, and each way in which it is allowed
// after, whether find has an example.
func compare(before, after Access, find func(*comparison, Path, domain) (Context, error)) ([]Change, []string, error) {
	callers, err := principals(before, after)
	if err != nil {
		return nil, nil, err
	}
	for _, side := range []Access{before, after} {
		if err := checkPolicy(side.Policy, true); err != nil {
			return nil, nil, err
		}
	}
	for _, caller := range callers {
		for _, d := range slices.Concat(caller.before, caller.after) {
			if err := checkPolicy(d, false); err != nil {
				return nil, nil, err
			}
		}
	}
	if reflect.DeepEqual([]any{before.Policy.Document, before.Identity, before.Grants}, []any{after.Policy.Document, after.Identity, after.Grants}) {
		return nil, nil, nil
	}
	var changes []Change
	truncated := false
	for _, caller := range callers {
		for _, action := range KMSActions {
			c := &comparison{caller: caller, action: action.Name}
			change, err := c.change(before, after, find)
			if err != nil {
				return nil, nil, err
			}
			truncated = truncated || c.truncated
			if change != nil {
				changes = merge(changes, *change)
			}
		}
	}
	var notes []string
	if truncated {
		notes = append(notes, "the policies have too many condition keys to try all combinations: some were not tried")
	}
	if patterns := newPatterns(before, after); len(patterns) > 0 {
		notes = append(notes, fmt.Sprintf("of the pattern %s samples were compared, not every value", strings.Join(patterns, ", ")))
	}
	return changes, notes, nil
}

func (c *comparison) change(before, after Access, find func(*comparison, Path, domain) (Context, error)) (*Change, error) {
	now, err := Explain(c.question(after, c.caller.after, nil))
	if err != nil || len(now.Allow) == 0 {
		return nil, err
	}
	was, err := Explain(c.question(before, c.caller.before, nil))
	if err != nil {
		return nil, err
	}
	var all []Requirement
	for _, p := range slices.Concat(now.Allow, now.Deny, was.Allow, was.Deny) {
		all = append(all, p.Conditions...)
	}
	if subset(now.Allow, was.Allow) && subset(was.Deny, now.Deny) {
		return nil, nil
	}
	keys := domainOf(all)
	c.ways = was.Allow
	for _, path := range now.Allow {
		context, err := find(c, path, keys)
		if err != nil {
			return nil, err
		}
		if context == nil {
			continue
		}
		request, policies := c.question(after, c.caller.after, context)
		decision, err := Evaluate(request, policies)
		if err != nil {
			return nil, err
		}
		return &Change{
			Caller: cmp.Or(c.caller.Provider, c.caller.ARN), Stranger: c.caller.stranger, Actions: []string{c.action},
			Example: request, By: decision.By, Entirely: len(was.Allow) == 0,
		}, nil
	}
	return nil, nil
}

// subset tells whether each path of some is among the others.
func subset(some, others []Path) bool {
	return !slices.ContainsFunc(some, func(p Path) bool {
		return !slices.ContainsFunc(others, func(o Path) bool { return p.text() == o.text() })
	})
}

// merge adds a change to another that differs in the action only.
func merge(all []Change, one Change) []Change {
	for _, c := range all {
		if c.Caller == one.Caller && slices.Contains(c.Actions, one.Actions[0]) {
			return all
		}
	}
	for i, c := range all {
		if c.Caller == one.Caller && slices.Equal(c.By, one.By) && c.Entirely == one.Entirely {
			all[i].Actions = append(all[i].Actions, one.Actions...)
			return all
		}
	}
	return append(all, one)
}

const strangersAccount = "999999999999"

func administrator() []NamedDocument {
	return []NamedDocument{{Name: "IAM (kms:* assumed)", Document: NewDocument(Statement{
		Effect: Allow, Action: Values{"kms:*"}, Resource: Values{"*"},
	})}}
}

// principals are all that the policies name, in the order of their names, and
// those that stand for everybody else.
func principals(before, after Access) ([]principal, error) {
	key := keyARN.FindStringSubmatch(after.Key)
	if key == nil {
		return nil, fmt.Errorf("%q is not the ARN of a KMS key", after.Key)
	}
	iam := func(account string) string { return "arn:" + key[1] + ":iam::" + account }
	named, providers := map[string]bool{iam(key[2]) + ":root": true}, map[string]bool{}
	for _, side := range []Access{before, after} {
		for arn := range side.Identity {
			named[arn] = true
		}
		for _, g := range side.Grants {
			named[g.Grantee], named[g.Retiring] = true, true
		}
		for _, s := range side.Policy.Statement {
			for _, provider := range s.Principal.Federated {
				providers[provider] = true
			}
			for _, v := range slices.Concat(s.Principal.AWS, s.NotPrincipal.AWS, s.Principal.Service, s.NotPrincipal.Service) {
				named[v] = true
			}
			for _, keys := range s.Condition {
				for name, values := range keys {
					switch strings.ToLower(name) {
					case "aws:principalarn":
						for _, v := range values {
							for _, sample := range samples(v) {
								named[sample] = true
							}
						}
					case "kms:calleraccount", "aws:principalaccount":
						for _, v := range values {
							named[v] = true
						}
					}
				}
			}
		}
	}
	var all []principal
	seen := map[string]bool{}
	add := func(arn string, stranger bool) {
		if seen[arn] {
			return
		}
		seen[arn] = true
		p := principal{Caller: Caller{ARN: arn}, stranger: stranger}
		was, inBefore := before.Identity[arn]
		is, inAfter := after.Identity[arn]
		if inBefore || inAfter {
			p.before, p.after = was, is // a principal that comes or goes has nothing on the other side
			all = append(all, p)
			return
		}
		if !stranger {
			all = append(all, p)
		}
		p.before, p.after = administrator(), administrator()
		all = append(all, p)
	}
	for _, arn := range slices.Sorted(maps.Keys(named)) {
		switch {
		case accountID.MatchString(arn) && arn != key[2]:
			add(iam(arn)+":role/anybody", true) // a role stands for its account
		case serviceName.MatchString(arn):
			add(arn, false)
		default:
			e, err := parseEntity(arn)
			switch {
			case err != nil: // "*", an account's number, or the ID of a deleted role
			case e.kind == accountRoot && e.account != key[2]:
				add(iam(e.account)+":role/anybody", true)
			default:
				add(arn, false)
			}
		}
	}
	add(iam(key[2])+":role/anybody", true)
	add(iam(strangersAccount)+":role/anybody", true)
	add("any-service.amazonaws.com", true)
	for _, provider := range slices.Sorted(maps.Keys(providers)) {
		session := "arn:" + key[1] + ":sts::" + key[2] + ":assumed-role/anybody/session"
		all = append(all, principal{Caller: Caller{ARN: session, Provider: provider}})
	}
	return all, nil
}

// choice is one value of a key, or its absence.
type choice = Values

// domain holds, for each condition key, values of which each stands for all those
// that the policies can't tell from it.
type domain map[string][]choice

const limit = 4096

// search tries the combinations of the domain until one is met. Nil if none is.
func (c *comparison) search(keys domain, met func(Context) (bool, error)) (Context, error) {
	names := slices.Sorted(maps.Keys(keys))
	tries := 0
	var try func(i int, context Context) (Context, error)
	try = func(i int, context Context) (Context, error) {
		if tries >= limit {
			c.truncated = true
			return nil, nil
		}
		if i == len(names) {
			tries++
			if !consistent(context, names) {
				return nil, nil
			}
			if ok, err := met(context); err != nil || !ok {
				return nil, err
			}
			return maps.Clone(context), nil
		}
		for _, values := range keys[names[i]] {
			if values == nil {
				delete(context, names[i])
			} else {
				context[names[i]] = values
			}
			found, err := try(i+1, context)
			if err != nil || found != nil {
				return found, err
			}
		}
		delete(context, names[i])
		return nil, nil
	}
	return try(0, Context{})
}

// consistent tells whether a request can be so: kms:EncryptionContextKeys has the
// keys of the encryption context.
func consistent(context Context, names []string) bool {
	keys, there := context[contextKeys]
	if !there {
		return true
	}
	for _, name := range names {
		pair, is := strings.CutPrefix(name, contextPrefix)
		if !is {
			continue
		}
		_, has := context[name]
		if listed := slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, pair) }); listed != has {
			return false
		}
	}
	return true
}

// meeting leaves of the domain what meets the conditions of a path. A condition
// with a policy variable depends on other keys and leaves all.
func (c *comparison) meeting(path Path, keys domain) domain {
	left := maps.Clone(keys)
	for _, q := range path.Conditions {
		key := strings.ToLower(q.Key)
		if q.Key == "" || slices.ContainsFunc(q.Values, variableInText.MatchString) {
			continue
		}
		left[key] = slices.DeleteFunc(slices.Clone(left[key]), func(values choice) bool {
			context := Context{}
			if values != nil {
				context[key] = values
			}
			met, err := q.Met(Request{Caller: c.caller.Caller, Action: c.action, Resource: anyKey, Context: context})
			return err != nil || !met
		})
	}
	return left
}

// anyKey stands for the key where a condition does not depend on it.
const anyKey = "arn:aws:kms:us-east-1:" + strangersAccount + ":key/any"

// chosen are the texts that a path asks for by name: a principal that has lost one
// of them has lost something. Negations, dates and the like are left open.
func chosen(path Path) domain {
	d := domain{}
	for _, q := range path.Conditions {
		t, err := parseOperator(q.Operator)
		if q.Key == "" || err != nil || t.null || t.negated || t.like == nil {
			continue
		}
		key := strings.ToLower(q.Key)
		if d[key] != nil {
			continue
		}
		for _, v := range q.Values {
			d[key] = append(d[key], Values{samples(v)[0]})
		}
	}
	return d
}

// with keeps to what a context says.
func (d domain) with(context Context) domain {
	fixed := maps.Clone(d)
	for key, values := range context {
		fixed[key] = []choice{values}
	}
	return fixed
}

var variableInText = regexp.MustCompile(`\$\{([^}]*)\}`)

const fresh = "none-of-these"

// domainOf lists for each key the values at which some condition can change.
func domainOf(conditions []Requirement) domain {
	texts := map[string]Values{}
	sets := map[string]bool{}
	add := func(key string, values ...string) {
		key = strings.ToLower(key)
		texts[key] = append(texts[key], values...)
	}
	for _, q := range conditions {
		for _, v := range q.Values {
			for _, m := range variableInText.FindAllStringSubmatch(v, -1) {
				if name, _, _ := strings.Cut(m[1], ","); strings.Contains(name, ":") {
					add(strings.TrimSpace(name), fresh)
				}
			}
		}
		if q.Key == "" {
			continue
		}
		t, err := parseOperator(q.Operator)
		if err != nil {
			continue // Explain has refused it
		}
		sets[strings.ToLower(q.Key)] = sets[strings.ToLower(q.Key)] || t.set != ""
		operator := strings.TrimSuffix(q.Operator[strings.Index(q.Operator, ":")+1:], "IfExists")
		switch {
		case t.null:
			add(q.Key)
		case operator == "Bool":
			add(q.Key, "true", "false")
		case strings.HasPrefix(operator, "Numeric"):
			add(q.Key, aroundNumbers(q.Values)...)
		case strings.HasPrefix(operator, "Date"):
			add(q.Key, aroundDates(q.Values)...)
		case strings.HasSuffix(operator, "IpAddress"):
			add(q.Key, aroundNetworks(q.Values)...)
		default:
			for _, v := range q.Values {
				add(q.Key, samples(v)...)
				if strings.Contains(operator, "Arn") {
					add(q.Key, "arn:aws:none:us-east-1:"+strangersAccount+":"+fresh)
				}
			}
		}
	}
	d := domain{}
	for key, values := range texts {
		values = slices.Compact(slices.Sorted(slices.Values(append(values, fresh))))
		choices := []choice{nil}
		for _, v := range values {
			choices = append(choices, Values{v})
		}
		if sets[key] {
			for _, v := range values {
				if v != fresh {
					choices = append(choices, Values{v, fresh})
				}
			}
			if known := slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == fresh }); len(known) > 1 {
				choices = append(choices, known)
			}
		}
		d[key] = choices
	}
	return d
}

// samples are texts that a pattern matches, and one that differs in case.
func samples(want string) []string {
	want = variableInText.ReplaceAllStringFunc(want, func(v string) string {
		if name := v[2 : len(v)-1]; name == "*" || name == "?" || name == "$" {
			return name
		}
		return fresh
	})
	if !strings.ContainsAny(want, "*?") {
		return []string{want, strings.ToUpper(want)}
	}
	filled := strings.ReplaceAll(want, "?", "x")
	return []string{
		strings.ReplaceAll(filled, "*", ""), strings.ReplaceAll(filled, "*", "x"), strings.ReplaceAll(filled, "*", fresh),
	}
}

func aroundNumbers(wants Values) []string {
	var numbers []float64
	for _, w := range wants {
		if n, err := parseNumber(w); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	var around []string
	for i, n := range numbers {
		points := []float64{n - 1, n, n + 1}
		if i > 0 {
			points = append(points, (numbers[i-1]+n)/2)
		}
		for _, p := range points {
			around = append(around, strconv.FormatFloat(p, 'f', -1, 64))
		}
	}
	return around
}

func aroundDates(wants Values) []string {
	var around []string
	for _, w := range wants {
		if t, err := parseDate(w); err == nil {
			for _, d := range []time.Duration{-time.Second, 0, time.Second} {
				around = append(around, t.Add(d).UTC().Format(time.RFC3339))
			}
		}
	}
	return around
}

func aroundNetworks(wants Values) []string {
	var around []string
	for _, w := range wants {
		network, err := netip.ParsePrefix(w)
		if err != nil {
			address, err := netip.ParseAddr(w)
			if err != nil {
				continue
			}
			network = netip.PrefixFrom(address, address.BitLen())
		}
		first := network.Masked().Addr()
		bytes := first.AsSlice()
		for bit := network.Bits(); bit < first.BitLen(); bit++ {
			bytes[bit/8] |= 1 << (7 - bit%8)
		}
		last, _ := netip.AddrFromSlice(bytes)
		for _, a := range []netip.Addr{first.Prev(), first, last, last.Next()} {
			if a.IsValid() {
				around = append(around, a.String())
			}
		}
	}
	return around
}

// newPatterns lists the patterns with wildcards in conditions of one side that the
// other side does not have.
func newPatterns(before, after Access) []string {
	patterns := func(a Access) map[string]bool {
		found := map[string]bool{}
		documents := []NamedDocument{a.Policy}
		for _, arn := range slices.Sorted(maps.Keys(a.Identity)) {
			documents = append(documents, a.Identity[arn]...)
		}
		for _, d := range documents {
			for _, s := range d.Statement {
				for operator, keys := range s.Condition {
					for key, values := range keys {
						for _, v := range values {
							if (strings.Contains(operator, "Like") || strings.Contains(operator, "Arn")) && strings.ContainsAny(strings.Trim(v, "*"), "*?") {
								found[fmt.Sprintf("%s of %s", v, key)] = true
							}
						}
					}
				}
			}
		}
		return found
	}
	was, now := patterns(before), patterns(after)
	var differ []string
	for p := range now {
		if !was[p] {
			differ = append(differ, p)
		}
	}
	for p := range was {
		if !now[p] {
			differ = append(differ, p)
		}
	}
	slices.Sort(differ)
	return differ
}
