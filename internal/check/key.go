package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
)

func (c *checker) checkKey(k *estate.Key) {
	p := k.Settings
	for _, name := range []string{"EnableKeyRotation", "RotationPeriodInDays", "PendingWindowInDays", "Enabled", "KeySpec", "KeyUsage", "Origin"} {
		if unknown(p[name]) {
			c.noteAt(k.Resource, "%s is %s, which is not in the template: it was not judged", name, show(p[name]))
		}
	}
	c.checkRetained("key-deletable", k.Thing)
	switch origin := p["Origin"]; {
	case k.Replica:
		c.noteAt(k.Resource, "the key is a replica: its rotation is that of the primary key, and was not judged")
	case origin == "AWS_CLOUDHSM" || origin == "EXTERNAL_KEY_STORE":
		c.noteAt(k.Resource, "the key is in a custom key store (Origin is %s), where KMS rotates nothing: rotation was not judged", show(origin))
	case !unknown(p["EnableKeyRotation"]) && !isTrue(p["EnableKeyRotation"], false):
		c.find("key-rotation-off", k.Thing, "EnableKeyRotation is %s", show(p["EnableKeyRotation"]))
	}
	if len(k.Clusters) == 0 {
		return
	}
	if days, ok := number(p["RotationPeriodInDays"]); ok && days > 365 {
		c.find("key-rotation-slow", k.Thing, "RotationPeriodInDays is %s, should be 365 or less", show(p["RotationPeriodInDays"]))
	}
	if days, ok := number(p["PendingWindowInDays"]); ok && days < 30 {
		c.find("key-deletion-window-short", k.Thing, "PendingWindowInDays is %s, should be 30", show(p["PendingWindowInDays"]))
	}
	if wrong := unsuitable(p); len(wrong) > 0 {
		c.find("secrets-key-unsuitable", k.Thing, "%s", strings.Join(wrong, "; "))
	}
}

// checkRetained wants CloudFormation to keep a resource when its stack is deleted, and when
// it is replaced.
func (c *checker) checkRetained(rule string, r *estate.Thing) {
	deletion, replacement := r.Deletion, r.Replacement
	open := func(policy string) bool { return strings.Contains(policy, "${") }
	switch {
	case deletion == "Retain" && replacement == "Retain", deletion == "RetainExceptOnCreate" && replacement == "Retain":
	case open(deletion) && (open(replacement) || replacement == "Retain"), strings.HasPrefix(deletion, "Retain") && open(replacement):
		c.noteAt(r.Resource, "DeletionPolicy is %s and UpdateReplacePolicy is %s, which is not in the template: it was not judged", deletion, replacement)
	default:
		c.find(rule, r, "DeletionPolicy is %s and UpdateReplacePolicy is %s", orNotSet(deletion), orNotSet(replacement))
	}
}

// unsuitable says what keeps a key from encrypting secrets. Source: Amazon EKS
// User Guide, "Encrypt Kubernetes secrets with KMS".
func unsuitable(p map[string]any) (wrong []string) {
	for _, want := range []struct {
		name    string
		allowed []string
	}{
		{"KeySpec", []string{"SYMMETRIC_DEFAULT"}},
		{"KeyUsage", []string{"ENCRYPT_DECRYPT"}},
		{"Origin", []string{"AWS_KMS", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"}},
	} {
		if v := p[want.name]; v != nil && !unknown(v) && !slices.Contains(want.allowed, show(v)) {
			wrong = append(wrong, fmt.Sprintf("%s is %s, must be %s", want.name, show(v), want.allowed[0]))
		}
	}
	if !isTrue(p["Enabled"], true) {
		wrong = append(wrong, fmt.Sprintf("Enabled is %s", show(p["Enabled"])))
	}
	return wrong
}
