package ekskms

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/blueprint"
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
	// Isolated makes a VPC without a way to the internet: without NAT gateways and public
	// subnets, and with VPC endpoints for what a cluster, its nodes and the plugin call. Pass
	// its isolated subnets to the cluster as VpcSubnets. Not in China, and not beside
	// NatGateways.
	// Default: false.
	Isolated *bool
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
	if *orDefault(props.Isolated, false) {
		if props.NatGateways != nil {
			reject("ClusterVpc", "NatGateways", "is set beside Isolated: give one of them")
		}
		return isolatedVpc(scope, id, props, maxAzs)
	}
	return awsec2.NewVpc(scope, id, &awsec2.VpcProps{
		IpAddresses:                  awsec2.IpAddresses_Cidr(orDefault(props.Cidr, blueprint.DefaultCIDR)),
		AvailabilityZones:            props.AvailabilityZones,
		MaxAzs:                       maxAzs,
		NatGateways:                  orDefault(props.NatGateways, 1),
		RestrictDefaultSecurityGroup: jsii.Bool(true),
	})
}

// isolatedVpc has one kind of subnets, and endpoints.
func isolatedVpc(scope constructs.Construct, id *string, props *ClusterVpcProps, maxAzs *float64) awsec2.Vpc {
	vpc := awsec2.NewVpc(scope, id, &awsec2.VpcProps{
		IpAddresses:                  awsec2.IpAddresses_Cidr(orDefault(props.Cidr, blueprint.DefaultCIDR)),
		AvailabilityZones:            props.AvailabilityZones,
		MaxAzs:                       maxAzs,
		NatGateways:                  jsii.Number(0),
		RestrictDefaultSecurityGroup: jsii.Bool(true),
		SubnetConfiguration:          &[]*awsec2.SubnetConfiguration{{Name: jsii.String("Isolated"), SubnetType: awsec2.SubnetType_PRIVATE_ISOLATED}},
	})
	for _, subnet := range *vpc.IsolatedSubnets() {
		awscdk.Tags_Of(subnet).Add(jsii.String("kubernetes.io/role/internal-elb"), jsii.String("1"), nil)
	}
	at := siteOf(vpc)
	group := awsec2.NewSecurityGroup(vpc, jsii.String("Endpoints"), &awsec2.SecurityGroupProps{
		Vpc: vpc, Description: jsii.String(blueprint.EndpointsDescription), AllowAllOutbound: jsii.Bool(false),
	})
	group.AddIngressRule(awsec2.Peer_Ipv4(orDefault(props.Cidr, blueprint.DefaultCIDR)), awsec2.Port_Tcp(jsii.Number(443)), jsii.String("HTTPS from the VPC"), nil)
	for _, e := range blueprint.Endpoints(true) {
		name := jsii.String(blueprint.EndpointService(at.Region.Text(), e.Service))
		if e.Gateway {
			vpc.AddGatewayEndpoint(jsii.String(e.ID), &awsec2.GatewayVpcEndpointOptions{Service: awsec2.GatewayVpcEndpointAwsService_S3()})
			continue
		}
		vpc.AddInterfaceEndpoint(jsii.String(e.ID), &awsec2.InterfaceVpcEndpointOptions{
			Service:           awsec2.NewInterfaceVpcEndpointService(name, jsii.Number(443)),
			PrivateDnsEnabled: jsii.Bool(true),
			SecurityGroups:    &[]awsec2.ISecurityGroup{group},
			Open:              jsii.Bool(false),
		})
	}
	return vpc
}
