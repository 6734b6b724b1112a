package tfplan

import (
	"fmt"
	"maps"
	"slices"
)

func (t *translation) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// target is the resource of a kind that a value of another names, or nil.
func (t *translation) target(n node, kinds ...string) map[string]any {
	match := func(one *thing) map[string]any {
		for _, kind := range kinds {
			if one != nil && one.kind == kind {
				if p := t.properties(one); p != nil {
					return p
				}
			}
		}
		return nil
	}
	if n.unknown == true {
		from, ok := t.follow(n.expression, n.of.module, 0)
		if !ok {
			return nil
		}
		return match(t.things[from.address])
	}
	name := n.text()
	if name == "" {
		return nil
	}
	for _, one := range t.order {
		for _, attribute := range []string{"arn", "id", "name", "key_id", "bucket", "url"} {
			if v := t.node(one).at(attribute); v.text() == name {
				if p := match(one); p != nil {
					return p
				}
			}
		}
	}
	return nil
}

// join puts what is a resource of its own in Terraform where CloudFormation has it.
func (t *translation) join() {
	for _, one := range t.order {
		if one.mode != "managed" {
			continue
		}
		n := t.node(one)
		lost := func(what string) {
			t.note("%s is for %s, which is not in the plan or not known: it was not judged", one.address, what)
		}
		add := func(p map[string]any, name string, v any) {
			list, _ := p[name].([]any)
			p[name] = append(list, v)
		}
		switch one.kind {
		case "aws_kms_key_policy":
			if key := t.target(n.at("key_id"), "aws_kms_key", "aws_kms_external_key", "aws_kms_replica_key"); key != nil {
				properties(key).put("KeyPolicy", n.at("policy"), node.policy)
				properties(key).put("BypassPolicyLockoutSafetyCheck", n.at("bypass_policy_lockout_safety_check"), plain)
			} else {
				lost("a key")
			}
		case "aws_eks_access_policy_association":
			t.associate(n, lost)
		case "aws_iam_role_policy_attachment":
			if role := t.target(n.at("role"), "aws_iam_role"); role != nil {
				add(role, "ManagedPolicyArns", n.at("policy_arn").link())
			}
		case "aws_iam_user_policy_attachment":
			if user := t.target(n.at("user"), "aws_iam_user"); user != nil {
				add(user, "ManagedPolicyArns", n.at("policy_arn").link())
			}
		case "aws_iam_group_policy_attachment":
			if group := t.target(n.at("group"), "aws_iam_group"); group != nil {
				add(group, "ManagedPolicyArns", n.at("policy_arn").link())
			}
		case "aws_cloudwatch_event_target":
			if rule := t.target(n.at("rule"), "aws_cloudwatch_event_rule"); rule != nil {
				to := properties{"Id": one.address}
				to.put("Id", n.at("target_id"), plain)
				to.put("Arn", n.at("arn"), linked)
				to.put("RoleArn", n.at("role_arn"), linked)
				to.put("Input", n.at("input"), plain)
				to.put("InputPath", n.at("input_path"), plain)
				if v := n.at("input_transformer").object(map[string]string{"InputPathsMap": "input_paths", "InputTemplate": "input_template"}, plain); v != nil {
					to["InputTransformer"] = v
				}
				if v := n.at("retry_policy").object(map[string]string{"MaximumEventAgeInSeconds": "maximum_event_age_in_seconds", "MaximumRetryAttempts": "maximum_retry_attempts"}, plain); v != nil {
					to["RetryPolicy"] = v
				}
				if letters := n.at("dead_letter_config", "arn"); !letters.none() {
					to["DeadLetterConfig"] = map[string]any{"Arn": letters.link()}
				}
				add(rule, "Targets", to)
			} else {
				lost("a rule")
			}
		case "aws_s3_bucket_versioning":
			if bucket := t.target(n.at("bucket"), "aws_s3_bucket"); bucket != nil {
				if v := n.at("versioning_configuration").object(map[string]string{"Status": "status"}, plain); v != nil {
					bucket["VersioningConfiguration"] = v
				}
			}
		case "aws_s3_bucket_object_lock_configuration":
			if bucket := t.target(n.at("bucket"), "aws_s3_bucket"); bucket != nil {
				bucket["ObjectLockEnabled"] = true
				if v := n.at("rule", "default_retention").object(map[string]string{"Mode": "mode", "Days": "days", "Years": "years"}, plain); v != nil {
					bucket["ObjectLockConfiguration"] = map[string]any{"ObjectLockEnabled": "Enabled", "Rule": map[string]any{"DefaultRetention": v}}
				}
			}
		case "aws_s3_bucket_public_access_block":
			if bucket := t.target(n.at("bucket"), "aws_s3_bucket"); bucket != nil {
				if v := n.object(map[string]string{
					"BlockPublicAcls": "block_public_acls", "BlockPublicPolicy": "block_public_policy", "IgnorePublicAcls": "ignore_public_acls", "RestrictPublicBuckets": "restrict_public_buckets",
				}, plain); v != nil {
					bucket["PublicAccessBlockConfiguration"] = v
				}
			}
		case "aws_s3_bucket_server_side_encryption_configuration":
			if bucket := t.target(n.at("bucket"), "aws_s3_bucket"); bucket != nil {
				if v := n.at("rule", "apply_server_side_encryption_by_default").object(map[string]string{"SSEAlgorithm": "sse_algorithm", "KMSMasterKeyID": "kms_master_key_id"}, linked); v != nil {
					bucket["BucketEncryption"] = map[string]any{"ServerSideEncryptionConfiguration": []any{map[string]any{"ServerSideEncryptionByDefault": v}}}
				}
			}
		case "aws_s3_bucket_lifecycle_configuration":
			if bucket := t.target(n.at("bucket"), "aws_s3_bucket"); bucket != nil {
				var rules []any
				for _, r := range n.at("rule").items() {
					rule := properties{}
					rule.put("Id", r.at("id"), plain)
					rule.put("Status", r.at("status"), plain)
					rule.put("ExpirationInDays", r.at("expiration", "days"), plain)
					if prefix := r.at("filter", "prefix"); prefix.text() != "" {
						rule["Prefix"] = prefix.value()
					}
					if v := r.at("noncurrent_version_expiration", "noncurrent_days"); !v.none() {
						rule["NoncurrentVersionExpiration"] = map[string]any{"NoncurrentDays": v.value()}
					}
					rules = append(rules, rule)
				}
				bucket["LifecycleConfiguration"] = map[string]any{"Rules": rules}
			}
		}
	}
	for _, one := range t.order { // once each key has its policy
		if one.mode == "managed" && one.kind == "aws_kms_grant" {
			t.grant(t.node(one))
		}
	}
}

// grant adds to the policy of a key what a grant on it allows: of both, one that allows is
// enough, and a Deny of the policy stands above both.
//
// Source: AWS KMS Developer Guide, "Grants" and "Grant constraints".
func (t *translation) grant(n node) {
	key := t.target(n.at("key_id"), "aws_kms_key", "aws_kms_external_key", "aws_kms_replica_key")
	policy, _ := key["KeyPolicy"].(map[string]any)
	statements, ok := policy["Statement"].([]any)
	if !ok {
		t.note("%s is on a key that is not in the plan, or whose policy is not known: what it allows was not judged", n.of.address)
		return
	}
	var actions []any
	operations := n.at("operations")
	for _, operation := range operations.items() {
		name, _ := operation.value().(string)
		if name == "" {
			actions = []any{"kms:*"} // one that is not known can be any
			break
		}
		actions = append(actions, "kms:"+name)
	}
	if operations.open() || actions == nil {
		actions = []any{"kms:*"}
	}
	statement := map[string]any{
		"Sid": "Grant " + n.of.address, "Effect": "Allow", "Resource": "*", "Action": actions, "Principal": map[string]any{"AWS": n.at("grantee_principal").link()},
	}
	conditions := map[string]any{}
	for _, kind := range []string{"encryption_context_equals", "encryption_context_subset"} {
		context, ok := n.at("constraints", kind).value().(map[string]any)
		if !ok || len(context) == 0 {
			continue
		}
		pairs, names := map[string]any{}, []any{}
		for _, name := range slices.Sorted(maps.Keys(context)) {
			pairs["kms:EncryptionContext:"+name] = context[name]
			names = append(names, name)
		}
		conditions["StringEquals"] = pairs
		if kind == "encryption_context_equals" {
			conditions["ForAllValues:StringEquals"] = map[string]any{"kms:EncryptionContextKeys": names}
		}
	}
	if len(conditions) > 0 {
		statement["Condition"] = conditions
	}
	policy["Statement"] = append(statements, statement)
}

// associate adds an access policy to the entry of its principal.
func (t *translation) associate(n node, lost func(string)) {
	cluster, principal := n.at("cluster_name").link(), n.at("principal_arn").link()
	for _, one := range t.order {
		if one.kind != "aws_eks_access_entry" {
			continue
		}
		entry := t.node(one)
		if fmt.Sprint(entry.at("principal_arn").link()) != fmt.Sprint(principal) || fmt.Sprint(entry.at("cluster_name").link()) != fmt.Sprint(cluster) {
			continue
		}
		p := t.properties(one)
		scope := n.at("access_scope").object(map[string]string{"Type": "type", "Namespaces": "namespaces"}, plain)
		list, _ := p["AccessPolicies"].([]any)
		p["AccessPolicies"] = append(list, map[string]any{"PolicyArn": n.at("policy_arn").value(), "AccessScope": scope})
		return
	}
	lost("an access entry")
}
