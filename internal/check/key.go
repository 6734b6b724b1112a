package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/cfn"
)

// usedKey is a key of the templates with what it encrypts.
type usedKey struct {
	*cfn.Resource
	// clusters whose secrets are under the key. Without any, it keeps evidence:
	// the logs of a cluster or of a trail.
	clusters []*cluster
}

func (c *checker) findKeys() {
	byResource := map[*cfn.Resource]*usedKey{}
	use := func(r *cfn.Resource) *usedKey {
		if byResource[r] == nil {
			byResource[r] = &usedKey{Resource: r}
			c.keys = append(c.keys, byResource[r])
			c.report.Checked.Keys = append(c.report.Checked.Keys, r.Path)
		}
		return byResource[r]
	}
	for _, cl := range c.clusters {
		if cl.key != nil {
			k := use(cl.key)
			k.clusters = append(k.clusters, cl)
		}
	}
	evidence := func(value any) {
		if r := c.assembly.Lookup(value); value != nil && r != nil && r.Type == typeKey {
			use(r)
		}
	}
	for _, t := range c.trails {
		evidence(t.Properties["KMSKeyId"])
	}
	for _, group := range c.assembly.OfType("AWS::Logs::LogGroup") {
		name := text(group.Properties["LogGroupName"])
		if name == "" {
			name = group.ID
		}
		if c.isTrailGroup(name) || strings.HasPrefix(name, "/aws/eks/") && strings.HasSuffix(name, "/cluster") {
			evidence(group.Properties["KmsKeyId"])
		}
	}
}

// isTrailGroup tells whether a trail of the templates writes to a log group.
func (c *checker) isTrailGroup(name string) bool {
	return slices.ContainsFunc(c.trails, func(t *cfn.Resource) bool {
		_, group, _ := strings.Cut(text(t.Properties["CloudWatchLogsLogGroupArn"]), ":log-group:")
		return group != "" && strings.TrimSuffix(group, ":*") == name
	})
}

func (c *checker) checkKey(k *usedKey) {
	p := k.Properties
	for _, name := range []string{"EnableKeyRotation", "RotationPeriodInDays", "PendingWindowInDays", "Enabled", "KeySpec", "KeyUsage", "Origin"} {
		if unknown(p[name]) {
			c.noteAt(k.Path, "%s is %s, which is not in the template: it was not judged", name, show(p[name]))
		}
	}
	c.checkRetained("key-deletable", k.Resource)
	switch origin := p["Origin"]; {
	case k.Type == typeReplica:
		c.noteAt(k.Path, "the key is a replica: its rotation is that of the primary key, and was not judged")
	case origin == "AWS_CLOUDHSM" || origin == "EXTERNAL_KEY_STORE":
		c.noteAt(k.Path, "the key is in a custom key store (Origin is %s), where KMS rotates nothing: rotation was not judged", show(origin))
	case !unknown(p["EnableKeyRotation"]) && !isTrue(p["EnableKeyRotation"], false):
		c.find("key-rotation-off", k.Resource, "EnableKeyRotation is %s", show(p["EnableKeyRotation"]))
	}
	if len(k.clusters) == 0 {
		return
	}
	if days, ok := number(p["RotationPeriodInDays"]); ok && days > 365 {
		c.find("key-rotation-slow", k.Resource, "RotationPeriodInDays is %s, should be 365 or less", show(p["RotationPeriodInDays"]))
	}
	if days, ok := number(p["PendingWindowInDays"]); ok && days < 30 {
		c.find("key-deletion-window-short", k.Resource, "PendingWindowInDays is %s, should be 30", show(p["PendingWindowInDays"]))
	}
	if wrong := unsuitable(p); len(wrong) > 0 {
		c.find("secrets-key-unsuitable", k.Resource, "%s", strings.Join(wrong, "; "))
	}
}

// checkRetained wants CloudFormation to keep a resource when its stack is deleted, and when
// it is replaced.
func (c *checker) checkRetained(rule string, r *cfn.Resource) {
	deletion, replacement := r.DeletionPolicy, r.UpdateReplacePolicy
	open := func(policy string) bool { return strings.Contains(policy, "${") }
	switch {
	case deletion == "Retain" && replacement == "Retain", deletion == "RetainExceptOnCreate" && replacement == "Retain":
	case open(deletion) && (open(replacement) || replacement == "Retain"), strings.HasPrefix(deletion, "Retain") && open(replacement):
		c.noteAt(r.Path, "DeletionPolicy is %s and UpdateReplacePolicy is %s, which is not in the template: it was not judged", deletion, replacement)
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
