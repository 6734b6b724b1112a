package kmsplugin

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// cluster is the EKS cluster whose secrets the first key encrypts. Its ARN is
// not kept: it may be the value of the encryption context, which is never said.
type cluster struct {
	name   string
	region string
}

// clusterARN: a name has 1 to 100 letters, digits, dashes and underscores and
// begins with a letter or digit (EKS API reference, CreateCluster).
var clusterARN = regexp.MustCompile(`^arn:aws(?:-[a-z]+)*:eks:([a-z]+(?:-[a-z]+)+-[0-9]+):[0-9]{12}:cluster/([0-9A-Za-z][0-9A-Za-z_-]{0,99})$`)

func parseCluster(s string) (c cluster, err error) {
	m := clusterARN.FindStringSubmatch(s)
	if m == nil {
		return c, fmt.Errorf("%q is not the ARN of an EKS cluster, arn:<partition>:eks:<region>:<account>:cluster/<name>", s)
	}
	return cluster{region: m[1], name: m[2]}, nil
}

// grantee is the service principal to which EKS has the grant made (seen in the
// partition aws only).
func (c cluster) grantee() string { return "eks." + c.region + ".amazonaws.com" }

// grantName is the name of that grant. It was seen on real clusters and is not
// documented, so nothing but its disappearance is held against a key.
func (c cluster) grantName() string { return "eks-grant-" + c.name }

// isEKS tells whether a grant is one for EKS. China may have its own suffix, as
// it has for other service principals (not known for this one).
func (c cluster) isEKS(g types.GrantListEntry) bool {
	names := []string{c.grantee(), c.grantee() + ".cn", "eks.amazonaws.com"}
	return slices.Contains(names, aws.ToString(g.GranteePrincipal)) || slices.Contains(names, aws.ToString(g.GranteeServicePrincipal))
}

// isOwn tells whether a grant for EKS is the one of this cluster.
func (c cluster) isOwn(g types.GrantListEntry) bool {
	return aws.ToString(g.Name) == c.grantName() &&
		slices.Contains(g.Operations, types.GrantOperationEncrypt) && slices.Contains(g.Operations, types.GrantOperationDecrypt)
}

// grantState is what is known of EKS's grant on the key.
type grantState string

const (
	grantPresent      grantState = "present"      // under the name that is usual, with both operations
	grantUnrecognized grantState = "unrecognized" // EKS has a grant, but none of that name
	grantMissing      grantState = "missing"      // EKS has none, in confirmations looks in a row
	grantUnknown      grantState = "unknown"      // not looked at yet, or the looks fail
)

var grantStates = []grantState{grantPresent, grantUnrecognized, grantMissing, grantUnknown}
