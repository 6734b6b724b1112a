package terraform

import (
	"strings"

	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/names"
	"github.com/ekskms/ekskms/internal/tamper"
)

func (m *module) audit() *file {
	f := newFile("audit.tf")
	auditKeyARN := ""
	if key, needed := m.c.AuditKey(); needed {
		auditKeyARN = ref("aws_kms_key.audit.arn")
		m.kmsKey(f, "The key of the audit trail and the alarms.", "audit", names.AuditAlias(m.c.Name),
			"Encrypts the audit trail and the alarms of EKS cluster "+m.c.Name, supportKey, policy(key.Statements()))
	}
	if m.c.Audit.TrailARN == "" {
		m.bucket(f)
		m.trail(f)
	}
	if m.c.Audit.TopicARN == "" {
		m.topic(f)
	}
	m.alarms(f, auditKeyARN)
	return f
}

// bucket writes the bucket of the trail's logs. Its settings are resources of
// their own in this provider.
func (m *module) bucket(f *file) {
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
			b.set("id", "Retention")
			b.set("status", "Enabled")
			b.block("filter", nil, func(body) {})
			b.block("expiration", nil, func(b body) { b.set("days", m.c.Audit.RetentionDays) })
			b.block("noncurrent_version_expiration", nil, func(b body) { b.set("noncurrent_days", m.c.Audit.RetentionDays) })
			b.block("abort_incomplete_multipart_upload", nil, func(b body) { b.set("days_after_initiation", 7) })
		})
		// S3 refuses rules on old versions while there can be none.
		b.set("depends_on", raw("[aws_s3_bucket_versioning.trail]"))
	})
	bucketARN := ref("aws_s3_bucket.trail.arn")
	_, trailARN := m.c.Trail()
	statements := append(keypolicy.BucketTLS(bucketARN), keypolicy.LogBucket(bucketARN, m.c.Place.Account, trailARN)...)
	part("aws_s3_bucket_policy", func(b body) {
		b.set("policy", policy(statements))
		b.retain()
		b.set("depends_on", raw("[aws_s3_bucket_public_access_block.trail, aws_s3_bucket_ownership_controls.trail]"))
	})
}

func (m *module) trail(f *file) {
	copied := m.c.Audit.CloudWatchLogsRetentionDays
	if copied != 0 {
		m.logGroup(f, "A copy of the trail. Whoever IAM lets read the group reads it.", "trail", names.TrailLogGroup(m.c.Name), copied, "aws_kms_key.audit.arn")
		m.role(f, "", "trail", "trail", "Lets CloudTrail write to the log group of EKS cluster "+m.c.Name, "/", trust("cloudtrail.amazonaws.com"))
		f.resource("", "aws_iam_role_policy", "trail", func(b body) {
			b.set("name", "logs")
			b.set("role", raw("aws_iam_role.trail.id"))
			b.set("policy", policy([]iampolicy.Statement{{
				Effect:   iampolicy.Allow,
				Action:   iampolicy.Values{"logs:CreateLogStream", "logs:PutLogEvents"},
				Resource: iampolicy.Values{ref("aws_cloudwatch_log_group.trail.arn") + ":*"},
			}}))
		})
	}
	name, _ := m.c.Trail()
	f.resource("Every use of the key is a management event: all of them, of all Regions, are recorded.", "aws_cloudtrail", "this", func(b body) {
		b.set("name", name)
		b.set("s3_bucket_name", raw("aws_s3_bucket.trail.id"))
		b.set("kms_key_id", raw("aws_kms_key.audit.arn"))
		b.set("enable_logging", true)
		b.set("enable_log_file_validation", true)
		b.set("is_multi_region_trail", true)
		b.set("include_global_service_events", true)
		waits := "[aws_s3_bucket_policy.trail]"
		if copied != 0 {
			b.set("cloud_watch_logs_group_arn", ref("aws_cloudwatch_log_group.trail.arn")+":*")
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
		b.set("name", names.Topic(m.c.Name))
		b.set("display_name", names.TopicDisplay(m.c.Name))
		b.set("kms_master_key_id", raw("aws_kms_key.audit.arn"))
	})
	f.resource("", "aws_sns_topic_policy", "alarms", func(b body) {
		b.set("arn", raw("aws_sns_topic.alarms.arn"))
		b.set("policy", policy(keypolicy.AlarmTopic(ref("aws_sns_topic.alarms.arn"))))
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

func (m *module) alarms(f *file, auditKeyARN string) {
	rules := map[string]any{}
	for _, r := range m.c.Alarms(m.keyARN, auditKeyARN, m.roles.Creators) {
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
	topic := any(raw("aws_sns_topic.alarms.arn"))
	if m.c.Audit.TopicARN != "" {
		topic = m.c.Audit.TopicARN
	}
	f.resource("", "aws_cloudwatch_event_target", "alarm", func(b body) {
		b.set("for_each", raw("local.alarms"))
		b.set("rule", raw("aws_cloudwatch_event_rule.alarm[each.key].name"))
		b.set("target_id", "Topic")
		b.set("arn", topic)
		b.block("input_transformer", nil, func(b body) {
			b.set("input_paths", plain(tamper.Paths()))
			b.set("input_template", raw("each.value.template"))
		})
		if m.c.Audit.TopicARN == "" {
			b.set("depends_on", raw("[aws_sns_topic_policy.alarms]"))
		}
	})
}

// network writes a new VPC as the CDK lays it out: a public and a private subnet
// in each Availability Zone, all of one size.
func (m *module) network() *file {
	f := newFile("network.tf")
	if m.c.VPC.ID != "" {
		return f
	}
	zones, count := any(m.c.VPC.AvailabilityZones), len(m.c.VPC.AvailabilityZones)
	if count == 0 {
		count = 2
		m.variables.add("", "variable", []string{"availability_zones"}, func(b body) {
			b.set("description", "The two Availability Zones of the VPC. Default: the first two of the Region.")
			b.set("type", raw("list(string)"))
			b.set("default", raw("null"))
			b.block("validation", nil, func(b body) {
				b.set("condition", raw("var.availability_zones == null ? true : length(distinct(var.availability_zones)) == 2"))
				b.set("error_message", "Name two different Availability Zones.")
			})
		})
		f.data("aws_availability_zones", "available", func(b body) {
			b.set("count", raw("var.availability_zones == null ? 1 : 0"))
			b.set("state", "available")
			b.block("filter", nil, func(b body) { // no Local Zones
				b.set("name", "opt-in-status")
				b.set("values", []string{"opt-in-not-required"})
			})
		})
		zones = raw("var.availability_zones != null ? var.availability_zones : slice(data.aws_availability_zones.available[0].names, 0, 2)")
	}
	bits := 0
	for 1<<bits < 2*count {
		bits++
	}
	numbers, nats, routes := map[string]any{}, map[string]any{}, map[string]any{}
	for i := range count {
		key := string(rune('1' + i))
		numbers[key] = i
		routes[key] = string(rune('1' + i%min(m.c.VPC.NATGateways, count)))
		if i < m.c.VPC.NATGateways {
			nats[key] = i
		}
	}
	f.add("The numbers of the zones are the keys of what is made in them.", "locals", nil, func(b body) {
		b.set("availability_zones", zones)
		b.set("zones", numbers)
		b.set("nat_gateways", nats)
		b.set("nat_gateway_of", routes)
	})
	name := func(b body, what string) { b.set("tags", map[string]any{"Name": m.c.Name + what}) }
	f.resource("", "aws_vpc", "this", func(b body) {
		b.set("cidr_block", m.c.VPC.CIDR)
		b.set("enable_dns_hostnames", true)
		b.set("enable_dns_support", true)
		name(b, "")
	})
	f.resource("No rules: nothing is reached through the default security group.", "aws_default_security_group", "this", func(b body) {
		b.set("vpc_id", raw("aws_vpc.this.id"))
	})
	subnet := func(kind, role string, first int) {
		f.resource("", "aws_subnet", kind, func(b body) {
			b.set("for_each", raw("local.zones"))
			b.set("vpc_id", raw("aws_vpc.this.id"))
			b.set("availability_zone", raw("local.availability_zones[each.value]"))
			b.set("cidr_block", call{"cidrsubnet", []any{raw("aws_vpc.this.cidr_block"), bits, raw(addition(first))}})
			b.set("map_public_ip_on_launch", kind == "public")
			b.set("tags", map[string]any{"Name": m.c.Name + "-" + kind + "-" + ref("each.key"), "kubernetes.io/role/" + role: "1"})
		})
	}
	subnet("public", "elb", 0)
	subnet("private", "internal-elb", count)
	f.resource("", "aws_internet_gateway", "this", func(b body) {
		b.set("vpc_id", raw("aws_vpc.this.id"))
		name(b, "")
	})
	f.resource("", "aws_eip", "nat", func(b body) {
		b.set("for_each", raw("local.nat_gateways"))
		b.set("domain", "vpc")
		name(b, "-nat-"+ref("each.key"))
		b.set("depends_on", raw("[aws_internet_gateway.this]"))
	})
	f.resource("", "aws_nat_gateway", "this", func(b body) {
		b.set("for_each", raw("local.nat_gateways"))
		b.set("allocation_id", raw("aws_eip.nat[each.key].id"))
		b.set("subnet_id", raw("aws_subnet.public[each.key].id"))
		name(b, "-"+ref("each.key"))
		b.set("depends_on", raw("[aws_route.public]"))
	})
	table := func(kind string, each bool) {
		index := ""
		if each {
			index = "[each.key]"
		}
		f.resource("", "aws_route_table", kind, func(b body) {
			suffix := "-" + kind
			if each {
				b.set("for_each", raw("local.zones"))
				suffix += "-" + ref("each.key")
			}
			b.set("vpc_id", raw("aws_vpc.this.id"))
			name(b, suffix)
		})
		f.resource("", "aws_route", kind, func(b body) {
			if each {
				b.set("for_each", raw("local.zones"))
			}
			b.set("route_table_id", raw("aws_route_table."+kind+index+".id"))
			b.set("destination_cidr_block", "0.0.0.0/0")
			if each {
				b.set("nat_gateway_id", raw("aws_nat_gateway.this[local.nat_gateway_of[each.key]].id"))
			} else {
				b.set("gateway_id", raw("aws_internet_gateway.this.id"))
			}
		})
		f.resource("", "aws_route_table_association", kind, func(b body) {
			b.set("for_each", raw("local.zones"))
			b.set("subnet_id", raw("aws_subnet."+kind+"[each.key].id"))
			b.set("route_table_id", raw("aws_route_table."+kind+index+".id"))
		})
	}
	table("public", false)
	table("private", true)
	return f
}

func addition(n int) string {
	if n == 0 {
		return "each.value"
	}
	return "each.value + " + string(rune('0'+n))
}
