package explain

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/value"
)

// existingStatements is the output of a stack that uses an existing key.
const existingStatements = "ExistingKeyPolicyStatements"

// FromEstate returns the keys of an estate, each in each case of what is not known there. key is the path, logical ID or ARN of one; if it is empty, they are the
// keys of the clusters' secrets, or else all.
func FromEstate(all *estate.Estate, key string) ([]Input, error) {
	cases, err := estate.Cases(all)
	if err != nil {
		return nil, err
	}
	var inputs []Input
	for i, one := range cases {
		found, failed := fromCase(one.Estates[0], key)
		if failed != nil {
			err = cmp.Or(err, failed)
			continue
		}
		for _, in := range found {
			in.cases, in.in, in.paths = cases, i, rolePaths(one.Estates[0])
			for _, n := range one.Estates[0].Notes {
				in.Notes = append(in.Notes, n.String())
			}
			inputs = append(inputs, in)
		}
	}
	if len(inputs) == 0 {
		return nil, err
	}
	return inputs, nil
}

// rolePaths are the paths of the roles of an estate, by their ARNs, some of which are
// made of logical IDs.
func rolePaths(e *estate.Estate) map[string]string {
	paths := map[string]string{}
	for _, r := range e.Of(estate.KindRole) {
		paths[r.ARN] = strings.TrimSuffix(r.Resource, "/Resource")
	}
	return paths
}

func fromCase(e *estate.Estate, key string) ([]Input, error) {
	var all []Input
	var names, left []string
	var unread error
	ofCluster := false
	for _, k := range e.Keys {
		path := strings.TrimSuffix(k.Resource, "/Resource")
		names = append(names, path)
		if key != "" && !slices.Contains([]string{k.Resource, path, k.LogicalID, k.ARN}, key) {
			continue
		}
		ofCluster = ofCluster || len(k.Clusters) > 0
		policy := e.PolicyOf(k.Thing)
		if err := policy.Err(); err != nil {
			unread = cmp.Or(unread, fmt.Errorf("%s: %w", path, err))
			left = append(left, fmt.Sprintf("the key %s is left out: %v", path, err))
			continue
		}
		in := Input{Access: e.Access(k.Thing), Path: path, ofCluster: len(k.Clusters) > 0}
		if len(k.Clusters) == 1 {
			in.cluster, in.account = value.Text(k.Clusters[0].Settings["Name"]), k.Clusters[0].In.Account
		}
		if s := k.In; s.Assumed {
			in.Notes = append(in.Notes, fmt.Sprintf("the account and the Region of %s are not known: it was read as for account %s in %s", s.Name, s.Account, s.Region))
		}
		for _, n := range e.NotesOn(k.Thing) {
			in.Notes = append(in.Notes, n.String())
		}
		all = append(all, in)
	}
	existing, err := existingKeys(e, key)
	if err != nil {
		return nil, err
	}
	for _, in := range existing {
		names = append(names, in.Key)
	}
	all = append(all, existing...)
	if key == "" && (ofCluster || len(existing) > 0) {
		all = slices.DeleteFunc(all, func(in Input) bool { return !in.ofCluster })
	}
	switch {
	case len(all) > 0:
		last := &all[len(all)-1]
		last.Notes = append(last.Notes, left...)
		return all, nil
	case unread != nil:
		return nil, unread
	case key != "":
		return nil, fmt.Errorf("there is no key %q in the templates, only %s", key, strings.Join(names, ", "))
	}
	return nil, errors.New("there is no KMS key in the templates")
}

// existingKeys are those of clusters that stand elsewhere, as far as the stack says
// what their owner must add to the policy.
func existingKeys(e *estate.Estate, key string) ([]Input, error) {
	var all []Input
	for _, c := range e.Clusters {
		arn := value.Text(c.KeyARN)
		if arn == "" || e.Lookup(arn) != nil || key != "" && key != arn {
			continue
		}
		text, _ := c.In.Outputs[existingStatements].(string)
		if text == "" {
			continue
		}
		doc, err := iampolicy.Parse([]byte(`{"Version":"` + iampolicy.Version + `","Statement":` + text + `}`))
		if err != nil {
			return nil, fmt.Errorf("output %s: %w", existingStatements, err)
		}
		in := Input{ofCluster: true, cluster: value.Text(c.Settings["Name"]), account: c.In.Account, Access: iampolicy.Access{Key: arn, Policy: iampolicy.NamedDocument{Document: doc}, Identity: e.Identities()}}
		in.Notes = append(in.Notes, "the key is not in the templates: this is what the statements allow that its owner must add, and not what the owner's own allow. With --policy the whole policy is read")
		for _, n := range e.NotesOnPrincipals() {
			in.Notes = append(in.Notes, n.String())
		}
		all = append(all, in)
	}
	return all, nil
}

// ParsePolicy reads a policy as it is written by hand, or as 'aws kms
// get-key-policy' prints it.
func ParsePolicy(data []byte) (iampolicy.Document, error) {
	var printed struct{ Policy *string }
	if err := json.Unmarshal(data, &printed); err == nil && printed.Policy != nil {
		data = []byte(*printed.Policy)
	}
	return iampolicy.Parse(data)
}

// ParseGrants reads what 'aws kms list-grants' prints.
func ParseGrants(data []byte) ([]iampolicy.Grant, error) {
	var printed struct {
		Grants []struct {
			GrantID           string `json:"GrantId"`
			Name              string
			GranteePrincipal  string
			RetiringPrincipal string
			Operations        []string
			Constraints       struct {
				EncryptionContextEquals, EncryptionContextSubset map[string]string
			}
		}
	}
	if err := json.Unmarshal(data, &printed); err != nil {
		return nil, fmt.Errorf("is no output of 'aws kms list-grants': %s", hint.Plain(err))
	}
	if printed.Grants == nil {
		return nil, errors.New(`is no output of 'aws kms list-grants': it has no "Grants"`)
	}
	var all []iampolicy.Grant
	for _, g := range printed.Grants {
		name := g.Name
		if name == "" {
			name = g.GrantID
		}
		all = append(all, iampolicy.Grant{
			Name: name, Grantee: g.GranteePrincipal, Retiring: g.RetiringPrincipal, Operations: g.Operations,
			EncryptionContextEquals: g.Constraints.EncryptionContextEquals, EncryptionContextSubset: g.Constraints.EncryptionContextSubset,
		})
	}
	return all, nil
}

var accountInARN = regexp.MustCompile(`^arn:(aws[a-z-]*):(?:iam|sts)::(\d{12}):`)

// KeyOf makes up the ARN of a key whose policy is given without it, in the account
// that the policy names. The error asks for what is missing.
func KeyOf(doc iampolicy.Document, account, region string) (string, error) {
	partition := "aws"
	accounts := map[string]bool{}
	for _, s := range doc.Statement {
		for _, p := range slices.Concat(s.Principal.AWS, s.NotPrincipal.AWS) {
			if m := accountInARN.FindStringSubmatch(p); m != nil {
				partition, accounts[m[2]] = m[1], true
			}
		}
	}
	if account == "" {
		if len(accounts) != 1 {
			return "", fmt.Errorf("the policy names %d accounts %v: say with --account or --key which is the key's", len(accounts), slices.Sorted(maps.Keys(accounts)))
		}
		for account = range accounts {
		}
	}
	if region == "" {
		region = estate.ExampleRegion
	}
	return fmt.Sprintf("arn:%s:kms:%s:%s:key/the-key", partition, region, account), nil
}
