package terraform

import (
	"strconv"
	"strings"

	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/tamper"
)

func (m *module) audit() *file {
	f := newFile("audit.tf")
	if key, needed := m.c.AuditKey(); needed {
		m.c.Refs.AuditKey = reference("aws_kms_key.audit.arn")
		m.kmsKey(f, "The key of the audit trail and the alarms.", "audit", key)
	}
	if m.c.NewTrail() {
		m.bucket(f)
		m.trail(f)
	}
	if m.c.NewTopic() {
		m.topic(f)
	}
	m.alarms(f)
	return f
}

// bucket writes the bucket of the trail's logs. Its settings are resources of
// their own in this provider.
func (m *module) bucket(f *file) {
	bucket := m.c.TrailBucket()
	f.resource("", "aws_s3_bucket", "trail", func(b body) {
		// Names of buckets have no underscores and no capitals, and the provider
		// leaves 37 characters for a prefix.
		b.set("bucket_prefix", "ekskms-"+cut(strings.ToLower(strings.ReplaceAll(m.c.Name, "_", "-")), 20)+"-trail-")
		b.retain()
	})
	part := func(typ string, fill func(body)) {
		f.resource("", typ, "trail", func(b body) {
			b.set("bucket", raw("aws_s3_bucket.trail.id"))
			fill(b)
		})
	}
	part("aws_s3_bucket_public_access_block", func(b body) {
		for _, name := range []string{"block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"} {
			b.set(name, true)
		}
	})
	part("aws_s3_bucket_ownership_controls", func(b body) {
		b.block("rule", nil, func(b body) { b.set("object_ownership", "BucketOwnerEnforced") })
	})
	part("aws_s3_bucket_versioning", func(b body) {
		b.block("versioning_configuration", nil, func(b body) { b.set("status", "Enabled") })
	})
	part("aws_s3_bucket_server_side_encryption_configuration", func(b body) {
		b.block("rule", nil, func(b body) {
			b.block("apply_server_side_encryption_by_default", nil, func(b body) { b.set("sse_algorithm", "AES256") })
		})
	})
	part("aws_s3_bucket_lifecycle_configuration", func(b body) {
		b.block("rule", nil, func(b body) {
			b.set("id", bucket.RuleID)
			b.set("status", "Enabled")
			b.block("filter", nil, func(body) {})
			b.block("expiration", nil, func(b body) { b.set("days", bucket.Days) })
			b.block("noncurrent_version_expiration", nil, func(b body) { b.set("noncurrent_days", bucket.Days) })
			b.block("abort_incomplete_multipart_upload", nil, func(b body) { b.set("days_after_initiation", bucket.UploadDays) })
		})
		// S3 refuses rules on old versions while there can be none.
		b.set("depends_on", raw("[aws_s3_bucket_versioning.trail]"))
	})
	bucketARN := ref("aws_s3_bucket.trail.arn")
	statements := append(keypolicy.BucketTLS(bucketARN, strconv.FormatFloat(bucket.TLS, 'f', -1, 64)), m.c.TrailStatements(bucketARN)...)
	part("aws_s3_bucket_policy", func(b body) {
		b.set("policy", policy(statements))
		b.retain()
		b.set("depends_on", raw("[aws_s3_bucket_public_access_block.trail, aws_s3_bucket_ownership_controls.trail]"))
	})
}

func (m *module) trail(f *file) {
	group, copied := m.c.TrailCopy()
	groupARN := ref("aws_cloudwatch_log_group.trail.arn")
	if copied {
		m.logGroup(f, "A copy of the trail. Whoever IAM lets read the group reads it.", "trail", group, "aws_kms_key.audit.arn")
		m.role(f, "", "trail", m.c.TrailRole(groupARN), own{name: "logs"})
	}
	f.resource("Every use of the key is a management event: all of them, of all Regions, are recorded.", "aws_cloudtrail", "this", func(b body) {
		b.set("name", m.c.Trail().Name)
		b.set("s3_bucket_name", raw("aws_s3_bucket.trail.id"))
		b.set("kms_key_id", raw("aws_kms_key.audit.arn"))
		b.set("enable_logging", true)
		b.set("enable_log_file_validation", true)
		b.set("is_multi_region_trail", true)
		b.set("include_global_service_events", true)
		waits := "[aws_s3_bucket_policy.trail]"
		if copied {
			b.set("cloud_watch_logs_group_arn", groupARN+":*")
			b.set("cloud_watch_logs_role_arn", raw("aws_iam_role.trail.arn"))
			waits = "[aws_s3_bucket_policy.trail, aws_iam_role_policy.trail]"
		}
		b.block("event_selector", nil, func(b body) {
			b.set("include_management_events", true)
			b.set("read_write_type", "All")
		})
		b.set("depends_on", raw(waits))
	})
}

func (m *module) topic(f *file) {
	f.resource("", "aws_sns_topic", "alarms", func(b body) {
		b.set("name", m.c.Topic().Name)
		b.set("display_name", m.c.Topic().Display)
		b.set("kms_master_key_id", raw("aws_kms_key.audit.arn"))
	})
	f.resource("", "aws_sns_topic_policy", "alarms", func(b body) {
		b.set("arn", raw("aws_sns_topic.alarms.arn"))
		b.set("policy", policy(m.c.TopicStatements(ref("aws_sns_topic.alarms.arn"))))
	})
	if len(m.c.Audit.Emails) > 0 {
		f.resource("Each address must confirm its subscription by mail.", "aws_sns_topic_subscription", "emails", func(b body) {
			b.set("for_each", call{"toset", []any{m.c.Audit.Emails}})
			b.set("topic_arn", raw("aws_sns_topic.alarms.arn"))
			b.set("protocol", "email")
			b.set("endpoint", raw("each.value"))
		})
	}
}

// topicARN is the topic of the alarms, the new one or the configured one.
func (m *module) topicARN() any {
	if !m.c.NewTopic() {
		return m.c.Topic().ARN
	}
	return raw("aws_sns_topic.alarms.arn")
}

func (m *module) alarms(f *file) {
	rules := map[string]any{}
	for _, r := range m.c.Alarms() {
		rules[r.ID] = map[string]any{"description": r.Description, "pattern": plain(r.Pattern), "template": r.Template}
	}
	f.add("The API calls that raise an alarm, and what the alarm says.", "locals", nil, func(b body) {
		b.set("alarms", rules)
	})
	f.resource("", "aws_cloudwatch_event_rule", "alarm", func(b body) {
		b.set("for_each", raw("local.alarms"))
		// The longest ID has 20 of the 38 characters that the provider leaves.
		b.set("name_prefix", cut(m.c.Name, 16)+"-"+ref("each.key")+"-")
		b.set("description", raw("each.value.description"))
		b.set("event_pattern", jsonencode(raw("each.value.pattern")))
		b.set("state", "ENABLED")
	})
	f.resource("", "aws_cloudwatch_event_target", "alarm", func(b body) {
		b.set("for_each", raw("local.alarms"))
		b.set("rule", raw("aws_cloudwatch_event_rule.alarm[each.key].name"))
		b.set("target_id", "Topic")
		b.set("arn", m.topicARN())
		b.block("input_transformer", nil, func(b body) {
			b.set("input_paths", plain(tamper.Paths()))
			b.set("input_template", raw("each.value.template"))
		})
		if m.c.NewTopic() {
			b.set("depends_on", raw("[aws_sns_topic_policy.alarms]"))
		}
	})
}
