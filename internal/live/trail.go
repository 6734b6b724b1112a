package live

import (
	"maps"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	ct "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/ekskms/ekskms/internal/place"
)

// trail is where a trail leads.
type trail struct{ key, bucket, group string }

// trails reads the trails that record the account and Region.
func (r *reading) trails() (all []trail) {
	on := "the trails of " + r.at.Region
	var found []ct.Trail
	r.ask("cloudtrail:DescribeTrails", on, func() error {
		out, err := cloudtrail.NewFromConfig(r.cfg).DescribeTrails(r.ctx, &cloudtrail.DescribeTrailsInput{})
		if err == nil {
			found = out.TrailList
		}
		return err
	})
	for _, t := range found {
		cfg := r.in(aws.ToString(t.HomeRegion))
		client := cloudtrail.NewFromConfig(cfg)
		one := &Resource{Type: "AWS::CloudTrail::Trail", ID: aws.ToString(t.Name), ARN: aws.ToString(t.TrailARN), Region: cfg.Region, Properties: settings(map[string]any{
			"TrailName": t.Name, "S3BucketName": t.S3BucketName, "S3KeyPrefix": t.S3KeyPrefix, "KMSKeyId": t.KmsKeyId, "IsMultiRegionTrail": t.IsMultiRegionTrail,
			"IncludeGlobalServiceEvents": t.IncludeGlobalServiceEvents, "EnableLogFileValidation": t.LogFileValidationEnabled, "IsOrganizationTrail": t.IsOrganizationTrail,
			"CloudWatchLogsLogGroupArn": t.CloudWatchLogsLogGroupArn, "CloudWatchLogsRoleArn": t.CloudWatchLogsRoleArn,
		})}
		owner, _ := place.ParseARN(one.ARN)
		one.Account = owner.AccountID
		on := "trail " + one.ARN
		r.set(one, "cloudtrail:GetTrailStatus", on, []string{"IsLogging"}, func() error {
			out, err := client.GetTrailStatus(r.ctx, &cloudtrail.GetTrailStatusInput{Name: t.TrailARN})
			if err != nil {
				return err
			}
			one.Properties["IsLogging"] = aws.ToBool(out.IsLogging)
			for _, e := range []struct {
				what string
				said *string
			}{{"log files", out.LatestDeliveryError}, {"digest files", out.LatestDigestDeliveryError}, {"CloudWatch Logs", out.LatestCloudWatchLogsDeliveryError}} {
				if said := aws.ToString(e.said); said != "" {
					one.State.Troubles = append(one.State.Troubles, e.what+" are not delivered: "+said)
				}
			}
			return nil
		})
		r.set(one, "cloudtrail:GetEventSelectors", on, []string{"EventSelectors", "AdvancedEventSelectors"}, func() error {
			out, err := client.GetEventSelectors(r.ctx, &cloudtrail.GetEventSelectorsInput{TrailName: t.TrailARN})
			if err != nil {
				return err
			}
			maps.Copy(one.Properties, selectors(out))
			return nil
		})
		r.add(one)
		_, group, _ := strings.Cut(aws.ToString(t.CloudWatchLogsLogGroupArn), ":log-group:")
		if owner.AccountID != r.at.ID {
			continue // that of an organization: its bucket and its log group are its owner's
		}
		all = append(all, trail{aws.ToString(t.KmsKeyId), aws.ToString(t.S3BucketName), strings.TrimSuffix(group, ":*")})
	}
	return all
}

func selectors(out *cloudtrail.GetEventSelectorsOutput) map[string]any {
	p := map[string]any{}
	var basic, advanced []any
	for _, s := range out.EventSelectors {
		var data []any
		for _, d := range s.DataResources {
			data = append(data, object(map[string]any{"Type": d.Type, "Values": texts(d.Values)}))
		}
		selector := map[string]any{
			"ReadWriteType": string(s.ReadWriteType), "IncludeManagementEvents": s.IncludeManagementEvents, "ExcludeManagementEventSources": texts(s.ExcludeManagementEventSources),
		}
		if data != nil {
			selector["DataResources"] = data
		}
		basic = append(basic, object(selector))
	}
	for _, s := range out.AdvancedEventSelectors {
		var fields []any
		for _, f := range s.FieldSelectors {
			fields = append(fields, object(map[string]any{
				"Field": f.Field, "Equals": texts(f.Equals), "NotEquals": texts(f.NotEquals), "StartsWith": texts(f.StartsWith), "NotStartsWith": texts(f.NotStartsWith),
				"EndsWith": texts(f.EndsWith), "NotEndsWith": texts(f.NotEndsWith),
			}))
		}
		advanced = append(advanced, map[string]any{"FieldSelectors": fields})
	}
	if basic != nil {
		p["EventSelectors"] = basic
	}
	if advanced != nil {
		p["AdvancedEventSelectors"] = advanced
	}
	return p
}

// bucket reads a bucket of log files, and returns its key.
func (r *reading) bucket(name string) (key string) {
	if !r.first("AWS::S3::Bucket", name) {
		return ""
	}
	client := s3.NewFromConfig(r.cfg, func(o *s3.Options) {
		o.UsePathStyle = o.BaseEndpoint != nil // an address of one's own has no name for each bucket
	})
	on := "bucket " + name
	one := &Resource{Type: "AWS::S3::Bucket", ID: name, ARN: "arn:" + r.at.Partition + ":s3:::" + name, Properties: map[string]any{"BucketName": name}}
	// The bucket of a central account is not that of this one: S3 tells whose it is by
	// refusing one that is expected to be of another.
	owner := &r.at.ID
	gone := false
	ask := func(action string, names []string, call func() error) {
		if !gone {
			r.set(one, action, on, names, call)
		}
	}
	ask("s3:GetBucketVersioning", []string{"VersioningConfiguration"}, func() error {
		out, err := client.GetBucketVersioning(r.ctx, &s3.GetBucketVersioningInput{Bucket: &name, ExpectedBucketOwner: owner})
		if err == nil {
			one.Properties["VersioningConfiguration"] = object(map[string]any{"Status": string(out.Status)})
		} else if strings.Contains(err.Error(), "NoSuchBucket") {
			gone = true
		}
		return err
	})
	if gone {
		return ""
	}
	ask("s3:GetBucketObjectLockConfiguration", []string{"ObjectLockEnabled", "ObjectLockConfiguration"}, func() error {
		out, err := client.GetObjectLockConfiguration(r.ctx, &s3.GetObjectLockConfigurationInput{Bucket: &name, ExpectedBucketOwner: owner})
		if err != nil || out.ObjectLockConfiguration == nil {
			return err
		}
		c := out.ObjectLockConfiguration
		one.Properties["ObjectLockEnabled"] = c.ObjectLockEnabled == s3types.ObjectLockEnabledEnabled
		lock := map[string]any{"ObjectLockEnabled": string(c.ObjectLockEnabled)}
		if c.Rule != nil && c.Rule.DefaultRetention != nil {
			d := c.Rule.DefaultRetention
			lock["Rule"] = map[string]any{"DefaultRetention": object(map[string]any{"Mode": string(d.Mode), "Days": d.Days, "Years": d.Years})}
		}
		one.Properties["ObjectLockConfiguration"] = lock
		return nil
	})
	ask("s3:GetBucketPublicAccessBlock", []string{"PublicAccessBlockConfiguration"}, func() error {
		out, err := client.GetPublicAccessBlock(r.ctx, &s3.GetPublicAccessBlockInput{Bucket: &name, ExpectedBucketOwner: owner})
		if err != nil || out.PublicAccessBlockConfiguration == nil {
			return err
		}
		c := out.PublicAccessBlockConfiguration
		one.Properties["PublicAccessBlockConfiguration"] = object(map[string]any{
			"BlockPublicAcls": c.BlockPublicAcls, "BlockPublicPolicy": c.BlockPublicPolicy, "IgnorePublicAcls": c.IgnorePublicAcls, "RestrictPublicBuckets": c.RestrictPublicBuckets,
		})
		return nil
	})
	ask("s3:GetEncryptionConfiguration", []string{"BucketEncryption"}, func() error {
		out, err := client.GetBucketEncryption(r.ctx, &s3.GetBucketEncryptionInput{Bucket: &name, ExpectedBucketOwner: owner})
		if err != nil || out.ServerSideEncryptionConfiguration == nil {
			return err
		}
		var rules []any
		for _, rule := range out.ServerSideEncryptionConfiguration.Rules {
			to := map[string]any{}
			if d := rule.ApplyServerSideEncryptionByDefault; d != nil {
				to["ServerSideEncryptionByDefault"] = object(map[string]any{"SSEAlgorithm": string(d.SSEAlgorithm), "KMSMasterKeyID": d.KMSMasterKeyID})
				key = aws.ToString(d.KMSMasterKeyID)
			}
			to["BucketKeyEnabled"] = rule.BucketKeyEnabled
			rules = append(rules, object(to))
		}
		one.Properties["BucketEncryption"] = map[string]any{"ServerSideEncryptionConfiguration": rules}
		return nil
	})
	ask("s3:GetLifecycleConfiguration", []string{"LifecycleConfiguration"}, func() error {
		out, err := client.GetBucketLifecycleConfiguration(r.ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: &name, ExpectedBucketOwner: owner})
		if err != nil {
			return err
		}
		var rules []any
		for _, l := range out.Rules {
			rules = append(rules, lifecycle(l))
		}
		if rules != nil {
			one.Properties["LifecycleConfiguration"] = map[string]any{"Rules": rules}
		}
		return nil
	})
	r.add(one)
	policy := &Resource{Type: "AWS::S3::BucketPolicy", ID: name, Properties: map[string]any{"Bucket": name}}
	if r.set(policy, "s3:GetBucketPolicy", on, []string{"PolicyDocument"}, func() error {
		out, err := client.GetBucketPolicy(r.ctx, &s3.GetBucketPolicyInput{Bucket: &name, ExpectedBucketOwner: owner})
		if err == nil {
			policy.Properties["PolicyDocument"] = document(out.Policy)
		}
		return err
	}) != missing {
		r.add(policy)
	}
	return key
}

func lifecycle(l s3types.LifecycleRule) any {
	rule := map[string]any{"Id": l.ID, "Status": string(l.Status), "Prefix": l.Prefix} //nolint:staticcheck // the old place of the prefix is in use
	if l.Filter != nil && l.Filter.Prefix != nil {
		rule["Prefix"] = l.Filter.Prefix
	}
	if l.Expiration != nil {
		rule["ExpirationInDays"] = l.Expiration.Days
	}
	if n := l.NoncurrentVersionExpiration; n != nil {
		rule["NoncurrentVersionExpiration"] = object(map[string]any{"NoncurrentDays": n.NoncurrentDays})
	}
	if a := l.AbortIncompleteMultipartUpload; a != nil {
		rule["AbortIncompleteMultipartUpload"] = object(map[string]any{"DaysAfterInitiation": a.DaysAfterInitiation})
	}
	return object(rule)
}

// logGroup reads a log group, and returns its key.
func (r *reading) logGroup(name string) (key string) {
	if !r.first("AWS::Logs::LogGroup", name) {
		return ""
	}
	pages := cloudwatchlogs.NewDescribeLogGroupsPaginator(cloudwatchlogs.NewFromConfig(r.cfg), &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: &name})
	r.pages("logs:DescribeLogGroups", "log group "+name, pages.HasMorePages, func() error {
		page, err := pages.NextPage(r.ctx)
		if err != nil {
			return err
		}
		for _, g := range page.LogGroups {
			if aws.ToString(g.LogGroupName) != name {
				continue
			}
			key = aws.ToString(g.KmsKeyId)
			r.add(&Resource{Type: "AWS::Logs::LogGroup", ID: name, ARN: place.In(r.at.ID, r.at.Region).ARN("logs", "log-group:"+name+":*"), Properties: settings(map[string]any{
				"LogGroupName": name, "RetentionInDays": g.RetentionInDays, "KmsKeyId": g.KmsKeyId,
			})})
		}
		return nil
	})
	return key
}
