package iampolicy

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// operator compares a value of the request with one of the policy.
//
// Source: IAM User Guide, "IAM JSON policy elements: Condition operators".
type operator struct {
	// name of an operator that compares texts: see [test.expression].
	name string
	// negated operators are met by a value that equals none of the policy's, and by
	// an absent key.
	negated bool
	// One of the two is set. like compares with a text, which may have policy
	// variables; read understands a policy's value, which may not.
	like func(want pattern, have string) bool
	read func(want string) (func(have string) bool, error)
	// check finds faults in a text. Default: none.
	check func(want pattern) error
}

func (o operator) not() operator {
	o.negated = true
	return o
}

var operators = func() map[string]operator {
	stringEquals := operator{name: "StringEquals", like: func(want pattern, have string) bool { return want.String() == have }}
	ignoreCase := operator{name: "StringEqualsIgnoreCase", like: func(want pattern, have string) bool { return strings.EqualFold(want.String(), have) }}
	stringLike := operator{name: "StringLike", like: pattern.matches}
	arn := operator{name: "ArnLike", like: matchesARN, check: checkARN}
	ip := operator{name: "IpAddress", read: readIP}
	all := map[string]operator{
		"StringEquals":              stringEquals,
		"StringNotEquals":           stringEquals.not(),
		"StringEqualsIgnoreCase":    ignoreCase,
		"StringNotEqualsIgnoreCase": ignoreCase.not(),
		"StringLike":                stringLike,
		"StringNotLike":             stringLike.not(),
		"ArnEquals":                 arn,
		"ArnLike":                   arn,
		"ArnNotEquals":              arn.not(),
		"ArnNotLike":                arn.not(),
		"IpAddress":                 ip,
		"NotIpAddress":              ip.not(),
		"Bool":                      {name: "Bool", read: readBool},
		"BinaryEquals":              {read: readBinary},
	}
	for name, compare := range map[string]func(sign int) bool{
		"Equals":            func(sign int) bool { return sign == 0 },
		"LessThan":          func(sign int) bool { return sign < 0 },
		"LessThanEquals":    func(sign int) bool { return sign <= 0 },
		"GreaterThan":       func(sign int) bool { return sign > 0 },
		"GreaterThanEquals": func(sign int) bool { return sign >= 0 },
	} {
		all["Numeric"+name] = operator{name: "Numeric", read: ordered(parseNumber, cmp.Compare[float64], compare)}
		all["Date"+name] = operator{name: "Date", read: ordered(parseDate, time.Time.Compare, compare)}
	}
	all["NumericNotEquals"] = all["NumericEquals"].not()
	all["DateNotEquals"] = all["DateEquals"].not()
	return all
}()

// test is an operator as a policy writes it.
type test struct {
	operator
	// null is the operator Null, which asks whether the key is there.
	null bool
	// set is ForAllValues, ForAnyValue, or empty.
	set      string
	ifExists bool
}

func parseOperator(name string) (test, error) {
	t := test{}
	base := name
	if set, rest, found := strings.Cut(name, ":"); found && (set == "ForAllValues" || set == "ForAnyValue") {
		t.set, base = set, rest
	}
	base, t.ifExists = strings.CutSuffix(base, "IfExists")
	if name == "Null" {
		t.null, t.operator = true, operators["Bool"]
		return t, nil
	}
	var known bool
	if t.operator, known = operators[base]; !known {
		return test{}, fmt.Errorf("condition operator %q is not known", name)
	}
	return t, nil
}

// match compares one value of the request with one of the policy.
func (t test) match(have, want string, f *facts, variables bool) (truth, error) {
	if t.read != nil {
		equals, err := t.read(want)
		if err != nil {
			return no, err
		}
		return truthOf(equals(have)), nil
	}
	p, known, err := f.text(want, variables)
	if err != nil {
		return no, err
	}
	if known == yes {
		return truthOf(t.like(p, have)), nil
	}
	return known, nil
}

// anyOf is met by a value of the request that equals one of the policy's, or, for
// a negated operator, none.
func (t test) anyOf(have string, wants Values, f *facts, variables bool) (truth, error) {
	met := no
	for _, want := range wants {
		one, err := t.match(have, want, f, variables)
		if err != nil {
			return no, err
		}
		met = max(met, one)
	}
	if t.negated {
		met = met.not()
	}
	return met, nil
}

// meets decides on one condition.
//
// Sources: IAM User Guide, "IAM JSON policy elements: Condition operators",
// "Conditions with multiple context keys or values" and "Set operators for
// multi-valued context keys".
func (f *facts) meets(name, key string, wants Values, variables bool) (truth, error) {
	t, err := parseOperator(name)
	if err != nil {
		return no, err
	}
	have, there := f.lookup(key)
	if there == open {
		return open, nil
	}
	if t.null {
		return t.anyOf(strconv.FormatBool(there == no), wants, f, variables)
	}
	if t.set != "" && !slices.ContainsFunc(have, func(v string) bool { return v != "" }) {
		there = no // "the key value resolves to a null data set, such as an empty string"
	}
	switch {
	case there == no && t.set == "ForAnyValue":
		return truthOf(t.ifExists), nil
	case there == no:
		return truthOf(t.ifExists || t.negated || t.set == "ForAllValues"), nil
	case t.set == "" && len(have) > 1:
		// Several values want a set operator; without one the condition is not met.
		// The User Guide says the first, the second is inferred.
		return no, nil
	}
	all, some := yes, no
	for _, v := range have {
		one, err := t.anyOf(v, wants, f, variables)
		if err != nil {
			return no, err
		}
		all, some = min(all, one), max(some, one)
	}
	if t.set == "ForAnyValue" {
		return some, nil
	}
	return all, nil
}

// checkCondition finds what IAM would not take, or what is not understood.
func checkCondition(c Condition, variables bool) error {
	for _, name := range slices.Sorted(maps.Keys(c)) {
		t, err := parseOperator(name)
		if err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(c[name])) {
			if strings.TrimSpace(key) == "" || len(c[name][key]) == 0 {
				return fmt.Errorf("condition %s %q: has no key or no value", name, key)
			}
			for _, want := range c[name][key] {
				if err := t.checkValue(want, variables); err != nil {
					return fmt.Errorf("condition %s %s: %w", name, key, err)
				}
			}
		}
	}
	return nil
}

func (t test) checkValue(want string, variables bool) error {
	if t.read != nil {
		_, err := t.read(want)
		return err
	}
	p, complete, err := (&facts{everything: true}).text(want, variables)
	if err == nil && complete == yes && t.check != nil {
		err = t.check(p)
	}
	return err
}

func matchesARN(want pattern, have string) bool {
	parts := want.segments(6)
	a, err := arn.Parse(have)
	of := []string{"arn", a.Partition, a.Service, a.Region, a.AccountID, a.Resource}
	return len(parts) == 6 && err == nil &&
		!slices.ContainsFunc([]int{0, 1, 2, 3, 4, 5}, func(i int) bool { return !parts[i].matches(of[i]) })
}

func checkARN(want pattern) error {
	if parts := want.segments(6); len(parts) < 6 || parts[0].String() != "arn" {
		return fmt.Errorf("%q is no ARN of six parts", want)
	}
	return nil
}

func readBool(want string) (func(string) bool, error) {
	if !strings.EqualFold(want, "true") && !strings.EqualFold(want, "false") {
		return nil, fmt.Errorf("%q is neither true nor false", want)
	}
	return func(have string) bool { return strings.EqualFold(have, want) }, nil
}

func readBinary(want string) (func(string) bool, error) {
	if _, err := base64.StdEncoding.DecodeString(want); err != nil {
		return nil, fmt.Errorf("%q is not base64", want)
	}
	return func(have string) bool { return have == want }, nil
}

func readIP(want string) (func(string) bool, error) {
	network, err := netip.ParsePrefix(want)
	if err != nil {
		address, err := netip.ParseAddr(want)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an IP address nor a range of them", want)
		}
		network = netip.PrefixFrom(address, address.BitLen())
	}
	return func(have string) bool {
		address, err := netip.ParseAddr(have)
		return err == nil && network.Contains(address.Unmap())
	}, nil
}

// ordered compares values that parse reads. A value of the request that it can't
// read equals nothing.
func ordered[T any](parse func(string) (T, error), order func(a, b T) int, holds func(sign int) bool) func(string) (func(string) bool, error) {
	return func(want string) (func(string) bool, error) {
		w, err := parse(want)
		if err != nil {
			return nil, err
		}
		return func(have string) bool {
			h, err := parse(have)
			return err == nil && holds(order(h, w))
		}, nil
	}
}

var number = regexp.MustCompile(`^[+-]?\d+(\.\d+)?([eE][+-]?\d+)?$`)

func parseNumber(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !number.MatchString(s) {
		return 0, fmt.Errorf("%q is no number", s)
	}
	return f, nil
}

var epoch = regexp.MustCompile(`^-?\d{5,}$`)

// parseDate reads what W3C's profile of ISO 8601 allows, or seconds since 1970.
func parseDate(s string) (time.Time, error) {
	if epoch.MatchString(s) {
		seconds, err := strconv.ParseInt(s, 10, 64)
		return time.Unix(seconds, 0), err
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", time.DateOnly, "2006-01", "2006"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New(strconv.Quote(s) + " is no date, such as 2026-01-31T00:00:00Z")
}
