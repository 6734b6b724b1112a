package cfn

import (
	"regexp"

	"github.com/ekskms/ekskms/internal/place"
)

// Evident returns the account and the Region that templates are evidently
// for, where nobody said so: all their ARNs name the same one, and none is left
// to CloudFormation. Tools write such templates for one environment. An empty
// field is not evident.
func Evident(assembly *Assembly) Environment {
	n := &named{accounts: map[string]bool{}, regions: map[string]bool{}}
	for _, t := range assembly.Templates {
		for _, r := range t.Resources {
			n.read(r.Raw)
		}
	}
	return Environment{Account: only(n.accounts), Region: only(n.regions)}
}

// open stands for what is left to CloudFormation.
const open = "${}"

func only(set map[string]bool) string {
	for value := range set {
		if len(set) == 1 && value != open {
			return value
		}
	}
	return ""
}

type named struct{ accounts, regions map[string]bool }

var (
	arnInText   = regexp.MustCompile(`arn:aws[a-z-]*:[a-z0-9-]+:([a-z0-9-]*):([0-9]{12}|):`)
	openAccount = regexp.MustCompile(`\$\{AWS::AccountId\}`)
	openRegion  = regexp.MustCompile(`\$\{AWS::Region\}`)
)

func (n *named) read(v any) {
	switch v := v.(type) {
	case string:
		for _, m := range arnInText.FindAllStringSubmatch(v, -1) {
			if m[1] != "" {
				n.regions[m[1]] = true
			}
			if m[2] != "" {
				n.accounts[m[2]] = true
			}
		}
		if place.IsAccount(v) {
			n.accounts[v] = true
		}
		if openAccount.MatchString(v) {
			n.accounts[open] = true
		}
		if openRegion.MatchString(v) {
			n.regions[open] = true
		}
	case []any:
		for _, e := range v {
			n.read(e)
		}
	case map[string]any:
		switch v["Ref"] {
		case "AWS::AccountId":
			n.accounts[open] = true
		case "AWS::Region":
			n.regions[open] = true
		}
		for _, e := range v {
			n.read(e)
		}
	}
}
