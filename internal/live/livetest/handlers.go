package livetest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/place"
)

type handler func(a *AWS, c *call) (any, error)

// handlers are what the fake answers.
var handlers map[string]handler

func init() {
	handlers = map[string]handler{
		"sts:GetCallerIdentity": func(a *AWS, c *call) (any, error) {
			arn := a.Caller
			if arn == "" {
				arn = place.In(c.account, c.region).IAM("user/caller")
			}
			return map[string]any{"Account": c.account, "Arn": arn, "UserId": "AIDA"}, nil
		},
		"sts:AssumeRole":            assumeRole,
		"iam:ListRoles":             listRoles,
		"eks:DescribeAddonVersions": describeAddonVersions,

		"eks:DescribeCluster":                describeCluster,
		"eks:ListAccessEntries":              ofCluster("AWS::EKS::AccessEntry", "accessEntries", func(t *Thing) any { return t.Properties["PrincipalArn"] }),
		"eks:DescribeAccessEntry":            describeAccessEntry,
		"eks:ListAssociatedAccessPolicies":   listAssociatedAccessPolicies,
		"eks:ListPodIdentityAssociations":    ofCluster("AWS::EKS::PodIdentityAssociation", "associations", association),
		"eks:DescribePodIdentityAssociation": describeOne("AWS::EKS::PodIdentityAssociation", "association", association, "RoleArn", "TargetRoleArn"),
		"eks:ListNodegroups":                 ofCluster("AWS::EKS::Nodegroup", "nodegroups", func(t *Thing) any { return t.ID[strings.Index(t.ID, "/")+1:] }),
		"eks:DescribeNodegroup":              describeOne("AWS::EKS::Nodegroup", "nodegroup", nil, "Version", "NodeRole"),
		"eks:ListAddons":                     ofCluster("AWS::EKS::Addon", "addons", func(t *Thing) any { return t.Properties["AddonName"] }),
		"eks:DescribeAddon":                  describeOne("AWS::EKS::Addon", "addon", nil, "AddonVersion", "AddonName"),
		"eks:ListIdentityProviderConfigs": ofCluster("AWS::EKS::IdentityProviderConfig", "identityProviderConfigs", func(t *Thing) any {
			return map[string]any{"name": t.ID[strings.LastIndex(t.ID, "/")+1:], "type": "oidc"}
		}),
		"eks:DescribeIdentityProviderConfig": describeIdentities,
		"eks:AssociateEncryptionConfig":      associateKey,
		"eks:ListUpdates": func(a *AWS, c *call) (any, error) {
			all := []any{}
			for _, u := range a.Updates {
				if u.Cluster == c.text("name") {
					all = append(all, u.ID)
				}
			}
			some, next := page(a, all, c.text("nextToken"))
			return withToken(map[string]any{"updateIds": some}, "nextToken", next), nil
		},
		"eks:DescribeUpdate": func(a *AWS, c *call) (any, error) {
			for _, u := range a.Updates {
				if u.ID == c.text("item") {
					return map[string]any{"update": a.look(u)}, nil
				}
			}
			return nil, notFound("ResourceNotFoundException", "update")
		},

		"kms:DescribeKey":          describeKey,
		"kms:GetKeyRotationStatus": rotationStatus,
		"kms:GetKeyPolicy":         keyPolicy,
		"kms:ListGrants":           listGrants,
		"kms:ListAliases":          listAliases,
		"kms:ListKeyRotations": func(a *AWS, c *call) (any, error) {
			some, next := page(a, a.Rotations[c.text("KeyId")], c.text("Marker"))
			return withToken(map[string]any{"Rotations": some, "Truncated": next != ""}, "NextMarker", next), nil
		},
		"kms:Decrypt": dryDecrypt,

		"cloudtrail:DescribeTrails":    describeTrails,
		"cloudtrail:GetTrailStatus":    trailStatus,
		"cloudtrail:GetEventSelectors": eventSelectors,

		"events:ListRules":         listRules,
		"events:ListTargetsByRule": listTargets,

		"sns:GetTopicAttributes":        topicAttributes,
		"sns:ListSubscriptionsByTopic":  subscriptions,
		"sns:GetSubscriptionAttributes": subscriptionAttributes,

		"sqs:GetQueueUrl":        queueURL,
		"sqs:GetQueueAttributes": queueAttributes,

		"logs:DescribeLogGroups":     logGroups,
		"logs:DescribeMetricFilters": metricFilters,
		"monitoring:DescribeAlarms":  alarms,

		"iam:GetAccountAuthorizationDetails": authorizationDetails,

		"cloudformation:DescribeStacks":              describeStacks,
		"cloudformation:ListStackResources":          stackResources,
		"cloudformation:DescribeStackResourceDrifts": stackDrifts,

		"s3:versioning": ofBucket("VersioningConfiguration", "", func(v any) any { return map[string]any{"VersioningConfiguration": v} }),
		"s3:object-lock": ofBucket("ObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", func(v any) any {
			return map[string]any{"ObjectLockConfiguration": v}
		}),
		"s3:publicAccessBlock": ofBucket("PublicAccessBlockConfiguration", "NoSuchPublicAccessBlockConfiguration", func(v any) any {
			return map[string]any{"PublicAccessBlockConfiguration": v}
		}),
		"s3:encryption": ofBucket("BucketEncryption", "ServerSideEncryptionConfigurationNotFoundError", bucketEncryption),
		"s3:lifecycle":  ofBucket("LifecycleConfiguration", "NoSuchLifecycleConfiguration", bucketLifecycle),
		"s3:policy":     bucketPolicy,
		"s3:location":   func(*AWS, *call) (any, error) { return map[string]any{"LocationConstraint": map[string]any{}}, nil },
		"s3:list-type":  listObjects,
		"s3:object": func(a *AWS, c *call) (any, error) {
			o, ok := a.Objects[c.text("Bucket")+"/"+c.text("Key")]
			if !ok {
				return nil, notFound("NoSuchKey", "key")
			}
			return o, nil
		},

		"cloudtrail:ListPublicKeys": func(a *AWS, _ *call) (any, error) {
			all := []any{}
			for fingerprint, key := range a.SigningKeys {
				all = append(all, map[string]any{"Fingerprint": fingerprint, "Value": base64.StdEncoding.EncodeToString(key), "ValidityStartTime": 1.7e9, "ValidityEndTime": 2.0e9})
			}
			return map[string]any{"PublicKeyList": all}, nil
		},
	}
}

func assumeRole(a *AWS, c *call) (any, error) {
	arn := c.text("RoleArn")
	if !slices.Contains(a.Assumable, arn) {
		return nil, fault{http.StatusForbidden, "AccessDenied", "not authorized to perform sts:AssumeRole on resource " + arn}
	}
	return map[string]any{"Credentials": map[string]any{
		"AccessKeyId": "ASIA" + strings.Split(arn, ":")[4], "SecretAccessKey": "none", "SessionToken": "none", "Expiration": "2099-01-01T00:00:00Z",
	}}, nil
}

func listRoles(a *AWS, c *call) (any, error) {
	var all []any
	for _, arn := range a.Roles {
		parts := strings.SplitN(arn, ":", 6)
		if parts[4] != c.account || !strings.HasPrefix(strings.TrimPrefix(parts[5], "role"), c.text("PathPrefix")) {
			continue
		}
		name := arn[strings.LastIndex(arn, "/")+1:]
		all = append(all, map[string]any{
			"Path": strings.TrimSuffix(strings.TrimPrefix(parts[5], "role"), name), "RoleName": name, "RoleId": "AROA", "Arn": arn, "CreateDate": "2026-01-01T00:00:00Z",
		})
	}
	some, next := page(a, all, c.text("Marker"))
	return withToken(map[string]any{"Roles": some, "IsTruncated": next != ""}, "Marker", next), nil
}

// withToken adds the token of the next page, if there is one.
func withToken(out map[string]any, name, next string) map[string]any {
	if next != "" {
		out[name] = next
	}
	return out
}

func describeAddonVersions(a *AWS, c *call) (any, error) {
	name, version := c.text("addonName"), c.text("kubernetesVersion")
	addOn, found := a.AddOns[c.region][name]
	if !found {
		return nil, fault{http.StatusBadRequest, "InvalidParameterException", "Addon specified is not supported"}
	}
	some, next := page(a, addOn[version], c.text("nextToken"))
	versions := []any{}
	for _, v := range some {
		versions = append(versions, map[string]any{
			"addonVersion": v, "architecture": []string{"amd64", "arm64"},
			"compatibilities": []any{map[string]any{"clusterVersion": version, "platformVersions": []string{"*"}, "defaultVersion": false}},
		})
	}
	return withToken(map[string]any{"addons": []any{map[string]any{"addonName": name, "type": "networking", "addonVersions": versions}}}, "nextToken", next), nil
}

// lowered writes properties as the API of EKS has them.
func lowered(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, below := range v {
			out[strings.ToLower(name[:1])+name[1:]] = lowered(below)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, below := range v {
			out[i] = lowered(below)
		}
		return out
	}
	return v
}

func at(v any, path ...string) any {
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func items(v any) []any {
	list, _ := v.([]any)
	return list
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func isTrue(v any) bool { return v == true || v == "true" }

func describeCluster(a *AWS, c *call) (any, error) {
	t := a.one(c, c.text("name"), "AWS::EKS::Cluster")
	if t == nil {
		return nil, notFound("ResourceNotFoundException", "No cluster")
	}
	p := t.Properties
	out := map[string]any{"name": t.ID, "arn": t.ARN, "status": "ACTIVE", "createdAt": 1.7e9, "health": map[string]any{"issues": []any{}}}
	for _, name := range []string{"Version", "RoleArn", "EncryptionConfig", "AccessConfig", "ComputeConfig", "DeletionProtection", "UpgradePolicy"} {
		if p[name] != nil {
			out[strings.ToLower(name[:1])+name[1:]] = lowered(p[name])
		}
	}
	vpc, _ := lowered(p["ResourcesVpcConfig"]).(map[string]any)
	if vpc == nil {
		vpc = map[string]any{}
	}
	for _, name := range []string{"endpointPublicAccess", "endpointPrivateAccess"} {
		vpc[name] = isTrue(vpc[name]) || vpc[name] == nil && name == "endpointPublicAccess"
	}
	if vpc["endpointPublicAccess"] == true && vpc["publicAccessCidrs"] == nil {
		vpc["publicAccessCidrs"] = []any{"0.0.0.0/0"}
	}
	out["resourcesVpcConfig"] = vpc
	on, off := []any{}, []any{}
	for _, kind := range []string{"api", "audit", "authenticator", "controllerManager", "scheduler"} {
		if slices.ContainsFunc(items(at(p, "Logging", "ClusterLogging", "EnabledTypes")), func(e any) bool { return at(e, "Type") == kind }) {
			on = append(on, kind)
		} else {
			off = append(off, kind)
		}
	}
	out["logging"] = map[string]any{"clusterLogging": []any{map[string]any{"types": on, "enabled": true}, map[string]any{"types": off, "enabled": false}}}
	maps.Copy(out, t.State)
	return map[string]any{"cluster": out}, nil
}

// associateKey begins an update that brings a cluster under a key.
func associateKey(a *AWS, c *call) (any, error) {
	t := a.one(c, c.text("name"), "AWS::EKS::Cluster")
	switch {
	case t == nil:
		return nil, notFound("ResourceNotFoundException", "No cluster")
	case t.Properties["EncryptionConfig"] != nil:
		return nil, fault{http.StatusBadRequest, "InvalidParameterException", "Encryption is already enabled"}
	}
	u := &Update{ID: fmt.Sprintf("update-%d", len(a.Updates)), Cluster: t.ID, Looks: 3}
	for _, config := range items(c.in["encryptionConfig"]) {
		u.Key = text(at(config, "provider", "keyArn"))
	}
	a.Updates = append(a.Updates, u)
	return map[string]any{"update": map[string]any{"id": u.ID, "status": "InProgress", "type": "AssociateEncryptionConfig", "createdAt": 1.79e9, "errors": []any{}}}, nil
}

// look is how an update is, one look further on.
func (a *AWS) look(u *Update) map[string]any {
	out := map[string]any{"id": u.ID, "status": "InProgress", "type": "AssociateEncryptionConfig", "createdAt": 1.79e9, "errors": []any{}}
	if u.looks++; u.looks < u.Looks {
		return out
	}
	switch u.Ends {
	case "", "Successful":
		out["status"] = "Successful"
		for _, t := range a.Things {
			if t.Type == "AWS::EKS::Cluster" && t.ID == u.Cluster && t.Properties["EncryptionConfig"] == nil {
				t.Properties["EncryptionConfig"] = []any{map[string]any{"Resources": []any{"secrets"}, "Provider": map[string]any{"KeyArn": u.Key}}}
				a.Grant(u.Key, t.ID, "eks."+t.Region+".amazonaws.com", "Decrypt", "Encrypt")
			}
		}
	default:
		out["status"], out["errors"] = u.Ends, []any{map[string]any{"errorCode": "AccessDenied", "errorMessage": "EKS may not use the key", "resourceIds": []any{u.Key}}}
	}
	return out
}

// ofCluster lists what belongs to a cluster.
func ofCluster(kind, list string, item func(*Thing) any) handler {
	return func(a *AWS, c *call) (any, error) {
		all := []any{}
		for _, t := range a.of(c, kind) {
			if t.Properties["ClusterName"] == c.in["name"] {
				all = append(all, item(t))
			}
		}
		some, next := page(a, all, c.text("nextToken"))
		return withToken(map[string]any{list: some}, "nextToken", next), nil
	}
}

func association(t *Thing) any {
	return map[string]any{
		"clusterName": t.Properties["ClusterName"], "namespace": t.Properties["Namespace"], "serviceAccount": t.Properties["ServiceAccount"],
		"associationArn": t.ARN, "associationId": t.ARN[strings.LastIndex(t.ARN, "/")+1:],
	}
}

func (a *AWS) item(c *call, kind string) *Thing {
	for _, t := range a.of(c, kind) {
		if id := c.text("item"); t.Properties["ClusterName"] == c.in["name"] && (strings.HasSuffix(t.ID, id) || strings.HasSuffix(t.ARN, id) || t.Properties["PrincipalArn"] == id) {
			return t
		}
	}
	return nil
}

func describeOne(kind, name string, base func(*Thing) any, properties ...string) handler {
	return func(a *AWS, c *call) (any, error) {
		t := a.item(c, kind)
		if t == nil {
			return nil, notFound("ResourceNotFoundException", name)
		}
		out := map[string]any{"clusterName": t.Properties["ClusterName"]}
		if base != nil {
			out, _ = base(t).(map[string]any)
		}
		for _, p := range properties {
			if t.Properties[p] != nil {
				out[strings.ToLower(p[:1])+p[1:]] = lowered(t.Properties[p])
			}
		}
		maps.Copy(out, t.State)
		return map[string]any{name: out}, nil
	}
}

func describeAccessEntry(a *AWS, c *call) (any, error) {
	t := a.item(c, "AWS::EKS::AccessEntry")
	if t == nil {
		return nil, notFound("ResourceNotFoundException", "access entry")
	}
	out := map[string]any{"clusterName": c.in["name"], "principalArn": t.Properties["PrincipalArn"], "type": "STANDARD", "kubernetesGroups": []any{}}
	for from, to := range map[string]string{"Type": "type", "KubernetesGroups": "kubernetesGroups", "Username": "username"} {
		if t.Properties[from] != nil {
			out[to] = t.Properties[from]
		}
	}
	return map[string]any{"accessEntry": out}, nil
}

func listAssociatedAccessPolicies(a *AWS, c *call) (any, error) {
	t := a.item(c, "AWS::EKS::AccessEntry")
	if t == nil {
		return nil, notFound("ResourceNotFoundException", "access entry")
	}
	all := []any{}
	for _, p := range items(t.Properties["AccessPolicies"]) {
		all = append(all, lowered(p))
	}
	some, next := page(a, all, c.text("nextToken"))
	return withToken(map[string]any{"clusterName": c.in["name"], "principalArn": c.in["item"], "associatedAccessPolicies": some}, "nextToken", next), nil
}

func describeIdentities(a *AWS, c *call) (any, error) {
	for _, t := range a.of(c, "AWS::EKS::IdentityProviderConfig") {
		if t.Properties["ClusterName"] == c.in["name"] && strings.HasSuffix(t.ID, text(at(c.in, "identityProviderConfig", "name"))) {
			return map[string]any{"identityProviderConfig": map[string]any{"oidc": lowered(t.Properties["Oidc"])}}, nil
		}
	}
	return nil, notFound("ResourceNotFoundException", "identity provider config")
}

// findKey is the key that a request names: by an ARN also one of another account.
func (a *AWS) findKey(c *call) (*Thing, error) {
	name := c.text("KeyId")
	if strings.Contains(name, "alias/") {
		_, alone, _ := strings.Cut(name, "alias/")
		alias := a.one(c, "alias/"+alone, "AWS::KMS::Alias")
		if alias == nil {
			return nil, notFound("NotFoundException", "Alias "+name)
		}
		name = text(alias.Properties["TargetKeyId"])
	}
	for _, t := range a.Things {
		if (t.Type == "AWS::KMS::Key" || t.Type == "AWS::KMS::ReplicaKey") && t.Region == c.region && (t.ARN == name || t.ID == name && t.Account == c.account) {
			return t, nil
		}
	}
	return nil, notFound("NotFoundException", "Key "+name)
}

func describeKey(a *AWS, c *call) (any, error) {
	t, err := a.findKey(c)
	if err != nil {
		return nil, err
	}
	m := map[string]any{
		"KeyId": t.ID, "Arn": t.ARN, "AWSAccountId": t.Account, "KeyManager": "CUSTOMER", "KeyState": "Enabled", "Enabled": true, "KeySpec": "SYMMETRIC_DEFAULT",
		"KeyUsage": "ENCRYPT_DECRYPT", "Origin": "AWS_KMS", "MultiRegion": false,
	}
	for _, name := range []string{"KeySpec", "KeyUsage", "Origin"} {
		if t.Properties[name] != nil {
			m[name] = t.Properties[name]
		}
	}
	if isTrue(t.Properties["MultiRegion"]) || t.Type == "AWS::KMS::ReplicaKey" {
		kind := "PRIMARY"
		if t.Type == "AWS::KMS::ReplicaKey" {
			kind = "REPLICA"
		}
		m["MultiRegion"], m["MultiRegionConfiguration"] = true, map[string]any{"MultiRegionKeyType": kind}
	}
	if t.Properties["Enabled"] != nil && !isTrue(t.Properties["Enabled"]) {
		m["KeyState"], m["Enabled"] = "Disabled", false
	}
	for _, name := range []string{"KeyState", "DeletionDate"} {
		if t.State[name] != nil {
			m[name], m["Enabled"] = t.State[name], false
		}
	}
	return map[string]any{"KeyMetadata": m}, nil
}

func rotationStatus(a *AWS, c *call) (any, error) {
	t, err := a.findKey(c)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"KeyId": t.ARN, "KeyRotationEnabled": isTrue(t.Properties["EnableKeyRotation"])}
	if out["KeyRotationEnabled"] == true {
		if out["RotationPeriodInDays"] = t.Properties["RotationPeriodInDays"]; out["RotationPeriodInDays"] == nil {
			out["RotationPeriodInDays"] = 365
		}
	}
	return out, nil
}

func keyPolicy(a *AWS, c *call) (any, error) {
	t, err := a.findKey(c)
	if err != nil {
		return nil, err
	}
	if t.Account != c.account {
		return nil, fault{http.StatusBadRequest, "AccessDeniedException", "the key is of another account"}
	}
	return map[string]any{"Policy": inJSON(t.Properties["KeyPolicy"]), "PolicyName": "default"}, nil
}

func inJSON(v any) string {
	if v == nil {
		return ""
	}
	if s, ok := v.(string); ok {
		return s
	}
	data, _ := json.MarshalIndent(v, "", "  ")
	return string(data)
}

func listGrants(a *AWS, c *call) (any, error) {
	t, err := a.findKey(c)
	if err != nil {
		return nil, err
	}
	some, next := page(a, items(t.State["Grants"]), c.text("Marker"))
	return withToken(map[string]any{"Grants": some, "Truncated": next != ""}, "NextMarker", next), nil
}

func listAliases(a *AWS, c *call) (any, error) {
	all := []any{}
	for _, t := range a.of(c, "AWS::KMS::Alias") {
		if key := text(t.Properties["TargetKeyId"]); key[strings.LastIndex(key, "/")+1:] == c.text("KeyId") {
			all = append(all, map[string]any{"AliasName": t.ID, "AliasArn": t.ARN, "TargetKeyId": c.text("KeyId")})
		}
	}
	some, next := page(a, all, c.text("Marker"))
	return withToken(map[string]any{"Aliases": some, "Truncated": next != ""}, "NextMarker", next), nil
}

func dryDecrypt(a *AWS, c *call) (any, error) {
	t, err := a.findKey(c)
	if err != nil {
		return nil, err
	}
	if c.in["DryRun"] != true {
		panic("livetest: something was decrypted")
	}
	if t.State["MayDecrypt"] == true {
		return nil, fault{http.StatusBadRequest, "DryRunOperationException", "The request would have succeeded, but the DryRun option is set."}
	}
	return nil, fault{http.StatusBadRequest, "AccessDeniedException", "not authorized to perform kms:Decrypt"}
}

func describeTrails(a *AWS, c *call) (any, error) {
	all := []any{}
	for _, t := range a.Things {
		p := t.Properties
		if t.Type != "AWS::CloudTrail::Trail" || t.Account != c.account && !isTrue(p["IsOrganizationTrail"]) || t.Region != c.region && !isTrue(p["IsMultiRegionTrail"]) {
			continue
		}
		out := map[string]any{
			"Name": t.ID, "TrailARN": t.ARN, "HomeRegion": t.Region, "S3BucketName": p["S3BucketName"], "S3KeyPrefix": p["S3KeyPrefix"], "KmsKeyId": p["KMSKeyId"],
			"IsMultiRegionTrail": isTrue(p["IsMultiRegionTrail"]), "IncludeGlobalServiceEvents": isTrue(p["IncludeGlobalServiceEvents"]) || p["IncludeGlobalServiceEvents"] == nil,
			"LogFileValidationEnabled": isTrue(p["EnableLogFileValidation"]), "IsOrganizationTrail": isTrue(p["IsOrganizationTrail"]),
			"CloudWatchLogsLogGroupArn": p["CloudWatchLogsLogGroupArn"], "CloudWatchLogsRoleArn": p["CloudWatchLogsRoleArn"], "HasCustomEventSelectors": p["EventSelectors"] != nil,
		}
		all = append(all, out)
	}
	return map[string]any{"trailList": all}, nil
}

func (a *AWS) findTrail(c *call, parameter string) (*Thing, error) {
	for _, t := range a.Things {
		if t.Type == "AWS::CloudTrail::Trail" && t.ARN == c.text(parameter) && t.Region == c.region {
			return t, nil
		}
	}
	return nil, notFound("TrailNotFoundException", "Trail")
}

func trailStatus(a *AWS, c *call) (any, error) {
	t, err := a.findTrail(c, "Name")
	if err != nil {
		return nil, err
	}
	out := map[string]any{"IsLogging": isTrue(t.Properties["IsLogging"]), "LatestDeliveryTime": 1.79e9}
	maps.Copy(out, t.State)
	return out, nil
}

func eventSelectors(a *AWS, c *call) (any, error) {
	t, err := a.findTrail(c, "TrailName")
	if err != nil {
		return nil, err
	}
	out := map[string]any{"TrailARN": t.ARN}
	switch p := t.Properties; {
	case p["AdvancedEventSelectors"] != nil:
		out["AdvancedEventSelectors"] = p["AdvancedEventSelectors"]
	case p["EventSelectors"] != nil:
		out["EventSelectors"] = p["EventSelectors"]
	default:
		out["EventSelectors"] = []any{map[string]any{"ReadWriteType": "All", "IncludeManagementEvents": true, "DataResources": []any{}, "ExcludeManagementEventSources": []any{}}}
	}
	return out, nil
}

func listRules(a *AWS, c *call) (any, error) {
	all := []any{}
	for _, t := range a.of(c, "AWS::Events::Rule") {
		state := text(t.Properties["State"])
		if state == "" {
			state = "ENABLED"
		}
		all = append(all, map[string]any{"Name": t.ID, "Arn": t.ARN, "State": state, "EventBusName": "default", "EventPattern": inJSON(t.Properties["EventPattern"])})
	}
	some, next := page(a, all, c.text("NextToken"))
	return withToken(map[string]any{"Rules": some}, "NextToken", next), nil
}

func listTargets(a *AWS, c *call) (any, error) {
	t := a.one(c, c.text("Rule"), "AWS::Events::Rule")
	if t == nil {
		return nil, notFound("ResourceNotFoundException", "Rule")
	}
	some, next := page(a, items(t.Properties["Targets"]), c.text("NextToken"))
	return withToken(map[string]any{"Targets": some}, "NextToken", next), nil
}

func (a *AWS) findTopic(c *call) (*Thing, error) {
	t := a.one(c, c.text("TopicArn"), "AWS::SNS::Topic")
	if t == nil {
		return nil, notFound("NotFound", "Topic")
	}
	return t, nil
}

func topicAttributes(a *AWS, c *call) (any, error) {
	t, err := a.findTopic(c)
	if err != nil {
		return nil, err
	}
	out := entries{"TopicArn": t.ARN, "Owner": t.Account, "Policy": `{"Version":"2008-10-17","Statement":[]}`}
	if key := text(t.Properties["KmsMasterKeyId"]); key != "" {
		out["KmsMasterKeyId"] = key
	}
	for _, p := range a.of(c, "AWS::SNS::TopicPolicy") {
		if slices.Contains(items(p.Properties["Topics"]), any(t.ARN)) {
			out["Policy"] = inJSON(p.Properties["PolicyDocument"])
		}
	}
	return map[string]any{"Attributes": out}, nil
}

func subscriptions(a *AWS, c *call) (any, error) {
	t, err := a.findTopic(c)
	if err != nil {
		return nil, err
	}
	all := []any{}
	for _, s := range a.of(c, "AWS::SNS::Subscription") {
		if s.Properties["TopicArn"] == t.ARN {
			id := s.ARN
			if s.State["Pending"] == true {
				id = "PendingConfirmation"
			}
			all = append(all, map[string]any{"SubscriptionArn": id, "Owner": s.Account, "Protocol": s.Properties["Protocol"], "Endpoint": s.Properties["Endpoint"], "TopicArn": t.ARN})
		}
	}
	some, next := page(a, all, c.text("NextToken"))
	return withToken(map[string]any{"Subscriptions": some}, "NextToken", next), nil
}

func subscriptionAttributes(a *AWS, c *call) (any, error) {
	t := a.one(c, c.text("SubscriptionArn"), "AWS::SNS::Subscription")
	if t == nil {
		return nil, notFound("NotFound", "Subscription")
	}
	out := entries{"SubscriptionArn": t.ARN, "PendingConfirmation": "false"}
	if filter := inJSON(t.Properties["FilterPolicy"]); filter != "" {
		out["FilterPolicy"] = filter
	}
	return map[string]any{"Attributes": out}, nil
}

func queueURL(a *AWS, c *call) (any, error) {
	owner := c.text("QueueOwnerAWSAccountId")
	if owner == "" {
		owner = c.account
	}
	for _, t := range a.Things {
		if t.Type == "AWS::SQS::Queue" && t.Account == owner && t.Region == c.region && strings.HasSuffix(t.ARN, ":"+c.text("QueueName")) {
			return map[string]any{"QueueUrl": t.ID}, nil
		}
	}
	return nil, notFound("QueueDoesNotExist", "Queue")
}

func queueAttributes(a *AWS, c *call) (any, error) {
	t := a.one(c, c.text("QueueUrl"), "AWS::SQS::Queue")
	if t == nil {
		return nil, notFound("QueueDoesNotExist", "Queue")
	}
	out := map[string]any{"QueueArn": t.ARN, "SqsManagedSseEnabled": fmt.Sprint(t.Properties["KmsMasterKeyId"] == nil && (t.Properties["SqsManagedSseEnabled"] == nil || isTrue(t.Properties["SqsManagedSseEnabled"])))}
	if key := t.Properties["KmsMasterKeyId"]; key != nil {
		out["KmsMasterKeyId"] = key
	}
	for _, p := range a.of(c, "AWS::SQS::QueuePolicy") {
		if slices.Contains(items(p.Properties["Queues"]), any(t.ID)) {
			out["Policy"] = inJSON(p.Properties["PolicyDocument"])
		}
	}
	return map[string]any{"Attributes": out}, nil
}

func logGroups(a *AWS, c *call) (any, error) {
	all := []any{}
	for _, t := range a.of(c, "AWS::Logs::LogGroup") {
		if strings.HasPrefix(t.ID, c.text("logGroupNamePrefix")) {
			out := map[string]any{"logGroupName": t.ID, "arn": t.ARN, "creationTime": 1.7e12}
			for from, to := range map[string]string{"RetentionInDays": "retentionInDays", "KmsKeyId": "kmsKeyId"} {
				if t.Properties[from] != nil {
					out[to] = t.Properties[from]
				}
			}
			all = append(all, out)
		}
	}
	some, next := page(a, all, c.text("nextToken"))
	return withToken(map[string]any{"logGroups": some}, "nextToken", next), nil
}

func metricFilters(a *AWS, c *call) (any, error) {
	all := []any{}
	for _, t := range a.of(c, "AWS::Logs::MetricFilter") {
		if t.Properties["LogGroupName"] == c.in["logGroupName"] {
			var to []any
			for _, m := range items(t.Properties["MetricTransformations"]) {
				to = append(to, lowered(m))
			}
			all = append(all, map[string]any{"filterName": t.ID, "filterPattern": t.Properties["FilterPattern"], "logGroupName": c.in["logGroupName"], "metricTransformations": to})
		}
	}
	some, next := page(a, all, c.text("nextToken"))
	return withToken(map[string]any{"metricFilters": some}, "nextToken", next), nil
}

func alarms(a *AWS, c *call) (any, error) {
	all := []any{}
	for _, t := range a.of(c, "AWS::CloudWatch::Alarm") {
		out := map[string]any{"AlarmName": t.ID, "AlarmArn": t.ARN, "ActionsEnabled": t.Properties["ActionsEnabled"] == nil || isTrue(t.Properties["ActionsEnabled"])}
		for _, name := range []string{"MetricName", "Namespace", "ComparisonOperator", "Threshold", "Statistic", "EvaluationPeriods", "Period", "AlarmActions"} {
			if t.Properties[name] != nil {
				out[name] = t.Properties[name]
			}
		}
		for _, name := range []string{"EvaluationPeriods", "Period"} {
			if n, ok := out[name].(float64); ok {
				out[name] = int(n)
			}
		}
		all = append(all, out)
	}
	some, next := page(a, all, c.text("NextToken"))
	return withToken(map[string]any{"MetricAlarms": some}, "NextToken", next), nil
}

// authorizationDetails answers with all principals, a page of each kind after the other.
func authorizationDetails(a *AWS, c *call) (any, error) {
	all := a.of(c, "AWS::IAM::Role", "AWS::IAM::User", "AWS::IAM::Group", "AWS::IAM::ManagedPolicy")
	some, next := page(a, all, c.text("Marker"))
	out := map[string]any{"IsTruncated": next != ""}
	add := func(list string, v map[string]any) {
		had, _ := out[list].([]any)
		out[list] = append(had, v)
	}
	for _, t := range some {
		p := t.Properties
		path := text(p["Path"])
		if path == "" {
			path = "/"
		}
		kind := strings.TrimPrefix(t.Type, "AWS::IAM::")
		if kind == "ManagedPolicy" {
			name := t.ARN[strings.LastIndex(t.ARN, "/")+1:]
			add("Policies", map[string]any{"PolicyName": name, "Arn": t.ARN, "Path": path, "DefaultVersionId": "v2", "PolicyVersionList": []any{
				map[string]any{"VersionId": "v1", "IsDefaultVersion": false, "Document": url.PathEscape(`{"Statement":[]}`)},
				map[string]any{"VersionId": "v2", "IsDefaultVersion": true, "Document": url.PathEscape(inJSON(p["PolicyDocument"]))},
			}})
			continue
		}
		attached, inline := []any{}, []any{}
		for _, arn := range items(p["ManagedPolicyArns"]) {
			attached = append(attached, map[string]any{"PolicyArn": arn, "PolicyName": text(arn)[strings.LastIndex(text(arn), "/")+1:]})
		}
		for _, policy := range a.of(c, "AWS::IAM::ManagedPolicy") {
			if slices.Contains(items(policy.Properties[kind+"s"]), any(t.ID)) {
				attached = append(attached, map[string]any{"PolicyArn": policy.ARN, "PolicyName": policy.ARN[strings.LastIndex(policy.ARN, "/")+1:]})
			}
		}
		for _, policy := range items(p["Policies"]) {
			inline = append(inline, map[string]any{"PolicyName": at(policy, "PolicyName"), "PolicyDocument": url.PathEscape(inJSON(at(policy, "PolicyDocument")))})
		}
		for _, policy := range a.of(c, "AWS::IAM::Policy", "AWS::IAM::"+kind+"Policy") {
			if slices.Contains(items(policy.Properties[kind+"s"]), any(t.ID)) || policy.Properties[kind+"Name"] == t.ID {
				inline = append(inline, map[string]any{"PolicyName": policy.Properties["PolicyName"], "PolicyDocument": url.PathEscape(inJSON(policy.Properties["PolicyDocument"]))})
			}
		}
		v := map[string]any{kind + "Name": t.ID, "Arn": t.ARN, "Path": path, "AttachedManagedPolicies": attached, kind + "PolicyList": inline}
		if p["PermissionsBoundary"] != nil {
			v["PermissionsBoundary"] = map[string]any{"PermissionsBoundaryArn": p["PermissionsBoundary"], "PermissionsBoundaryType": "Policy"}
		}
		switch kind {
		case "Role":
			v["AssumeRolePolicyDocument"] = url.PathEscape(inJSON(p["AssumeRolePolicyDocument"]))
			v["Tags"] = p["Tags"]
		case "User":
			v["GroupList"] = p["Groups"]
		}
		add(kind+"DetailList", v)
	}
	return withToken(out, "Marker", next), nil
}

func (a *AWS) findStack(c *call) (*Stack, error) {
	for _, s := range a.Stacks {
		if s.Account == c.account && s.Region == c.region && (s.Name == c.text("StackName") || stackARN(s) == c.text("StackName")) {
			return s, nil
		}
	}
	return nil, fault{http.StatusBadRequest, "ValidationError", "Stack with id " + c.text("StackName") + " does not exist"}
}

func stackARN(s *Stack) string {
	return fmt.Sprintf("arn:aws:cloudformation:%s:%s:stack/%s/1", s.Region, s.Account, strings.ReplaceAll(s.Name, "/", "-"))
}

func describeStacks(a *AWS, c *call) (any, error) {
	s, err := a.findStack(c)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"StackName": s.Name, "StackId": stackARN(s), "StackStatus": s.Status, "CreationTime": "2026-01-01T00:00:00Z"}
	if s.Drift != "" {
		out["DriftInformation"] = map[string]any{"StackDriftStatus": s.Drift, "LastCheckTimestamp": "2026-11-01T00:00:00Z"}
	}
	return map[string]any{"Stacks": []any{out}}, nil
}

func stackResources(a *AWS, c *call) (any, error) {
	s, err := a.findStack(c)
	if err != nil {
		return nil, err
	}
	all := []any{}
	for _, id := range slices.Sorted(maps.Keys(s.Physical)) {
		all = append(all, map[string]any{"LogicalResourceId": id, "PhysicalResourceId": s.Physical[id], "ResourceType": s.Types[id], "ResourceStatus": "CREATE_COMPLETE", "LastUpdatedTimestamp": "2026-01-01T00:00:00Z"})
	}
	some, next := page(a, all, c.text("NextToken"))
	return withToken(map[string]any{"StackResourceSummaries": some}, "NextToken", next), nil
}

func stackDrifts(a *AWS, c *call) (any, error) {
	s, err := a.findStack(c)
	if err != nil {
		return nil, err
	}
	all := []any{}
	for _, id := range slices.Sorted(maps.Keys(s.Drifted)) {
		var differences []any
		for _, path := range s.Drifted[id] {
			differences = append(differences, map[string]any{"PropertyPath": path, "ExpectedValue": "a", "ActualValue": "b", "DifferenceType": "NOT_EQUAL"})
		}
		all = append(all, map[string]any{"StackId": stackARN(s), "LogicalResourceId": id, "ResourceType": s.Types[id], "StackResourceDriftStatus": "MODIFIED", "Timestamp": "2026-11-01T00:00:00Z", "PropertyDifferences": differences})
	}
	some, next := page(a, all, c.text("NextToken"))
	return withToken(map[string]any{"StackResourceDrifts": some}, "NextToken", next), nil
}

// findBucket is the bucket of a request, for its owner.
func (a *AWS) findBucket(c *call) (*Thing, error) {
	for _, t := range a.Things {
		if t.Type == "AWS::S3::Bucket" && t.ID == c.text("Bucket") {
			if owner := c.text("Owner"); owner != "" && owner != t.Account || t.Account != c.account {
				return nil, fault{http.StatusForbidden, "AccessDenied", "Access Denied"}
			}
			return t, nil
		}
	}
	return nil, notFound("NoSuchBucket", "Bucket")
}

func ofBucket(property, none string, write func(any) any) handler {
	return func(a *AWS, c *call) (any, error) {
		t, err := a.findBucket(c)
		if err != nil {
			return nil, err
		}
		v := t.Properties[property]
		if v == nil && none != "" {
			return nil, notFound(none, property)
		}
		if v == nil {
			v = map[string]any{}
		}
		return write(v), nil
	}
}

func bucketEncryption(v any) any {
	rules := flat{}
	for _, r := range items(at(v, "ServerSideEncryptionConfiguration")) {
		rules = append(rules, map[string]any{"ApplyServerSideEncryptionByDefault": at(r, "ServerSideEncryptionByDefault"), "BucketKeyEnabled": at(r, "BucketKeyEnabled")})
	}
	return map[string]any{"ServerSideEncryptionConfiguration": map[string]any{"Rule": rules}}
}

func bucketLifecycle(v any) any {
	rules := flat{}
	for _, r := range items(at(v, "Rules")) {
		rule := map[string]any{"ID": at(r, "Id"), "Status": at(r, "Status"), "Filter": map[string]any{"Prefix": text(at(r, "Prefix"))}}
		if days := at(r, "ExpirationInDays"); days != nil {
			rule["Expiration"] = map[string]any{"Days": days}
		}
		if n := at(r, "NoncurrentVersionExpiration"); n != nil {
			rule["NoncurrentVersionExpiration"] = n
		}
		if a := at(r, "AbortIncompleteMultipartUpload"); a != nil {
			rule["AbortIncompleteMultipartUpload"] = a
		}
		rules = append(rules, rule)
	}
	return map[string]any{"LifecycleConfiguration": map[string]any{"Rule": rules}}
}

func bucketPolicy(a *AWS, c *call) (any, error) {
	if _, err := a.findBucket(c); err != nil {
		return nil, err
	}
	for _, t := range a.of(c, "AWS::S3::BucketPolicy") {
		if t.Properties["Bucket"] == c.in["Bucket"] {
			return inJSON(t.Properties["PolicyDocument"]), nil
		}
	}
	return nil, notFound("NoSuchBucketPolicy", "Policy")
}

// listObjects lists what is directly below a prefix, as with the delimiter /.
func listObjects(a *AWS, c *call) (any, error) {
	prefix := c.text("Bucket") + "/" + c.text("Prefix")
	var names []string
	for name := range a.Objects {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			if folder, _, more := strings.Cut(rest, "/"); more {
				rest = folder + "/"
			}
			if !slices.Contains(names, rest) {
				names = append(names, rest)
			}
		}
	}
	slices.Sort(names)
	some, next := page(a, names, c.text("Token"))
	files, folders := flat{}, flat{}
	for _, name := range some {
		whole := c.text("Prefix") + name
		if strings.HasSuffix(name, "/") {
			folders = append(folders, map[string]any{"Prefix": whole})
		} else {
			files = append(files, map[string]any{"Key": whole, "Size": 1})
		}
	}
	out := map[string]any{"Name": c.text("Bucket"), "IsTruncated": next != "", "Contents": files, "CommonPrefixes": folders}
	if next != "" {
		out["NextContinuationToken"] = next
	}
	return map[string]any{"ListBucketResult": out}, nil
}
