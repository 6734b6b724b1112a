package iampolicy

import (
	"fmt"
	"slices"
	"strings"
)

// facts is what is known of the context of a request.
type facts struct {
	// context is by name in small letters.
	context map[string]Values
	action  KMSAction
	// absent tells that a key, in small letters, can't be there for this caller.
	absent func(key string) bool
	// open tells that a key, in small letters, is open though the caller is known: it is
	// an example. Default: none.
	open func(key string) bool
	// everything tells that nothing is open: what is not known is absent.
	everything bool
}

const (
	contextPrefix = "kms:encryptioncontext:"
	contextKeys   = "kms:encryptioncontextkeys"
)

func newFacts(given Context, caller who, action KMSAction) (*facts, error) {
	f := &facts{context: map[string]Values{}, action: action, absent: caller.lacks}
	var pairs Values
	for name, values := range given {
		key := strings.ToLower(name)
		if _, twice := f.context[key]; twice {
			return nil, fmt.Errorf("context: %q is given twice", name)
		}
		f.context[key] = values
		if strings.HasPrefix(key, contextPrefix) {
			pairs = append(pairs, name[len(contextPrefix):])
		}
	}
	slices.Sort(pairs)
	derived := caller.keys()
	if pairs != nil {
		derived[contextKeys] = pairs
	}
	for key, values := range derived {
		if _, given := f.context[key]; !given {
			f.context[key] = values
		}
	}
	return f, nil
}

// lookup finds a key's values: yes with them, no if it is absent, open if that is
// not known. A key without values is absent.
func (f *facts) lookup(name string) (Values, truth) {
	key := strings.ToLower(name)
	if !f.action.Carries(key) {
		return nil, no
	}
	if f.open != nil && f.open(key) {
		return nil, open
	}
	if values, given := f.context[key]; given {
		return values, truthOf(len(values) > 0)
	}
	if f.everything || f.absent(key) {
		return nil, no
	}
	if pair, ok := strings.CutPrefix(key, contextPrefix); ok {
		if keys, given := f.context[contextKeys]; given {
			same := func(k string) bool { return strings.EqualFold(k, pair) }
			if !slices.ContainsFunc(keys, same) {
				return nil, no
			}
		}
	}
	return nil, open
}

// text reads a text of a policy, in which variables may have a meaning.
func (f *facts) text(want string, variables bool) (pattern, truth, error) {
	if !variables {
		return plain(want), yes, nil
	}
	return expand(want, func(key string) (string, truth) {
		values, there := f.lookup(key)
		if there == yes && len(values) != 1 {
			return "", no // a variable stands for one value
		}
		if there != yes {
			return "", there
		}
		return values[0], yes
	})
}

// keys are the condition keys that follow from the caller, in small letters.
//
// Source: IAM User Guide, "AWS global condition context keys", properties of the
// principal; AWS KMS Developer Guide, kms:CallerAccount.
func (w who) keys() map[string]Values {
	if w.kind == service {
		return map[string]Values{"aws:principalisawsservice": {"true"}, "aws:principalservicename": {w.arn}}
	}
	k := map[string]Values{
		"aws:principalisawsservice": {"false"},
		"aws:principalarn":          {w.arn},
		"aws:principalaccount":      {w.account},
		"kms:calleraccount":         {w.account},
	}
	switch w.kind {
	case accountRoot:
		k["aws:principaltype"], k["aws:userid"] = Values{"Account"}, Values{w.account}
	case user:
		k["aws:principaltype"], k["aws:username"] = Values{"User"}, Values{w.name}
	case federatedUser:
		k["aws:principaltype"], k["aws:userid"] = Values{"FederatedUser"}, Values{w.account + ":" + w.name}
	default:
		k["aws:principaltype"], k["aws:principalarn"] = Values{"AssumedRole"}, Values{w.role}
	}
	if w.provider != "" {
		k["aws:federatedprovider"] = Values{w.provider}
	}
	return k
}

// lacks tells that requests of the caller never have the key, in small letters.
//
// Source: IAM User Guide, "AWS global condition context keys", the paragraphs on
// availability. That services have no ARN, no organization and no tags is inferred.
func (w who) lacks(key string) bool {
	switch key {
	case "aws:username":
		return w.kind != user
	case "aws:principalservicename", "aws:principalservicenameslist":
		return w.kind != service
	case "aws:federatedprovider":
		return w.provider == ""
	case "aws:principalorgid", "aws:principalorgpaths", "aws:principalarn", "aws:principalaccount":
		return w.kind == service
	}
	return strings.HasPrefix(key, "aws:principaltag/") && (w.kind == service || w.kind == accountRoot)
}
