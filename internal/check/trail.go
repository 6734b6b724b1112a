package check

import (
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/place"
)

const kmsSource = "kms.amazonaws.com"

func (c *checker) checkTrail(t *estate.Thing) {
	p := t.Settings
	c.report.Checked.Trails = append(c.report.Checked.Trails, t.Resource)
	for _, name := range []string{"IsLogging", "EventSelectors", "AdvancedEventSelectors", "EnableLogFileValidation", "KMSKeyId"} {
		// A KMSKeyId from elsewhere is a key all the same.
		if unknown(p[name]) && name != "KMSKeyId" {
			c.noteAt(t.Resource, "%s is %s, which is not in the template: it was not judged", name, show(p[name]))
		}
	}
	if !isTrue(p["IsLogging"], true) {
		c.find("trail-not-logging", t, "IsLogging is %s", show(p["IsLogging"]))
	}
	if why := leavesOutKMS(p); why != "" {
		if other := c.recordsKMS(t); other != nil {
			c.noteAt(t.Resource, "the trail leaves out calls to KMS (%s); %s records them", why, other.Resource)
		} else {
			c.find("trail-excludes-kms", t, "%s", why)
		}
	}
	if !unknown(p["EnableLogFileValidation"]) && !isTrue(p["EnableLogFileValidation"], false) {
		c.find("trail-no-validation", t, "EnableLogFileValidation is %s", show(p["EnableLogFileValidation"]))
	}
	if key := p["KMSKeyId"]; key == nil || key == "" {
		c.find("trail-not-encrypted", t, "KMSKeyId is not set")
	}
	name := p["S3BucketName"]
	switch bucket := c.estate.LookupOf(t, name, estate.KindBucket); bucket {
	case nil:
		c.noteAt(t.Resource, "the bucket %s is not in the templates: its retention was not judged", show(name))
	default:
		c.checkRetained("trail-logs-deletable", bucket)
	}
}

// recordsKMS returns another trail of the same account that records calls to KMS
// in the trail's Region.
func (c *checker) recordsKMS(t *estate.Thing) *estate.Thing {
	for _, other := range c.estate.Of(estate.KindTrail) {
		p := other.Settings
		if other != t && other.In.Account == t.In.Account && leavesOutKMS(p) == "" && isTrue(p["IsLogging"], true) &&
			(other.In.Region == t.In.Region || isTrue(p["IsMultiRegionTrail"], false)) {
			return other
		}
	}
	return nil
}

// Records tells whether a trail with these properties puts all calls to KMS on record, as far as
// that is known.
func Records(trail map[string]any) bool {
	for _, name := range []string{"IsLogging", "EventSelectors", "AdvancedEventSelectors"} {
		if unknown(trail[name]) {
			return false
		}
	}
	return isTrue(trail["IsLogging"], true) && leavesOutKMS(trail) == ""
}

// leavesOutKMS says how a trail's selectors leave out calls to KMS, if they do.
// Reads count as well as writes: Decrypt is a read. Several selectors add up.
// Source: AWS CloudTrail User Guide, "Logging management events".
func leavesOutKMS(p map[string]any) string {
	advanced, basic := p["AdvancedEventSelectors"], p["EventSelectors"]
	if unknown(advanced) || unknown(basic) {
		return ""
	}
	var reads, writes bool
	var why []string
	switch {
	case len(list(advanced)) > 0:
		for _, s := range list(advanced) {
			r, w, reason := advancedSelector(s)
			reads, writes = reads || r, writes || w
			why = append(why, reason)
		}
	case len(list(basic)) > 0:
		for _, s := range list(basic) {
			r, w, reason := basicSelector(s)
			reads, writes = reads || r, writes || w
			why = append(why, reason)
		}
	default:
		// Without selectors a trail records all management events.
		return ""
	}
	if reads && writes {
		return ""
	}
	why = slices.DeleteFunc(slices.Compact(why), func(s string) bool { return s == "" })
	return strings.Join(why, "; ")
}

func basicSelector(s any) (reads, writes bool, why string) {
	if !isTrue(at(s, "IncludeManagementEvents"), true) {
		return false, false, "IncludeManagementEvents is " + show(at(s, "IncludeManagementEvents"))
	}
	if excluded := at(s, "ExcludeManagementEventSources"); slices.Contains(texts(excluded), kmsSource) {
		return false, false, "ExcludeManagementEventSources is " + show(excluded)
	}
	switch kind := text(at(s, "ReadWriteType")); kind {
	case "ReadOnly":
		return true, false, "ReadWriteType is ReadOnly"
	case "WriteOnly":
		return false, true, "ReadWriteType is WriteOnly, and Decrypt is a read"
	}
	return true, true, ""
}

func advancedSelector(s any) (reads, writes bool, why string) {
	reads, writes = true, true
	management := false
	for _, f := range list(at(s, "FieldSelectors")) {
		name := text(at(f, "Field"))
		switch name {
		case "eventCategory":
			management = selects(f, "Management")
		case "eventSource":
			if !selects(f, kmsSource) {
				return false, false, "AdvancedEventSelectors leave out eventSource " + kmsSource
			}
		case "readOnly":
			reads, writes = selects(f, "true"), selects(f, "false")
		default:
			// Any other field narrows the selector: it is not for all events.
			reads, writes = false, false
		}
		if name != "eventCategory" && (!reads || !writes) {
			why = "AdvancedEventSelectors have a condition on " + name
		}
	}
	if !management {
		return false, false, "AdvancedEventSelectors have no eventCategory Management"
	}
	return reads, writes, why
}

// selects tells whether a field selector of CloudTrail takes a value.
func selects(f any, value string) bool {
	for _, operator := range []struct {
		name  string
		match func(value, operand string) bool
	}{
		{"Equals", func(v, o string) bool { return v == o }},
		{"StartsWith", strings.HasPrefix},
		{"EndsWith", strings.HasSuffix},
	} {
		if operands := at(f, operator.name); operands != nil && !slices.ContainsFunc(texts(operands), func(o string) bool { return operator.match(value, o) }) {
			return false
		}
		negated := "Not" + operator.name
		if slices.ContainsFunc(texts(at(f, negated)), func(o string) bool { return operator.match(value, o) }) {
			return false
		}
	}
	return true
}

// checkRecorded wants a trail that records the Region of a key, or of a cluster
// whose key is elsewhere.
func (c *checker) checkRecorded(r *estate.Thing) {
	trails := slices.DeleteFunc(slices.Clone(c.estate.Of(estate.KindTrail)), func(t *estate.Thing) bool {
		return t.In.Account != r.In.Account && !isTrue(t.Settings["IsOrganizationTrail"], false)
	})
	for _, t := range trails {
		if t.In.Region == r.In.Region || isTrue(t.Settings["IsMultiRegionTrail"], false) || unknown(t.Settings["IsMultiRegionTrail"]) {
			return
		}
	}
	if len(trails) > 0 {
		c.find("trail-missing", r, "no trail of the templates records Region %s: the trail %s is in %s, and IsMultiRegionTrail is not true", r.In.Region, trails[0].Resource, trails[0].In.Region)
		return
	}
	if arn := c.trailElsewhere(r.In.Account); arn != "" {
		c.noteAt(r.Resource, "the template relies on the trail %s, which is not in the templates: whether it records KMS was not judged", arn)
		return
	}
	c.find("trail-missing", r, "the templates have no AWS::CloudTrail::Trail for account %s", r.In.Account)
}

// trailElsewhere returns the ARN of a trail that is not in the templates and that
// they nevertheless rely on: an output names it, as those of ekskms do for an
// existing trail. Alarms on CloudTrail's events alone show nothing, for without a
// trail they never fire; and a template that has the bucket for a trail was
// meant to have the trail too.
func (c *checker) trailElsewhere(account string) string {
	for _, policy := range c.estate.Of(estate.KindBucketPolicy) {
		if policy.In.Account != account {
			continue
		}
		for _, s := range list(at(policy.Settings, "PolicyDocument", "Statement")) {
			if slices.Contains(texts(at(s, "Principal", "Service")), "cloudtrail.amazonaws.com") {
				return ""
			}
		}
	}
	for _, t := range c.estate.Stacks {
		if t.Account != account {
			continue
		}
		for _, name := range sortedKeys(t.Outputs) {
			value := text(t.Outputs[name])
			if arn, _ := place.ParseARN(value); arn.Service == "cloudtrail" && strings.HasPrefix(arn.Resource, "trail/") {
				return value
			}
		}
	}
	return ""
}
