// Package scaffold writes Go source and the files of new projects.
package scaffold

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/names"
)

// The packages that ejected code may import, by their names in it.
var packages = map[string]string{
	"awscdk":        "github.com/aws/aws-cdk-go/awscdk/v2",
	"awscloudtrail": "github.com/aws/aws-cdk-go/awscdk/v2/awscloudtrail",
	"awsec2":        "github.com/aws/aws-cdk-go/awscdk/v2/awsec2",
	"awseksv2":      "github.com/aws/aws-cdk-go/awscdk/v2/awseksv2",
	"awsiam":        "github.com/aws/aws-cdk-go/awscdk/v2/awsiam",
	"awskms":        "github.com/aws/aws-cdk-go/awscdk/v2/awskms",
	"awslogs":       "github.com/aws/aws-cdk-go/awscdk/v2/awslogs",
	"awssns":        "github.com/aws/aws-cdk-go/awscdk/v2/awssns",
	"jsii":          "github.com/aws/jsii-runtime-go",
	"ekskms":        "github.com/ekskms/ekskms/constructs/ekskms",
}

// Eject returns a Go program that makes the stack of a cluster with the constructs
// alone, every value spelled out. Its template is that of the configuration, byte
// for byte: the constructs have the IDs that package stacks gives them.
func Eject(cluster config.Cluster) ([]byte, error) {
	s := &source{c: cluster}
	s.stack()
	body := s.b.String()
	used, err := selected(body)
	if err != nil {
		return nil, fmt.Errorf("scaffold: the program does not parse: %w", err)
	}

	b := &bytes.Buffer{}
	fmt.Fprintf(b, "// Package main makes the stack of EKS cluster %s.\n//\n", cluster.Name)
	b.WriteString("// It was written by ekskms eject, and is yours to change. The IDs of the constructs\n" +
		"// are the identity of what is deployed: to change that of the key or the cluster is to\n" +
		"// replace it.\npackage main\n\nimport (\n")
	for i, group := range [][]string{{"awscdk", "awscloudtrail", "awsec2", "awseksv2", "awsiam", "awskms", "awslogs", "awssns", "jsii"}, {"ekskms"}} {
		if i > 0 {
			b.WriteString("\n")
		}
		for _, name := range group {
			if used[name] {
				fmt.Fprintf(b, "\t%q\n", packages[name])
			}
		}
	}
	b.WriteString(")\n\n" + body)
	return format.Source(b.Bytes())
}

// selected returns the names before a dot in a program without its imports.
func selected(body string) (map[string]bool, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", "package main\n"+body, 0)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok {
				names[x.Name] = true
			}
		}
		return true
	})
	return names, nil
}

// source is a program that is being written.
type source struct {
	c config.Cluster
	b strings.Builder
}

func (s *source) f(format string, args ...any) { fmt.Fprintf(&s.b, format, args...) }

// field writes a field of a struct, if there is a value.
func (s *source) field(name, value string) {
	if value != "" {
		s.f("%s: %s,\n", name, value)
	}
}

func str(v string) string {
	if v == "" {
		return ""
	}
	return "jsii.String(" + strconv.Quote(v) + ")"
}

func num(v int) string { return "jsii.Number(" + strconv.Itoa(v) + ")" }

func truth(v bool) string { return "jsii.Bool(" + strconv.FormatBool(v) + ")" }

func list(values []string) string {
	if len(values) == 0 {
		return ""
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = strconv.Quote(v)
	}
	return "jsii.Strings(" + strings.Join(quoted, ", ") + ")"
}

func days(n int) string { return "awscdk.Duration_Days(" + num(n) + ")" }

func retention(n int) string { return "awslogs.RetentionDays_" + names.LogRetention(n) }

func (s *source) stack() {
	c := s.c
	s.f(`func main() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	newStack(app)
	app.Synth(nil)
}

// newStack makes the cluster and all that is around it.
func newStack(app awscdk.App) awscdk.Stack {
`)
	s.f("stack := awscdk.NewStack(app, %s, &awscdk.StackProps{\n", str(names.Stack(c.Name)))
	if c.Region != "" {
		s.f("Env: &awscdk.Environment{Account: %s, Region: %s},\n", str(c.Account), str(c.Region))
	}
	s.field("Description", str("EKS cluster "+c.Name+" with secrets encrypted under a customer-managed key (ekskms)"))
	if len(c.Tags) > 0 {
		s.f("Tags: &map[string]*string{\n")
		for _, key := range slices.Sorted(maps.Keys(c.Tags)) {
			s.f("%q: %s,\n", key, "jsii.String("+strconv.Quote(c.Tags[key])+")")
		}
		s.f("},\n")
	}
	s.f("TerminationProtection: jsii.Bool(true),\n})\n\n")
	s.network()
	s.key()
	s.trail()
	s.cluster()
	s.rbac()
	s.outputs()
	s.f("return stack\n}\n")
}

func (s *source) network() {
	c := s.c
	if c.VPC.ID != "" {
		s.f("// No route is added to the existing subnets, and nothing depends on their zones.\n")
		zones := "awscdk.Fn_Select(jsii.Number(0), awscdk.Fn_GetAzs(nil)),\n"
		s.f("vpc := awsec2.Vpc_FromVpcAttributes(stack, jsii.String(\"Vpc\"), &awsec2.VpcAttributes{\nVpcId: %s,\nAvailabilityZones: &[]*string{\n%s},\nPrivateSubnetIds: %s,\n})\n",
			str(c.VPC.ID), strings.Repeat(zones, len(c.VPC.SubnetIDs)), list(c.VPC.SubnetIDs))
		s.f("awscdk.Annotations_Of(vpc).AcknowledgeWarning(jsii.String(\"@aws-cdk/aws-ec2:noSubnetRouteTableId\"),\njsii.String(\"No route is added to the existing subnets.\"))\n\n")
		return
	}
	if c.Region != "" {
		zones := `awscdk.Fn_Select(jsii.Number(0), awscdk.Fn_GetAzs(nil)),
awscdk.Fn_Select(jsii.Number(1), awscdk.Fn_GetAzs(nil)),
`
		s.f("// The CDK would look up the Availability Zones, with credentials.\n")
		value := "[]*string{\n" + zones + "}"
		if len(c.VPC.AvailabilityZones) > 0 {
			value = "*" + list(c.VPC.AvailabilityZones)
		}
		s.f("stack.Node().SetContext(%s, %s)\n", str("availability-zones:account="+c.Account+":region="+c.Region), value)
	}
	s.f("vpc := ekskms.NewClusterVpc(stack, jsii.String(\"Vpc\"), &ekskms.ClusterVpcProps{\n")
	s.field("Cidr", str(c.VPC.CIDR))
	s.field("AvailabilityZones", list(c.VPC.AvailabilityZones))
	s.field("NatGateways", num(c.VPC.NATGateways))
	s.f("})\n\n")
}

// roles is a list of roles by their ARNs, none of which is changed from here.
func roles(id string, arns []string) string {
	if len(arns) == 0 {
		return ""
	}
	b := &strings.Builder{}
	b.WriteString("&[]awsiam.IRole{\n")
	for i, arn := range arns {
		fmt.Fprintf(b, "awsiam.Role_FromRoleArn(stack, jsii.String(\"%s%d\"), %s, &awsiam.FromRoleArnOptions{Mutable: jsii.Bool(false)}),\n", id, i, str(arn))
	}
	b.WriteString("}")
	return b.String()
}

func (s *source) key() {
	c := s.c
	// Roles first: the order of the constructs is that of the resources.
	s.assign("administrators", roles("Administrator", c.Administrators))
	s.assign("creators", roles("Creator", c.Creators))
	s.f("key := ekskms.NewSecretsKey(stack, jsii.String(\"SecretsKey\"), &ekskms.SecretsKeyProps{\n")
	s.field("ClusterName", str(c.Name))
	if c.Key.ARN != "" {
		s.field("ExistingKey", "awskms.Key_FromKeyArn(stack, jsii.String(\"ExistingKey\"), "+str(c.Key.ARN)+")")
	} else {
		s.field("Alias", str(c.Key.Alias))
		s.field("RotationPeriod", days(c.Key.RotationPeriodDays))
		s.field("PendingWindow", days(c.Key.PendingWindowDays))
		s.field("MultiRegion", truth(c.Key.MultiRegion))
	}
	s.named("Administrators", "administrators", c.Administrators)
	s.named("Creators", "creators", c.Creators)
	s.field("StrictGrants", truth(c.Key.StrictGrants))
	s.f("})\n")
}

func (s *source) assign(name, value string) {
	if value != "" {
		s.f("%s := %s\n", name, value)
	}
}

// named writes a field whose value is a variable, if that was assigned.
func (s *source) named(field, variable string, values []string) {
	if len(values) > 0 {
		s.field(field, variable)
	}
}

func (s *source) trail() {
	a := s.c.Audit
	s.assign("readers", roles("LogReader", a.Readers))
	s.f("trail := ekskms.NewAuditTrail(stack, jsii.String(\"AuditTrail\"), &ekskms.AuditTrailProps{\nSecretsKey: key,\n")
	if a.TrailARN != "" {
		s.field("ExistingTrail", "awscloudtrail.CfnTrail_FromTrailArn(stack, jsii.String(\"ExistingTrail\"), "+str(a.TrailARN)+")")
	} else {
		s.field("Retention", days(a.RetentionDays))
		if a.CloudWatchLogsRetentionDays != 0 {
			s.field("CloudWatchLogs", retention(a.CloudWatchLogsRetentionDays))
		}
	}
	s.named("Readers", "readers", a.Readers)
	if a.TopicARN != "" {
		s.field("ExistingTopic", "awssns.Topic_FromTopicArn(stack, jsii.String(\"ExistingTopic\"), "+str(a.TopicARN)+")")
	}
	s.field("Emails", list(a.Emails))
	s.f("})\n")
}

func (s *source) cluster() {
	c := s.c
	s.f("cluster := ekskms.NewEncryptedCluster(stack, jsii.String(\"EncryptedCluster\"), &ekskms.EncryptedClusterProps{\n")
	s.field("ClusterName", str(c.Name))
	s.field("KubernetesVersion", "awseksv2.KubernetesVersion_Of("+str(c.KubernetesVersion)+")")
	s.field("Vpc", "vpc")
	if c.VPC.ID != "" {
		s.field("VpcSubnets", "&awsec2.SubnetSelection{Subnets: vpc.PrivateSubnets()}")
	}
	if c.Endpoint.Access == config.EndpointPublicAndPrivate {
		s.field("PublicAccessCidrs", list(c.Endpoint.PublicCIDRs))
	}
	if g := c.Capacity.NodeGroup; g != nil {
		s.f("NodeGroup: &ekskms.NodeGroup{\nInstanceTypes: %s,\nMinSize: %s,\nMaxSize: %s,\nDesiredSize: %s,\n},\n",
			list(g.InstanceTypes), num(g.MinSize), num(g.MaxSize), num(g.DesiredSize))
	}
	s.field("SecretsKey", "key")
	s.field("AuditTrail", "trail")
	s.field("ControlPlaneLogRetention", retention(c.Audit.ControlPlaneLogRetentionDays))
	if len(c.AccessEntries) > 0 {
		s.f("AccessEntries: &[]*ekskms.AccessEntry{\n")
		for _, e := range c.AccessEntries {
			s.f("{\n")
			s.field("PrincipalArn", str(e.PrincipalARN))
			s.field("Policy", str(e.Policy))
			s.field("Namespaces", list(e.Scope.Namespaces))
			s.field("Groups", list(e.Groups))
			s.f("},\n")
		}
		s.f("},\n")
	}
	if !c.Plugin.Enabled {
		s.field("WithoutPlugin", truth(true))
		s.f("})\n\n")
		return
	}
	s.field("PluginImage", str(c.Plugin.Image))
	s.field("PluginArchitecture", map[string]string{
		config.ArchitectureAMD64: "ekskms.PluginArchitectureAmd64", config.ArchitectureARM64: "ekskms.PluginArchitectureArm64",
	}[c.Plugin.Architecture])
	s.field("PluginMode", map[string]string{
		config.PluginDeployment: "ekskms.PluginModeDeployment", config.PluginSidecar: "ekskms.PluginModeSidecar", config.PluginDaemonSet: "ekskms.PluginModeDaemonSet",
	}[c.Plugin.Mode])
	if len(c.Plugin.Tenants) > 0 {
		s.f("PluginTenants: &[]*ekskms.PluginTenant{\n")
		for _, t := range c.Plugin.Tenants {
			s.f("{Name: %s, Namespace: %s, ServiceAccount: %s},\n", str(t.Name), str(t.Namespace), str(t.ServiceAccount))
		}
		s.f("},\n")
	}
	s.f("})\n\n")
}

func (s *source) rbac() {
	secrets := s.c.Secrets
	if len(secrets.Readers) == 0 && secrets.Guard == config.GuardOff {
		return
	}
	s.f("ekskms.NewSecretsRbac(stack, jsii.String(\"SecretsRbac\"), &ekskms.SecretsRbacProps{\nCluster: cluster.Cluster(),\n")
	if len(secrets.Readers) > 0 {
		s.f("Readers: &[]*ekskms.SecretReader{\n")
		for _, r := range secrets.Readers {
			s.f("{\n")
			s.field("Name", str(r.Name))
			s.field("Namespace", str(r.Namespace))
			s.field("SecretNames", list(r.SecretNames))
			s.field("Groups", list(r.Groups))
			s.field("PrincipalArns", list(r.PrincipalARNs))
			if len(r.ServiceAccounts) > 0 {
				s.f("ServiceAccounts: &[]*ekskms.SecretReaderServiceAccount{\n")
				for _, a := range r.ServiceAccounts {
					s.f("{Name: %s, Namespace: %s},\n", str(a.Name), str(a.Namespace))
				}
				s.f("},\n")
			}
			s.field("AllowList", truth(r.AllowList))
			s.field("AllowWatch", truth(r.AllowWatch))
			s.f("},\n")
		}
		s.f("},\n")
	}
	s.field("Guard", map[string]string{
		config.GuardOff: "ekskms.SecretsGuardOff", config.GuardWarn: "ekskms.SecretsGuardWarn", config.GuardDeny: "ekskms.SecretsGuardDeny",
	}[secrets.Guard])
	s.field("GuardExemptions", list(secrets.GuardExemptions))
	s.f("})\n\n")
}

func (s *source) outputs() {
	output := func(id, description, value string) {
		s.f("{%q, %q, %s},\n", id, description, value)
	}
	s.f("for _, output := range []struct {\nid, description string\nvalue *string\n}{\n")
	output("ClusterName", "Name of the EKS cluster", "cluster.Cluster().ClusterName()")
	output("UpdateKubeconfig", "Command that makes kubectl talk to the cluster", "cluster.UpdateKubeconfigCommand()")
	output("KeyArn", "ARN of the key that encrypts the secrets", "key.KeyArn()")
	output("TrailArn", "ARN of the trail that records every use of the key", "trail.TrailArn()")
	output("TopicArn", "ARN of the topic that receives the alarms", "trail.Topic().TopicArn()")
	if s.c.Plugin.Enabled {
		output("PluginRoleArn", "ARN of the KMS plugin's IAM role", "cluster.KmsPlugin().Role().RoleArn()")
	}
	s.f("} {\nawscdk.NewCfnOutput(stack, jsii.String(output.id), &awscdk.CfnOutputProps{Value: output.value, Description: jsii.String(output.description)})\n}\n")
}
