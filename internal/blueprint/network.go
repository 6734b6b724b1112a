package blueprint

// Endpoint is a VPC endpoint of a VPC without a way to the internet.
type Endpoint struct {
	// ID tells it apart in a template.
	ID string
	// Service is the name of the service, without the prefix and the Region.
	Service string
	// Gateway tells that it is a route, which costs nothing, and not an interface.
	Gateway bool
	// Why the cluster needs it.
	Why string
}

// Endpoints are what a cluster in a VPC without a way to the internet needs. Source: Amazon
// EKS User Guide, "Deploy private clusters with limited internet access".
//
// In a template there may be a kubectl handler too, which works in the VPC.
func Endpoints(kubectlHandler bool) []Endpoint {
	all := []Endpoint{
		{ID: "S3", Service: "s3", Gateway: true, Why: "the layers of images in ECR, and what a custom resource answers CloudFormation"},
		{ID: "Ec2", Service: "ec2", Why: "network interfaces of the pods and the state of nodes"},
		{ID: "EcrApi", Service: "ecr.api", Why: "access to images in ECR"},
		{ID: "EcrDkr", Service: "ecr.dkr", Why: "the images in ECR"},
		{ID: "Eks", Service: "eks", Why: "nodes that join, and the kubectl handler, ask for the cluster"},
		{ID: "EksAuth", Service: "eks-auth", Why: "Pod Identity, from which the plugin has its credentials"},
		{ID: "Kms", Service: "kms", Why: "the plugin"},
		{ID: "Logs", Service: "logs", Why: "agents on the nodes that send logs"},
		{ID: "Sts", Service: "sts", Why: "credentials of nodes and of the kubectl handler"},
	}
	if kubectlHandler {
		all = append(all, Endpoint{ID: "Lambda", Service: "lambda", Why: "the function of CloudFormation that calls the kubectl handler"})
	}
	return all
}

// EndpointsDescription is that of the security group of the endpoints.
const EndpointsDescription = "VPC endpoints of an EKS cluster: HTTPS from the VPC"

// EndpointService is the full name of a service of endpoints in a Region. China has others.
func EndpointService(region, service string) string { return "com.amazonaws." + region + "." + service }
