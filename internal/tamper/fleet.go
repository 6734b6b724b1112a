package tamper

import (
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// whatIsAsked are the parameters of a call that tell which of several clusters it is
// about, by the service.
var whatIsAsked = map[string][]string{
	"kms":        {"keyId", "aliasName", "targetKeyId"},
	"cloudtrail": {"name", "trailName"},
	"eks":        {"name", "clusterName"},
	"s3":         {"bucketName", "logGroupName"},
	"events":     {"name", "rule", "topicArn"},
	"lambda":     {"functionName"},
}

// A token of the CDK stands for what is known later: an ARN of a key, which has fewer
// characters than roomOfARN, or within a text a partition, an account or a Region. How long
// a token is itself must not matter: it has a number, which depends on what else an app has.
const (
	roomOfARN  = 95
	roomOfPart = 20
)

var token = regexp.MustCompile(`\$\{Token\[[^\]]*\]\}`)

// room is how many characters a text has at most once it is deployed.
func room(text string) int {
	if token.FindString(text) == text && text != "" {
		return roomOfARN
	}
	return len(token.ReplaceAllString(text, strings.Repeat("x", roomOfPart)))
}

// FleetRules are the alarms for several clusters, each with its key, its logs and its
// functions, whose record and alarms are shared: [Rules] has those on that. Each rule is
// for as many clusters as there is room for in a pattern, and has a number behind the ID.
func FleetRules(shared Input, clusters []Input) (rules []Rule) {
	shared.Shared = true
	var all [][]spec
	for _, c := range clusters {
		all = append(all, specs(c))
	}
	for _, id := range order {
		var now spec
		var names []string
		n := 0
		flush := func() {
			if len(names) == 0 {
				return
			}
			n++
			now.id = id + strconv.Itoa(n)
			rules = append(rules, now.rule(shared, names...))
			now, names = spec{}, nil
		}
		for i, have := range all {
			j := slices.IndexFunc(have, func(s spec) bool { return s.id == id })
			if j < 0 {
				continue
			}
			next := have[j]
			if len(names) > 0 {
				next.filter = union(now.filter, next.filter)
				if next.size() > MaxPattern {
					flush()
					next = have[j]
				}
			}
			now, names = next, append(names, clusters[i].ClusterName)
		}
		flush()
	}
	return rules
}

// order is that of all alarms.
var order = func() (ids []string) {
	for _, s := range specs(Input{KeyARN: "k", BucketName: "b", LogsKeyARN: "l", HandlerNames: []string{"h"}}) {
		ids = append(ids, s.id)
	}
	return ids
}()

// size is that of the pattern once it is deployed.
func (s spec) size() int {
	data, err := json.Marshal(s.rule(Input{}, "").Pattern)
	if err != nil {
		panic(err) // a pattern is text
	}
	size := len(data)
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case string:
			size += room(v) - len(v)
		}
	}
	var plain any
	if err := json.Unmarshal(data, &plain); err != nil {
		panic(err)
	}
	walk(plain)
	return size
}

// union matches what one of two filters of the same form matches: their lists are put
// together, and alternatives of one field are one.
func union(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	for key, value := range b {
		switch have := all[key].(type) {
		case nil:
			all[key] = value
		case map[string]any:
			all[key] = union(have, value.(map[string]any))
		case []map[string]any: // $or
			either := slices.Clone(have)
			for _, o := range value.([]map[string]any) {
				i := slices.IndexFunc(either, func(h map[string]any) bool { return sameFields(h, o) })
				if i < 0 {
					either = append(either, o)
				} else {
					either[i] = union(either[i], o)
				}
			}
			all[key] = either
		default:
			list := anys(have)
			for _, v := range anys(value) {
				if !slices.ContainsFunc(list, func(h any) bool { return reflect.DeepEqual(h, v) }) {
					list = append(list, v)
				}
			}
			all[key] = list
		}
	}
	return all
}

func sameFields(a, b map[string]any) bool {
	return slices.Equal(slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)))
}

// anys is a list of whatever.
func anys(list any) []any {
	if all, ok := list.([]any); ok {
		return slices.Clone(all)
	}
	var all []any
	for _, s := range list.([]string) {
		all = append(all, s)
	}
	return all
}
