// Package rules holds the limits of the fields of ekskms.yaml, for the decoder and
// for the generator of the JSON Schema, so that the two can't drift apart.
package rules

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"go.yaml.in/yaml/v3"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/eksversion"
	"github.com/ekskms/ekskms/internal/place"
)

// A Rule says which values a field takes, or the items of a list, or the values of a map.
type Rule struct {
	// Want completes the sentence "must be ...".
	Want string
	// Pattern must match and NotPattern must not. Both are written in the syntax
	// that Go and ECMA 262 share, because the schema carries them too.
	Pattern, NotPattern  string
	MinLength, MaxLength int // in characters
	Strings              []string
	Ints                 []int
	// Judge knows mistakes that deserve a message of their own, and demands that
	// no pattern can express. It returns "" if it has nothing to say.
	Judge func(value string) string

	re, notRE *regexp.Regexp
}

// Latest is the version of an add-on that a lock file pins.
const Latest = "latest"

const (
	partition = `arn:(aws|aws-us-gov|aws-cn)`
	region    = `(us-gov|cn|af|ap|ca|eu|il|me|mx|sa|us)-(central|east|north|northeast|northwest|south|southeast|southwest|west)-[1-9]`
	account   = `[0-9]{12}`
	// IAM allows any printable character in a path. Wildcards are among them, and
	// a policy would read them as such: only the characters of names are taken.
	iamPath = `([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64}`
	octet   = `(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])`
	ipv4    = octet + `(\.` + octet + `){3}`
	// Names of Kubernetes objects, as RFC 1123 defines them. Source: "Object Names
	// and IDs" in the Kubernetes documentation, and validation.go of
	// k8s.io/apimachinery.
	dnsLabel     = `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`
	dnsSubdomain = `[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*`
	// What EKS takes in no access entry, system:authenticated among them.
	reservedGroups = `^(system|eks|aws|amazon|iam):`
	// The characters that every AWS service takes in tags.
	tagChars = `[\p{L}\p{Z}\p{N}_.:/=+@-]`
)

// accessPolicies are the EKS access policies that can be associated with an entry of
// a role or a user. Left out are those for service-linked roles, for the cluster role
// and for the nodes of Auto Mode. Source: "Review access policy permissions" in the
// EKS user guide,
// https://docs.aws.amazon.com/eks/latest/userguide/access-policy-permissions.html,
// and the output of `aws eks list-access-policies`, 2026.
var accessPolicies = []string{
	"AIDevOpsAgentAccessPolicy",
	"AWSBackupFullAccessPolicyForBackup",
	"AWSBackupFullAccessPolicyForRestore",
	"AmazonAIOpsAssistantPolicy",
	"AmazonARCRegionSwitchScalingPolicy",
	"AmazonEKSACKPolicy",
	"AmazonEKSAdminPolicy",
	"AmazonEKSAdminViewPolicy",
	"AmazonEKSArgoCDClusterPolicy",
	"AmazonEKSArgoCDPolicy",
	"AmazonEKSClusterAdminPolicy",
	"AmazonEKSEditPolicy",
	"AmazonEKSKROPolicy",
	"AmazonEKSSecretAdminPolicy",
	"AmazonEKSSecretReaderPolicy",
	"AmazonEKSViewPolicy",
	"AmazonEMRJobPolicy",
	"AmazonSagemakerHyperpodClusterPolicy",
	"AmazonSagemakerHyperpodControllerPolicy",
	"AmazonSagemakerHyperpodSpacePolicy",
	"AmazonSagemakerHyperpodSpaceTemplatePolicy",
	"AmazonSagemakerHyperpodSystemNamespacePolicy",
	"AmazonSagemakerHyperpodUserClusterPolicy",
}

var byName = map[string]*Rule{
	"clusterName": {
		Want:    "1 to 100 letters, digits, hyphens and underscores, beginning with a letter or a digit",
		Pattern: place.ClusterNamePattern,
	},
	// Source: AWS CDK, cdk bootstrap --qualifier, and the AllowedPattern in its template.
	"qualifier": {
		Want:    "1 to 10 lowercase letters and digits",
		Pattern: `^[a-z0-9]{1,10}$`,
	},
	"policyName": {
		Want:    "the name of an IAM policy, of 1 to 128 letters, digits and +=,.@_-, without the ARN",
		Pattern: `^([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,128}$`,
	},
	"cdkRole": {
		Want:      "the name of an IAM role without the ARN, such as deployer-${AWS::Region}",
		Pattern:   `^([A-Za-z0-9_+=,.@-]|\$\{AWS::AccountId\}|\$\{AWS::Region\}|\$\{Qualifier\}|[A-Za-z0-9]/)+$`,
		MaxLength: 200,
	},
	"waveName": {
		Want:    "1 to 63 lowercase letters, digits and hyphens, beginning and ending with a letter or a digit",
		Pattern: `^` + dnsLabel + `$`,
	},
	// As the names of Kubernetes labels, without a prefix.
	"labelKey": {
		Want:    "1 to 63 letters, digits, hyphens, underscores and dots, beginning and ending with a letter or a digit",
		Pattern: `^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`,
	},
	"labelValue": {
		Want:    "1 to 63 letters, digits, hyphens, underscores and dots, beginning and ending with a letter or a digit",
		Pattern: `^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`,
	},
	// Names of labels and taints, with or without a prefix. Source: "Labels and Selectors"
	// in the Kubernetes documentation.
	"nodeLabelKey": {
		Want:      "the key of a Kubernetes label, such as team or example.com/team",
		Pattern:   `^(` + dnsSubdomain + `/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`,
		MaxLength: 317,
	},
	"amiType": {
		Want:    "an image that EKS has for Linux nodes",
		Strings: blueprint.AMITypes,
		Judge:   judgeAMIType,
	},
	"fargateProfile": {
		Want:       "1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or a digit, without the reserved prefix eks-",
		Pattern:    `^` + dnsLabel + `$`,
		NotPattern: `^eks-`,
	},
	// Source: Amazon EKS User Guide, "Define which Pods use AWS Fargate when launched".
	"namespacePattern": {
		Want:    "the name of a Kubernetes namespace, in which * and ? may stand for characters",
		Pattern: `^[a-z0-9*?]([a-z0-9*?-]{0,61}[a-z0-9*?])?$`,
	},
	"addOnName": {
		Want:    "the name of an EKS add-on, such as coredns: 1 to 100 letters, digits, hyphens and underscores",
		Pattern: `^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`,
	},
	"addOnVersion": {
		Want:    "the version of an EKS add-on, such as v1.20.4-eksbuild.2, or latest",
		Pattern: `^(v[0-9]+\.[0-9]+\.[0-9]+(-[A-Za-z0-9.-]+)?|` + Latest + `)$`,
	},
	"addOnConfiguration": {
		Want:      "text that is a mapping in YAML or JSON",
		MinLength: 1,
		MaxLength: 10000,
		Judge:     judgeMapping,
	},
	"overridePath": {
		Want:       "the path of a property, such as ZonalShiftConfig.Enabled",
		Pattern:    `^[A-Z][A-Za-z0-9]*(\.([A-Z][A-Za-z0-9]*|[0-9]+))*$`,
		NotPattern: `^(` + strings.Join(slices.Sorted(maps.Keys(owned)), "|") + `)(\.|$)`,
		Judge:      judgeOverride,
	},
	"overrideValue": {
		Want:      "a value as text",
		MinLength: 1,
		MaxLength: 1000,
	},
	"account": {
		Want:    "an AWS account ID of 12 digits",
		Pattern: `^` + account + `$`,
	},
	"region": {
		Want:    "an AWS Region of the partitions aws, aws-us-gov or aws-cn, such as eu-central-1",
		Pattern: `^` + region + `$`,
		Judge:   judgeRegion,
	},
	"kubernetesVersion": {
		Want:    "a version that EKS offers",
		Strings: eksversion.Accepted(),
		Judge:   judgeKubernetesVersion,
	},
	"vpcID": {
		Want:    "the ID of a VPC, such as vpc-0123456789abcdef0",
		Pattern: `^vpc-([0-9a-f]{8}|[0-9a-f]{17})$`,
	},
	"subnetID": {
		Want:    "the ID of a subnet, such as subnet-0123456789abcdef0",
		Pattern: `^subnet-([0-9a-f]{8}|[0-9a-f]{17})$`,
	},
	"securityGroupID": {
		Want:    "the ID of a security group, such as sg-0123456789abcdef0",
		Pattern: `^sg-([0-9a-f]{8}|[0-9a-f]{17})$`,
	},
	"vpcCIDR": {
		Want:    "an IPv4 range in CIDR notation, /16 to /24, such as 10.0.0.0/16",
		Pattern: `^` + ipv4 + `/(1[6-9]|2[0-4])$`,
		Judge:   judgeVPCCIDR,
	},
	"availabilityZone": {
		Want:    "an Availability Zone, such as eu-central-1a",
		Pattern: `^` + region + `[a-z]$`,
	},
	"publicCIDR": {
		Want:    "a public IPv4 range in CIDR notation, such as 203.0.113.0/24",
		Pattern: `^` + ipv4 + `/([89]|[12][0-9]|3[0-2])$`,
		Judge:   judgePublicCIDR,
	},
	"instanceType": {
		Want:    "an EC2 instance type, such as m7i.large",
		Pattern: `^[a-z][a-z0-9-]*\.[a-z0-9-]+$`,
	},
	"roleARN": {
		Want:    "the ARN of an IAM role, such as arn:aws:iam::111122223333:role/Admin",
		Pattern: `^` + partition + `:iam::` + account + `:role/` + iamPath + `$`,
		Judge:   judgeRoleARN,
	},
	"role": {
		Want:    "the ARN of an IAM role, such as arn:aws:iam::111122223333:role/Admin, or a permission set, such as permission-set/AdministratorAccess",
		Pattern: `^(` + partition + `:iam::` + account + `:role/` + iamPath + `|` + place.PermissionSetPrefix + place.PermissionSetPattern + `)$`,
		Judge:   judgeRoleOrSet,
	},
	"principalARN": {
		Want:       "the ARN of an IAM role or user, such as arn:aws:iam::111122223333:role/Developer, or a permission set, such as permission-set/AdministratorAccess",
		Pattern:    `^(` + partition + `:iam::` + account + `:(role|user)/` + iamPath + `|` + place.PermissionSetPrefix + place.PermissionSetPattern + `)$`,
		NotPattern: `:role/aws-service-role/`,
		Judge:      judgePrincipalARN,
	},
	"keyARN": {
		Want:    "the ARN of a KMS key, such as arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		Pattern: `^` + partition + `:kms:` + region + `:` + account + `:key/(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`,
		Judge:   judgeKeyARN,
	},
	"keyAlias": {
		Want:       "alias/ followed by letters, digits, slashes, hyphens and underscores, at most 256 characters",
		Pattern:    `^alias/[A-Za-z0-9/_-]+$`,
		NotPattern: `^alias/aws/`,
		MaxLength:  256,
		Judge:      judgeKeyAlias,
	},
	"trailARN": {
		Want:    "the ARN of a CloudTrail trail, such as arn:aws:cloudtrail:eu-central-1:111122223333:trail/management",
		Pattern: `^` + partition + `:cloudtrail:` + region + `:` + account + `:trail/[A-Za-z0-9][A-Za-z0-9._-]{1,126}[A-Za-z0-9]$`,
		Judge:   judgeTrailARN,
	},
	"logRetention": {
		Want: "a retention period of CloudWatch Logs",
		Ints: place.LogRetentions(),
	},
	"fileName": {
		Want:    "the name of a file in the folder of this one, such as keys.json",
		Pattern: `^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`,
	},
	"email": {
		Want:      "an e-mail address, such as security@example.com",
		Pattern:   `^[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]+@[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+$`,
		MaxLength: 254,
	},
	"topicARN": {
		Want:    "the ARN of a standard SNS topic, such as arn:aws:sns:eu-central-1:111122223333:alarms",
		Pattern: `^` + partition + `:sns:` + region + `:` + account + `:[A-Za-z0-9_-]{1,256}$`,
		Judge:   judgeTopicARN,
	},
	"accessPolicy": {
		Want:    "the name of an EKS access policy",
		Strings: accessPolicies,
		Judge:   judgeAccessPolicy,
	},
	"namespace": {
		Want:    "the name of a Kubernetes namespace: 1 to 63 lower-case letters, digits and hyphens",
		Pattern: `^` + dnsLabel + `$`,
	},
	"dnsLabel": {
		Want:    "1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or a digit",
		Pattern: `^` + dnsLabel + `$`,
	},
	"serviceAccount": {
		Want:      "the name of a Kubernetes service account: labels of lower-case letters, digits and hyphens, joined by dots, at most 253 characters",
		Pattern:   `^` + dnsSubdomain + `$`,
		MaxLength: 253,
	},
	"secretName": {
		Want:      "the name of a Kubernetes secret: labels of lower-case letters, digits and hyphens, joined by dots, at most 253 characters",
		Pattern:   `^` + dnsSubdomain + `$`,
		MaxLength: 253,
		Judge:     judgeSecretName,
	},
	"group": {
		Want:       "the name of a Kubernetes group: 1 to 128 letters, digits and signs, without spaces and *, and without the reserved prefixes system:, eks:, aws:, amazon: and iam:",
		Pattern:    `^[!-)+-~]{1,128}$`,
		NotPattern: reservedGroups,
		Judge:      judgeGroup,
	},
	"exemption": {
		Want:    "the name of a ClusterRole, or the namespace and name of a Role with a slash between them, of letters, digits and :._@-",
		Pattern: `^(` + dnsLabel + `/)?[A-Za-z0-9:._@-]{1,253}$`,
	},
	"checkID": {
		Want:      "the ID of a rule: words of lower-case letters, joined by hyphens, such as endpoint-public",
		Pattern:   `^[a-z]+(-[a-z]+)+$`,
		MaxLength: 64,
	},
	"checkResource": {
		Want:       "a construct path or a logical ID, such as ekskms-production/SecretsKey, without wildcards",
		Pattern:    `^[^\s/*](.*[^\s/*])?$`,
		NotPattern: `[*\n\r]`,
		MaxLength:  1024,
	},
	"checkReason": {
		Want:       "one line of 10 to 500 characters that says why the finding is accepted",
		Pattern:    `^\S.*\S$`,
		NotPattern: `[\n\r]`,
		MinLength:  10,
		MaxLength:  500,
	},
	"image": {
		Want: "a container image with a tag or a digest, such as registry.example.com/kms-plugin:v1.0.0",
		Pattern: `^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?/)?` +
			`[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*` +
			`(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})$`,
	},
	"tagKey": {
		Want:       "a key of 1 to 128 letters, digits, spaces and _.:/=+-@, without the reserved prefix aws:",
		Pattern:    `^` + tagChars + `*$`,
		NotPattern: `^[Aa][Ww][Ss]:`,
		MinLength:  1,
		MaxLength:  128,
	},
	"tagValue": {
		Want:       "up to 256 letters, digits, spaces and _.:/=+-@, without the reserved prefix aws:",
		Pattern:    `^` + tagChars + `*$`,
		NotPattern: `^[Aa][Ww][Ss]:`,
		MaxLength:  256,
	},
}

func init() {
	for _, r := range byName {
		if r.Pattern != "" {
			r.re = regexp.MustCompile(r.Pattern)
		}
		if r.NotPattern != "" {
			r.notRE = regexp.MustCompile(r.NotPattern)
		}
	}
}

// Is tells whether a text is what a rule takes.
func Is(rule, value string) bool { return byName[rule].String(value) == "" }

// String says what is wrong with a text, or "".
func (r *Rule) String(value string) string {
	if r.Judge != nil {
		if m := r.Judge(value); m != "" {
			return m
		}
	}
	n := utf8.RuneCountInString(value)
	if len(r.Strings) > 0 && !slices.Contains(r.Strings, value) {
		return "must be " + r.Want + ": " + strings.Join(r.Strings, ", ")
	}
	if r.re != nil && !r.re.MatchString(value) || r.notRE != nil && r.notRE.MatchString(value) ||
		n < r.MinLength || r.MaxLength > 0 && n > r.MaxLength {
		return "must be " + r.Want
	}
	return ""
}

// Int says what is wrong with a number, or "".
func (r *Rule) Int(value int) string {
	if len(r.Ints) > 0 && !slices.Contains(r.Ints, value) {
		list := make([]string, len(r.Ints))
		for i, n := range r.Ints {
			list[i] = strconv.Itoa(n)
		}
		return "must be " + r.Want + ": " + strings.Join(list, ", ") + " days"
	}
	return ""
}

var (
	zoneRE    = regexp.MustCompile(`^(` + region + `)[a-z]$`)
	patchRE   = regexp.MustCompile(`^v?([0-9]+\.[0-9]+)(\.[0-9]+)?$`)
	accountRE = regexp.MustCompile(`^` + account + `$`)
)

func judgeRegion(v string) string {
	if m := zoneRE.FindStringSubmatch(v); m != nil {
		return "is an Availability Zone: give the Region, " + m[1]
	}
	return ""
}

func judgeKubernetesVersion(v string) string {
	if m := patchRE.FindStringSubmatch(v); m != nil && m[1] != v && slices.Contains(eksversion.Accepted(), m[1]) {
		return fmt.Sprintf("must be a minor version: give %q", m[1])
	}
	return ""
}

// cidr says what is wrong with a range that has host bits set, or "". It leaves
// everything that is not a range to the pattern.
func cidr(v string) (netip.Prefix, string) {
	p, err := netip.ParsePrefix(v)
	if err != nil || !p.Addr().Is4() {
		return netip.Prefix{}, ""
	}
	if m := p.Masked(); m != p {
		return p, "has bits set beyond its mask: give " + m.String()
	}
	return p, ""
}

func judgeVPCCIDR(v string) string {
	p, m := cidr(v)
	if m != "" || !p.IsValid() {
		return m
	}
	if a := p.Addr(); a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.As4()[0] == 0 || a.As4()[0] >= 240 {
		return "is a reserved range that no VPC can have: give a private one, such as 10.0.0.0/16"
	}
	return ""
}

func judgePublicCIDR(v string) string {
	p, m := cidr(v)
	if !p.IsValid() {
		return ""
	}
	if p.Bits() < 8 {
		return "would open the API server to much of the internet: give the ranges that need it, none larger than a /8"
	}
	if m != "" {
		return m
	}
	// EKS refuses these itself, but only once the deployment runs.
	if a := p.Addr(); a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() {
		return "is not a public range: addresses inside the VPC reach the private endpoint without it"
	}
	return ""
}

// otherService says that an ARN belongs to another service than the wanted one.
func otherService(a arn.ARN, service, want string) string {
	if a.Service != service && a.Service != "" {
		return fmt.Sprintf("is an ARN of the service %s: must be %s", a.Service, want)
	}
	return ""
}

func judgeIAM(v, kind string) string {
	want := "the ARN of an IAM " + kind
	if strings.ContainsAny(v, "*?") {
		return "has a wildcard: name each IAM " + kind + " by its ARN"
	}
	if accountRE.MatchString(v) {
		return "is a whole account: give " + want + " in it"
	}
	a, ok := place.ParseARN(v)
	if !ok {
		return ""
	}
	what, rest, _ := strings.Cut(a.Resource, "/")
	switch {
	case a.Service == "sts" && what == "assumed-role":
		name, _, _ := strings.Cut(rest, "/")
		return fmt.Sprintf("is a session of a role: give the role itself, arn:%s:iam::%s:role/%s (with its path, if it has one)", a.Partition, a.AccountID, name)
	case a.Service == "sts" && what == "federated-user":
		return "is a federated session: give " + want
	case a.Service != "iam":
		return otherService(a, "iam", want)
	case a.Resource == "root":
		return "is a whole account: give " + want + " in it"
	case what == "group" || what == "instance-profile":
		return "is an IAM " + what + ": give " + want
	}
	return ""
}

func judgeRoleARN(v string) string {
	if m := judgeIAM(v, "role"); m != "" {
		return m
	}
	if a, ok := place.ParseARN(v); ok && strings.HasPrefix(a.Resource, "user/") {
		return "is an IAM user: give the ARN of a role that the user may assume"
	}
	return ""
}

func judgeRoleOrSet(v string) string {
	if strings.HasPrefix(v, place.PermissionSetPrefix) {
		return ""
	}
	return judgeRoleARN(v)
}

func judgePrincipalARN(v string) string {
	if strings.HasPrefix(v, place.PermissionSetPrefix) {
		return ""
	}
	if m := judgeIAM(v, "role or user"); m != "" {
		return m
	}
	if strings.Contains(v, ":role/aws-service-role/") {
		return "is a service-linked role, which EKS takes in no access entry: give the ARN of another role or user"
	}
	return ""
}

func judgeAMIType(v string) string {
	switch {
	case strings.HasPrefix(v, "AL2_"):
		return "is Amazon Linux 2, of which EKS has no image for these versions of Kubernetes: give AL2023_x86_64_STANDARD or AL2023_ARM_64_STANDARD"
	case strings.HasPrefix(v, "WINDOWS_"), v == "CUSTOM":
		return "is not supported: make such a node group in Go, with EncryptedCluster.Cluster().AddNodegroupCapacity"
	}
	return ""
}

func judgeMapping(v string) string {
	var m map[string]any
	if err := yaml.Unmarshal([]byte(v), &m); err != nil || m == nil {
		return "must be text that is a mapping in YAML or JSON"
	}
	return ""
}

// owned are the properties of a cluster that fields have, or that keep the secrets safe,
// and the field.
var owned = map[string]string{
	"Name": "name", "Version": "kubernetesVersion", "Tags": "tags", "UpgradePolicy": "supportPolicy",
	"EncryptionConfig": "key", "Logging": "", "ResourcesVpcConfig": "endpoint and vpc", "AccessConfig": "accessEntries",
	"DeletionProtection": "", "RoleArn": "", "ComputeConfig": "capacity", "StorageConfig": "capacity",
}

func judgeOverride(v string) string {
	first, _, _ := strings.Cut(v, ".")
	switch field, found := owned[first]; {
	case !found:
		return ""
	case field == "":
		return first + " can't be overridden: it keeps the cluster safe"
	default:
		return first + " can't be overridden: use the field " + strings.ReplaceAll(field, " and ", " or the field ")
	}
}

func judgeSecretName(v string) string {
	if strings.Contains(v, "*") {
		return "has a wildcard, which RBAC does not know in names: name each secret"
	}
	return ""
}

var reservedGroupsRE = regexp.MustCompile(reservedGroups)

func judgeGroup(v string) string {
	if prefix := reservedGroupsRE.FindString(v); prefix != "" {
		return "has the reserved prefix " + prefix + ", which EKS takes in no access entry: give a group of your own"
	}
	return ""
}

func judgeKeyARN(v string) string {
	const describe = "`aws kms describe-key` prints it as Arn"
	if strings.HasPrefix(v, "alias/") {
		return "is an alias, which can move to another key: give the key's ARN, " + describe
	}
	a, ok := place.ParseARN(v)
	switch {
	case !ok && !strings.HasPrefix(v, "arn:"):
		return "must be the full ARN of a KMS key: " + describe
	case !ok:
		return ""
	case a.Service != "kms":
		return otherService(a, "kms", "the ARN of a KMS key")
	case strings.HasPrefix(a.Resource, "alias/"):
		return "is the ARN of an alias, which can move to another key: give the key's ARN, " + describe
	}
	return ""
}

func judgeKeyAlias(v string) string {
	switch {
	case strings.HasPrefix(v, "alias/aws/"):
		return "has the prefix alias/aws/, which is reserved for keys of AWS: give another, such as alias/eks/production"
	case !strings.HasPrefix(v, "alias/"):
		return "must begin with alias/"
	}
	return ""
}

func judgeTrailARN(v string) string {
	a, ok := place.ParseARN(v)
	if !ok {
		return ""
	}
	if strings.HasPrefix(a.Resource, "eventdatastore/") {
		return "is an event data store, which EventBridge gets no events from: give the ARN of a trail"
	}
	return otherService(a, "cloudtrail", "the ARN of a CloudTrail trail")
}

func judgeTopicARN(v string) string {
	a, ok := place.ParseARN(v)
	switch {
	case !ok:
		return ""
	case a.Service != "sns":
		return otherService(a, "sns", "the ARN of an SNS topic")
	case strings.HasSuffix(a.Resource, ".fifo"):
		return "is a FIFO topic, which alarms and e-mail can't use: give the ARN of a standard topic"
	case strings.Contains(a.Resource, ":"):
		return "is a subscription: give the ARN of its topic"
	}
	return ""
}

func judgeAccessPolicy(v string) string {
	if a, ok := place.ParseARN(v); ok && a.Service == "eks" {
		if _, name, found := strings.Cut(a.Resource, "/"); found && slices.Contains(accessPolicies, name) {
			return "must be the name alone: " + name
		}
	}
	return ""
}
