// Package place knows where things are in AWS: partitions, Regions, the ARNs that are
// made of them, and the fixed names around a cluster.
package place

import (
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// ClusterNamePattern is what EKS takes as the name of a cluster. Source: Amazon EKS
// API Reference, CreateCluster.
const ClusterNamePattern = `^[0-9A-Za-z][A-Za-z0-9_-]{0,99}$`

var clusterName = regexp.MustCompile(ClusterNamePattern)

// IsClusterName tells whether EKS takes a name.
func IsClusterName(name string) bool { return clusterName.MatchString(name) }

// AccountPattern is what the number of an account looks like, RolePattern what the ARN
// of an IAM role does.
const (
	AccountPattern = `^[0-9]{12}$`
	RolePattern    = `^arn:[a-z-]+:iam::[0-9]{12}:role/([0-9A-Za-z_+=,.@-]+/)*[0-9A-Za-z_+=,.@-]{1,64}$`
)

var (
	account = regexp.MustCompile(AccountPattern)
	role    = regexp.MustCompile(RolePattern)
	// A wildcard would be one of no principal.
	principal = regexp.MustCompile(`^arn:[a-z-]+:iam::[0-9]{12}:(role|user)/[0-9A-Za-z_+=,.@/-]+$`)
	region    = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
)

// IsAccount tells whether a text is the number of an account.
func IsAccount(text string) bool { return account.MatchString(text) }

// IsRegion tells whether a text has the form of a Region's name.
func IsRegion(text string) bool { return region.MatchString(text) }

// IsRole tells whether a text is the ARN of an IAM role.
func IsRole(text string) bool { return role.MatchString(text) }

// IsPrincipal tells whether a text is the ARN of an IAM role or user.
func IsPrincipal(text string) bool { return principal.MatchString(text) }

// partitions are those beside aws, by how the names of their Regions begin. Source: the
// endpoint data of the AWS SDKs.
var partitions = []struct{ prefix, name, suffix string }{
	{"cn-", "aws-cn", "amazonaws.com.cn"},
	{"us-gov-", "aws-us-gov", "amazonaws.com"},
	{"us-iso-", "aws-iso", "c2s.ic.gov"},
	{"us-isob-", "aws-iso-b", "sc2s.sgov.gov"},
	{"eu-isoe-", "aws-iso-e", "cloud.adc-e.uk"},
	{"us-isof-", "aws-iso-f", "csp.hci.ic.gov"},
	{"eusc-", "aws-eusc", "amazonaws.eu"},
}

// Partition returns the partition of a Region, such as aws or aws-us-gov.
func Partition(region string) string {
	for _, p := range partitions {
		if strings.HasPrefix(region, p.prefix) {
			return p.name
		}
	}
	return "aws"
}

// GlobalRegion is the Region of a partition that has the events of IAM, or "" if that is not
// known here. Sources: AWS re:Post, "Why does my EventBridge rule for IAM events only trigger
// in the us-east-1 Region?"; those of aws-us-gov and aws-cn are inferred.
func GlobalRegion(partition string) string {
	return map[string]string{"aws": "us-east-1", "aws-us-gov": "us-gov-west-1", "aws-cn": "cn-north-1"}[partition]
}

// DNSSuffix returns the suffix of a partition's service endpoints.
func DNSSuffix(partition string) string {
	for _, p := range partitions {
		if p.name == partition {
			return p.suffix
		}
	}
	return "amazonaws.com"
}

// ParseARN returns the parts of an ARN. The second result is false for a text that is
// none, a renderer's token among them.
func ParseARN(text string) (arn.ARN, bool) {
	parts, err := arn.Parse(text)
	return parts, err == nil
}

// Value is a text that a renderer may know only as a reference: CloudFormation's and
// Terraform's have theirs, what is printed has [Literal] values.
type Value interface {
	// Text stands for the value in policies, event patterns and Kubernetes objects.
	Text() string
	// Known tells whether Text is the value itself.
	Known() bool
}

// Literal is a value that is known.
type Literal string

// Text returns the value.
func (l Literal) Text() string { return string(l) }

// Known is true.
func (l Literal) Known() bool { return true }

// Place is a Region of an account.
type Place struct {
	Partition, Account, Region Value
	// DNSSuffix is that of the partition, such as amazonaws.com.
	DNSSuffix Value
}

// In returns the place of an account and a Region.
func In(account, region string) Place {
	partition := Partition(region)
	return Place{Literal(partition), Literal(account), Literal(region), Literal(DNSSuffix(partition))}
}

// ARN returns the ARN of a resource in the place.
func (p Place) ARN(service, resource string) string {
	return arn.ARN{Partition: p.Partition.Text(), Service: service, Region: p.Region.Text(), AccountID: p.Account.Text(), Resource: resource}.String()
}

// IAM returns the ARN of a resource of IAM in the account, such as root or role/name.
func (p Place) IAM(resource string) string { return p.iam(p.Account.Text(), resource) }

// ManagedPolicy returns the ARN of an IAM policy that AWS manages.
func (p Place) ManagedPolicy(name string) string { return p.iam("aws", "policy/"+name) }

// PermissionSetPrefix stands before the name of a permission set of IAM Identity Center
// where a role may be named.
const PermissionSetPrefix = "permission-set/"

// PermissionSetPattern is what IAM Identity Center takes as the name of a permission set.
// Source: IAM Identity Center API Reference, CreatePermissionSet.
const PermissionSetPattern = `[A-Za-z0-9_+=,.@-]{1,32}`

var permissionSet = regexp.MustCompile("^" + PermissionSetPattern + "$")

// IsPermissionSet tells whether a text can be the name of a permission set.
func IsPermissionSet(name string) bool { return permissionSet.MatchString(name) }

// The role of a permission set: sixteen characters follow that are others
// in each account, and new with each new role. They are written as sixteen ? and not as *,
// which would take in the set Admin_Billing with the set Admin. Source: IAM Identity Center
// User Guide, "Referencing permission sets in resource policies, Amazon EKS Cluster config
// maps, and AWS KMS key policies".
const (
	// SetPath is the IAM path, but for its first slash, of the roles of permission sets.
	SetPath   = "aws-reserved/sso.amazonaws.com/"
	setSuffix = "_????????????????"
)

// Role is the ARN of a role that is given as that, or as a permission set: then a pattern,
// see [RolePatterns].
func (p Place) Role(name string) string {
	if set, ok := strings.CutPrefix(name, PermissionSetPrefix); ok {
		return p.IAM("role/" + SetPath + "AWSReservedSSO_" + set + setSuffix)
	}
	return name
}

// IsSet tells whether an ARN is the pattern of the role of a permission set.
func IsSet(arn string) bool { return strings.HasSuffix(arn, setSuffix) }

var roleOfSet = regexp.MustCompile(`^role/` + regexp.QuoteMeta(SetPath) + `(?:[a-z0-9-]+/)?AWSReservedSSO_(` + PermissionSetPattern + `)_[0-9a-f]{16}$`)

// SetOfRole is the name of the permission set of a role, by its ARN.
func SetOfRole(arn string) (set string, ok bool) {
	p, ok := ParseARN(arn)
	if !ok || p.Service != "iam" {
		return "", false
	}
	m := roleOfSet.FindStringSubmatch(p.Resource)
	if m == nil {
		return "", false
	}
	return m[1], true
}

// RolesBelow is the pattern of all roles with an IAM path, such as /ekskms/cluster/: see
// [RolePatterns].
func (p Place) RolesBelow(path string) string { return p.IAM("role" + path + "*") }

// RolePatterns are all patterns of the role of a permission set: with the Region of Identity
// Center in its path, and without it, which is so in us-east-1; or that of roles by their
// path. Nil for the ARN of a role.
func RolePatterns(arn string) []string {
	if strings.HasSuffix(arn, "/*") {
		return []string{arn}
	}
	if !IsSet(arn) {
		return nil
	}
	return []string{arn, strings.Replace(arn, SetPath, SetPath+"*/", 1)}
}

func (p Place) iam(account, resource string) string {
	return arn.ARN{Partition: p.Partition.Text(), Service: "iam", AccountID: account, Resource: resource}.String()
}

// AccessPolicy returns the ARN of an EKS access policy.
func (p Place) AccessPolicy(name string) string {
	return arn.ARN{Partition: p.Partition.Text(), Service: "eks", AccountID: "aws", Resource: "cluster-access-policy/" + name}.String()
}

// Service returns the endpoint name of a service, which is also the name of some
// service principals and of kms:ViaService.
func (p Place) Service(name string) string {
	return name + "." + p.Region.Text() + "." + p.DNSSuffix.Text()
}

// BootstrapQualifier is that of a CDK environment which was bootstrapped without one.
const BootstrapQualifier = "hnb659fds"

// ExecutionRole is the role with which CloudFormation works when the CDK CLI deploys
// into an environment that was bootstrapped. Source: AWS CDK Developer Guide,
// "Customize AWS CDK bootstrapping".
func (p Place) ExecutionRole(qualifier string) string {
	account := p.Account.Text()
	return p.IAM("role/cdk-" + qualifier + "-cfn-exec-role-" + account + "-" + p.Region.Text())
}
