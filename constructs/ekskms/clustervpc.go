package ekskms

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// ClusterVpcProps configures a VPC made with [NewClusterVpc].
type ClusterVpcProps struct {
	// Cidr is the IPv4 address range.
	// Default: 10.0.0.0/16.
	Cidr *string
	// AvailabilityZones of the subnets, at least two.
	// Default: the first two of the Region.
	AvailabilityZones *[]*string
	// NatGateways is the number of NAT gateways. With one, a failing
	// Availability Zone can cut the others off from AWS's APIs.
	// Default: 1.
	NatGateways *float64
}

// NewClusterVpc makes a VPC for a cluster: a public and a private subnet in
// each Availability Zone, tagged for load balancers, and a default security
// group without rules.
//
// In a stack whose account and Region are known, CDK looks up the Availability
// Zones, for which the CDK CLI needs credentials; see
// [github.com/ekskms/ekskms/stacks] for a stack that does without.
func NewClusterVpc(scope constructs.Construct, id *string, props *ClusterVpcProps) awsec2.Vpc {
	if props == nil {
		props = &ClusterVpcProps{}
	}
	var maxAzs *float64
	if props.AvailabilityZones == nil {
		maxAzs = jsii.Number(2)
	} else if n := len(*props.AvailabilityZones); n < 2 {
		reject("ClusterVpc", "AvailabilityZones", "has %d elements, EKS needs at least 2", n)
	}
	return awsec2.NewVpc(scope, id, &awsec2.VpcProps{
		IpAddresses:                  awsec2.IpAddresses_Cidr(orDefault(props.Cidr, "10.0.0.0/16")),
		AvailabilityZones:            props.AvailabilityZones,
		MaxAzs:                       maxAzs,
		NatGateways:                  orDefault(props.NatGateways, 1),
		RestrictDefaultSecurityGroup: jsii.Bool(true),
	})
}
