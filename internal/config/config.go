// Package config reads ekskms.yaml, the description of an encrypted EKS cluster,
// into a plain Go model.
//
// Reading is strict and reports every fault of a file at once, each with its line:
//
//	ekskms.yaml:7: clusters[0].key.rotationPeriodDays: 30: must be 90 to 2560 days
//
// A model that [Parse] returns is complete: every default is filled in, so a caller that
// renders it never has to choose one.
//
// The limits of a field stand once, in its struct tags and in the rules these name.
// The decoder and the generator of the JSON Schema both read them there, and the
// comments of this file become the schema's descriptions.
package config

//go:generate go run ./gen

// Values of the fields that take one of a few words.
const (
	EndpointPrivate          = "private"
	EndpointPublicAndPrivate = "publicAndPrivate"
	CapacityAuto             = "auto"
	CapacityNodeGroup        = "nodeGroup"
	CapacityNone             = "none"
	ScopeCluster             = "cluster"
	ScopeNamespace           = "namespace"
	PluginDeployment         = "deployment"
	PluginSidecar            = "sidecar"
	PluginDaemonSet          = "daemonset"
	ApplyHandler             = "handler"
	ApplyNone                = "none"
	GuardOff                 = "off"
	GuardWarn                = "warn"
	GuardDeny                = "deny"
	ArchitectureAMD64        = "amd64"
	ArchitectureARM64        = "arm64"
)

// File is the content of an ekskms.yaml.
type File struct {
	// What every cluster has unless it says otherwise: any field of a cluster but its name. It is merged field by field; a list of the cluster replaces the whole list. A field that can't stand beside one of the cluster's own gives way to it. Default: nothing.
	Defaults *Cluster `yaml:"defaults,omitempty" config:"part"`

	// The clusters to build: at most 1,000. Required.
	Clusters []Cluster `yaml:"clusters" jsonschema:"required,minItems=1,maxItems=1000"`

	// What the clusters of an account and Region share: the record and the alarms. With several clusters they always share it. Default: for a cluster alone, its own.
	Shared *Shared `yaml:"shared,omitempty" config:"optional"`

	// The order in which the clusters are deployed: a wave waits for the one before it. Default: all at once.
	Waves []Wave `yaml:"waves,omitempty" jsonschema:"maxItems=50"`

	// All are all clusters of the file, where Clusters are some of them: see [File.Only].
	All []Cluster `yaml:"-"`
}

// Shared is what the clusters of an account and Region share, in stacks of its own.
type Shared struct {
	// How the use of the keys, and tampering with them, is recorded and reported. Default: one new trail for each account, no notifications by e-mail.
	Audit SharedAudit `yaml:"audit"`

	// A central account for the keys of all clusters that have no key.arn. Default: each key is in the account of its cluster.
	KeyAccount *KeyAccount `yaml:"keyAccount,omitempty" config:"optional"`

	// The VPC of the clusters with vpc.shared: a new one in each account and Region that has such a cluster, in a stack ekskms-network of its own. Default: the defaults of its fields, where a cluster asks for one.
	VPC *SharedVPC `yaml:"vpc,omitempty" config:"optional"`

	// Home Regions of the new trails, by account. A trail can't move. Default: the Region of the account's first cluster.
	HomeRegions map[string]string `yaml:"homeRegions,omitempty" jsonschema:"maxProperties=1000" config:"keyRule=account,rule=region"`

	// Tags for every resource of the shared stacks that can have them, as those of a cluster. Default: none.
	Tags map[string]string `yaml:"tags,omitempty" jsonschema:"maxProperties=50" config:"keyRule=tagKey,rule=tagValue"`
}

// SharedVPC is the VPC of several clusters, with subnets in the first two Availability Zones of the Region.
type SharedVPC struct {
	// IPv4 range, /16 to /24. Default: 10.0.0.0/16.
	CIDR string `yaml:"cidr,omitempty" config:"is=cidr,rule=vpcCIDR"`

	// Number of NAT gateways: 1 or 2. Not with isolated. Default: 1.
	NATGateways int `yaml:"natGateways,omitempty" config:"is=natGateways,unless=isolated"`

	// Whether the VPC has no way to the internet, as isolated of a cluster's own VPC. Default: false.
	Isolated bool `yaml:"isolated,omitempty" jsonschema:"default=false"`
}

// KeyAccount is a central account for keys. Its stacks, ekskms-keys with the record and the alarms around it, come first: the ARNs of the keys are known once they are deployed.
type KeyAccount struct {
	// AWS account of the keys: 12 digits, quoted. No cluster is there. Required.
	Account string `yaml:"account" jsonschema:"required" config:"rule=account"`

	// File beside this one with the ARNs of the keys, as npx cdk deploy --outputs-file writes it. Until a cluster's key is in it, the cluster has no stack. Default: keys.json.
	Outputs string `yaml:"outputs" jsonschema:"default=keys.json" config:"rule=fileName"`
}

// SharedAudit says how the use of the keys of several clusters, and tampering with them, is recorded and reported.
type SharedAudit struct {
	// ARN of an existing CloudTrail trail that records management events of KMS in all accounts and Regions here, such as one of the organization. No trail is made then. Default: a new trail in each account.
	TrailARN string `yaml:"trailArn,omitempty" config:"rule=trailARN"`

	// Days that the log bucket of a new trail keeps its objects, 1 to 36500. Not with trailArn. Default: 365.
	RetentionDays int `yaml:"retentionDays,omitempty" config:"is=trailDays,unless=trailArn"`

	// Days that a copy of a new trail is kept in CloudWatch Logs, one of the periods that it has. Any principal that IAM lets read the log group reads the copy, whatever readers says. Every management event of the account is ingested, and billed. Not with trailArn. Default: no copy.
	CloudWatchLogsRetentionDays int `yaml:"cloudWatchLogsRetentionDays,omitempty" config:"is=copyDays,rule=logRetention,unless=trailArn"`

	// E-mail addresses that the notification topics of all accounts and Regions send alarms to. Each must confirm each subscription. Default: none.
	Emails []string `yaml:"emails,omitempty" jsonschema:"uniqueItems=true" config:"rule=email"`

	// ARNs of IAM roles, or permission sets as permission-set/NAME, that may decrypt the logs of the new trails of their partition. Not with trailArn. Default: none.
	Readers []string `yaml:"readers,omitempty" jsonschema:"uniqueItems=true" config:"rule=role,unless=trailArn"`
}

// Wave is a step of a rollout. It names clusters, or labels, or both.
type Wave struct {
	// Name of the wave, which no other has: 1 to 63 lowercase letters, digits and hyphens. Required.
	Name string `yaml:"name" jsonschema:"required" config:"rule=waveName"`

	// Names of clusters of the wave. Default: those that have the labels.
	Clusters []string `yaml:"clusters,omitempty" jsonschema:"minItems=1,uniqueItems=true" config:"rule=clusterName"`

	// Labels of the wave's clusters: those that have them all and are in no earlier wave. Default: the named clusters alone.
	Labels map[string]string `yaml:"labels,omitempty" jsonschema:"maxProperties=20" config:"keyRule=labelKey,rule=labelValue"`
}

// Cluster is an EKS cluster with its secrets key, its audit trail and its KMS plugin.
type Cluster struct {
	// Name of the cluster: 1 to 100 letters, digits, hyphens and underscores, beginning with a letter or a digit. Required.
	Name string `yaml:"name" jsonschema:"required" config:"rule=clusterName"`

	// Labels such as env: prod, by which --only and waves choose clusters: at most 20. They are no tags: nothing on AWS has them. Default: none.
	Labels map[string]string `yaml:"labels,omitempty" jsonschema:"maxProperties=20" config:"keyRule=labelKey,rule=labelValue"`

	// AWS account to deploy to: 12 digits, quoted. Given together with region, or not at all. Default: the account of the credentials that deploy.
	Account string `yaml:"account,omitempty" config:"rule=account,needs=region"`

	// AWS Region to deploy to, such as eu-central-1, us-gov-west-1 or cn-north-1. Given together with account, or not at all. Default: the Region of the credentials that deploy.
	Region string `yaml:"region,omitempty" config:"rule=region,needs=account"`

	// Kubernetes minor version, quoted, one that EKS offers in standard or extended support, or 1.37, which the CDK knows and no page of AWS names: a warning says so. 1.32, 1.36 and 1.37 are outside the supported version skew (one minor version) of the bundled kubectl 1.34: the constructs warn about them. Default: "1.35".
	KubernetesVersion string `yaml:"kubernetesVersion" config:"is=kubernetesVersion,rule=kubernetesVersion"`

	// What EKS does when the version's standard support ends. standard: it upgrades the cluster. extended: the cluster stays, at a higher price. Default: that of EKS, which is extended.
	SupportPolicy string `yaml:"supportPolicy,omitempty" jsonschema:"enum=standard,enum=extended"`

	// Network of the cluster: an existing VPC, one that clusters share, or a new one. Default: a new VPC.
	VPC VPC `yaml:"vpc"`

	// From where the Kubernetes API server can be reached. Default: from the VPC only.
	Endpoint Endpoint `yaml:"endpoint"`

	// What the pods run on. Default: EKS Auto Mode.
	Capacity Capacity `yaml:"capacity"`

	// A key for the disks of the nodes, and for the volumes of pods with the storage class encrypted. With Auto Mode nodePools must be none: the nodes are of a node class and a node pool named encrypted. On node groups, volumes of pods need the add-on aws-ebs-csi-driver with a podIdentity, whose role gets access to the key. Default: the disks are under the default key for EBS of the account.
	Volumes *Volumes `yaml:"volumes,omitempty" config:"optional"`

	// EKS add-ons: at most 50. Nodes of your own have the Pod Identity agent and the VPC CNI in any case, and what stands here of these is added to that; Auto Mode has both built in, with kube-proxy, CoreDNS and the EBS CSI driver. Default: no others.
	AddOns []AddOn `yaml:"addOns,omitempty" jsonschema:"maxItems=50"`

	// Properties of the resource AWS::EKS::Cluster that no field has, by their paths, such as ZonalShiftConfig.Enabled, each with its value in text, which is taken as JSON where it is such: at most 50. What other fields say, or what keeps the secrets safe, can't be overridden. In CloudFormation only: Terraform has override files for that. Default: none.
	Overrides map[string]string `yaml:"overrides,omitempty" jsonschema:"maxProperties=50" config:"keyRule=overridePath,rule=overrideValue"`

	// KMS key that encrypts the secrets: an existing key, or a new one. Default: a new key.
	Key Key `yaml:"key"`

	// ARNs of IAM roles, or permission sets of IAM Identity Center as permission-set/NAME, that may administer the key, of an existing key if its owner adds the statement. They can't encrypt or decrypt with it. The account itself can always administer it. At most 10, whose ARNs have 1,400 characters in all, of which a permission set takes about 270. Default: none besides the account.
	Administrators []string `yaml:"administrators,omitempty" jsonschema:"uniqueItems=true" config:"is=roles,rule=role"`

	// ARNs of the IAM roles, or permission sets as permission-set/NAME, that may create a cluster under the key (kms:CreateGrant). Name every role whose credentials deploy the template. At most 10, as for administrators. Default: the CloudFormation execution role that CDK bootstrapped in the target environment.
	Creators []string `yaml:"creators,omitempty" jsonschema:"uniqueItems=true" config:"is=roles,rule=role"`

	// How the use of the key, and tampering with it, is recorded and reported. Default: a new trail, no notifications by e-mail.
	Audit Audit `yaml:"audit"`

	// IAM principals that may use the Kubernetes API. Default: none.
	AccessEntries []AccessEntry `yaml:"accessEntries,omitempty"`

	// The Kubernetes KMS v2 plugin, for API servers that run on this cluster. The API server of the EKS cluster itself is encrypted by AWS' own plugin and does not use it. Default: deployed.
	Plugin Plugin `yaml:"plugin"`

	// Who may read which Kubernetes secrets, and what becomes of roles that let others read them all. Default: no roles are made, and none is looked at.
	Secrets Secrets `yaml:"secrets"`

	// How the CDK deploys, where the account and the Region were not bootstrapped with its defaults. All clusters of an account and Region have the same. Default: what cdk.json says, or the defaults of the CDK.
	CDK CDK `yaml:"cdk,omitempty"`

	// What ekskms check accepts. Default: no finding.
	Checks Checks `yaml:"checks,omitempty"`

	// Tags for every resource that can have them: at most 50, keys of 1 to 128 and values of up to 256 characters; letters, digits, spaces and _.:/=+-@ are allowed, the prefix aws: is not. Default: none.
	Tags map[string]string `yaml:"tags,omitempty" jsonschema:"maxProperties=50" config:"keyRule=tagKey,rule=tagValue"`
}

// VPC is the network of a cluster: an existing VPC (id, subnetIds), that of several clusters (shared), or a new one (the other fields).
type VPC struct {
	// Whether the cluster is in the VPC that clusters of its account and Region share: see shared.vpc. Default: false.
	Shared bool `yaml:"shared,omitempty" jsonschema:"default=false"`

	// ID of an existing VPC, such as vpc-0123456789abcdef0. Not with shared. Default: a new VPC is made.
	ID string `yaml:"id,omitempty" config:"rule=vpcID,needs=subnetIds,unless=shared"`

	// IDs of at least two private subnets of the existing VPC, in different Availability Zones. Required with id.
	SubnetIDs []string `yaml:"subnetIds,omitempty" jsonschema:"minItems=2,uniqueItems=true" config:"rule=subnetID,needs=id"`

	// IPv4 range of a new VPC, /16 to /24. Not with id or shared. Default: 10.0.0.0/16.
	CIDR string `yaml:"cidr,omitempty" config:"is=cidr,rule=vpcCIDR,unless=id|shared"`

	// Availability Zones of a new VPC: 2 to 6 of one Region. Not with id or shared. Default: the first two of the Region.
	AvailabilityZones []string `yaml:"availabilityZones,omitempty" jsonschema:"minItems=2,maxItems=6,uniqueItems=true" config:"rule=availabilityZone,unless=id|shared"`

	// Number of NAT gateways of a new VPC: at least 1, because nodes must reach the AWS APIs and their image registries, if it is not isolated; at most one for each Availability Zone. Not with id, isolated or shared. Default: 1.
	NATGateways int `yaml:"natGateways,omitempty" config:"is=natGateways,unless=id|isolated|shared"`

	// Whether a new VPC has no way to the internet: no NAT gateway, no public subnets, and VPC endpoints for what the cluster, its nodes and the plugin call. Images of other registries can't be pulled then. Not with id or shared, and not in China. Default: false.
	Isolated bool `yaml:"isolated,omitempty" jsonschema:"default=false" config:"unless=id|shared"`

	// IDs of 1 to 4 security groups of an existing VPC for the network interfaces of the control plane, beside the one that EKS makes. Default: a new one without rules in a template of the CDK, none in Terraform.
	SecurityGroupIDs []string `yaml:"securityGroupIds,omitempty" jsonschema:"minItems=1,uniqueItems=true" config:"is=securityGroups,rule=securityGroupID,needs=id"`
}

// Endpoint says from where the Kubernetes API server can be reached.
type Endpoint struct {
	// private: from the VPC only. publicAndPrivate: also from the address ranges of publicCidrs. Default: private.
	Access string `yaml:"access" jsonschema:"enum=private,enum=publicAndPrivate,default=private"`

	// Public IPv4 ranges that may reach the API server: at most 40, none larger than a /8. Required with publicAndPrivate, not allowed without.
	PublicCIDRs []string `yaml:"publicCidrs,omitempty" jsonschema:"minItems=1,maxItems=40,uniqueItems=true" config:"rule=publicCIDR,requiredWhen=access:publicAndPrivate"`
}

// Capacity says what the pods run on.
type Capacity struct {
	// auto: EKS Auto Mode. nodeGroup: managed node groups. none: no nodes come with the cluster, but Fargate profiles may: Karpenter or nodes of your own come later. Default: auto.
	Mode string `yaml:"mode" jsonschema:"enum=auto,enum=nodeGroup,enum=none,default=auto"`

	// Built-in node pools of Auto Mode: both, general-purpose, system or none. With none, pods run on node pools of your own. Only with mode auto. Default: both.
	NodePools string `yaml:"nodePools,omitempty" jsonschema:"enum=both,enum=general-purpose,enum=system,enum=none,default=both" config:"when=mode:auto"`

	// The managed node group, where there is one. Only with mode nodeGroup. Default: the defaults of its fields.
	NodeGroup *NodeGroup `yaml:"nodeGroup,omitempty" config:"when=mode:nodeGroup,unless=nodeGroups"`

	// Several managed node groups: at most 30, with one role. One at least always has nodes that take any pod: minSize of 1 or more and no taints that keep pods off. A change that replaces a group makes the new one first. Only with mode nodeGroup. Default: one, that of nodeGroup.
	NodeGroups []NodeGroup `yaml:"nodeGroups,omitempty" jsonschema:"minItems=1" config:"is=nodeGroups,when=mode:nodeGroup"`

	// Pods that AWS Fargate runs, beside the nodes or in place of them: at most 10 profiles. Fargate has no Pod Identity: the plugin and its tenants can't run there. Default: none.
	FargateProfiles []FargateProfile `yaml:"fargateProfiles,omitempty" config:"is=fargateProfiles"`

	// ARNs of IAM roles of nodes that come later: those of Karpenter, your own, or node classes of Auto Mode. Each gets the access entry with which its nodes join the cluster. EKS takes none of a role that is not there. At most 10. Default: none.
	NodeRoles []string `yaml:"nodeRoles,omitempty" jsonschema:"uniqueItems=true" config:"is=roles,rule=roleARN"`
}

// NodeGroup is a managed node group.
type NodeGroup struct {
	// Name of the group, a part of the name of its resource: 1 to 63 lower-case letters, digits and hyphens. Another name is another group. Required in nodeGroups, not allowed in nodeGroup.
	Name string `yaml:"name,omitempty" config:"rule=dnsLabel"`

	// EC2 instance types, all of one processor architecture. Default: m7i.large.
	InstanceTypes []string `yaml:"instanceTypes" jsonschema:"minItems=1,uniqueItems=true" config:"is=instanceType,rule=instanceType"`

	// Smallest number of nodes: at least 1 in one group. Default: 2.
	MinSize int `yaml:"minSize" config:"is=minNodes"`

	// Largest number of nodes, at least minSize. Default: 4.
	MaxSize int `yaml:"maxSize" config:"is=maxNodes"`

	// Number of nodes to begin with, from minSize to maxSize. Default: minSize.
	DesiredSize int `yaml:"desiredSize" config:"is=desiredNodes"`

	// onDemand, or spot: instances that AWS can take back at two minutes' notice. Default: onDemand.
	CapacityType string `yaml:"capacityType,omitempty" jsonschema:"enum=onDemand,enum=spot"`

	// Image of the nodes, of the architecture of the instance types. Default: Amazon Linux 2023 (AL2023_x86_64_STANDARD or AL2023_ARM_64_STANDARD).
	AMIType string `yaml:"amiType,omitempty" config:"rule=amiType"`

	// Size of a node's disk in GiB, 20 to 16384. Default: 20, that of EKS.
	DiskSizeGiB int `yaml:"diskSizeGiB,omitempty" config:"is=diskSize"`

	// Labels of the nodes: at most 50. Default: none.
	Labels map[string]string `yaml:"labels,omitempty" jsonschema:"maxProperties=50" config:"keyRule=nodeLabelKey,rule=labelValue"`

	// Taints, which keep pods off the nodes that do not tolerate them: at most 50. Default: none.
	Taints []Taint `yaml:"taints,omitempty" jsonschema:"maxItems=50"`

	// Kubernetes minor version of the nodes, quoted: that of the cluster, or up to three older while an upgrade goes on. Not in nodeGroup, whose nodes keep the version with which they were made. Default: that of the cluster, which the nodes follow.
	KubernetesVersion string `yaml:"kubernetesVersion,omitempty" config:"rule=kubernetesVersion"`
}

// Taint keeps pods off a node that do not tolerate it.
type Taint struct {
	// Key of the taint. Required.
	Key string `yaml:"key" jsonschema:"required" config:"rule=nodeLabelKey"`

	// Value of the taint. Default: none.
	Value string `yaml:"value,omitempty" config:"rule=labelValue"`

	// NoSchedule: no such pod is put there. NoExecute: and those that run there leave. PreferNoSchedule: only if there is no other place. Required.
	Effect string `yaml:"effect" jsonschema:"required,enum=NoSchedule,enum=NoExecute,enum=PreferNoSchedule"`
}

// FargateProfile says which pods Fargate runs.
type FargateProfile struct {
	// Name of the profile: 1 to 63 lower-case letters, digits and hyphens, not beginning with eks-. Another name is another profile. Required.
	Name string `yaml:"name" jsonschema:"required" config:"rule=fargateProfile"`

	// Which pods: those that one of 1 to 5 selectors chooses. Required.
	Selectors []FargateSelector `yaml:"selectors" jsonschema:"required,minItems=1" config:"is=fargateSelectors"`
}

// FargateSelector chooses pods.
type FargateSelector struct {
	// Namespace of the pods, in which * stands for any characters and ? for one. Required.
	Namespace string `yaml:"namespace" jsonschema:"required" config:"rule=namespacePattern"`

	// Labels that the pods must have, all of them: at most 50. Default: none.
	Labels map[string]string `yaml:"labels,omitempty" jsonschema:"maxProperties=50" config:"keyRule=nodeLabelKey,rule=labelValue"`
}

// Volumes is the key of the disks of the nodes and of the volumes of pods.
type Volumes struct {
	// ARN of an existing symmetric key in the cluster's Region. Its key policy is not changed: what its owner must add to it is an output. Default: a new key is made, with the alias alias/eks/, the cluster's name and /volumes.
	KeyARN string `yaml:"keyArn,omitempty" config:"rule=keyARN"`
}

// AddOn is an EKS add-on.
type AddOn struct {
	// Name of the add-on, such as coredns: aws eks describe-addon-versions lists them. Required.
	Name string `yaml:"name" jsonschema:"required" config:"rule=addOnName"`

	// Version, such as v1.20.4-eksbuild.2. latest: the newest for the cluster's Kubernetes version, which 'ekskms lock' pins in ekskms.lock.yaml. Default: the one that EKS takes when the add-on is made.
	Version string `yaml:"version,omitempty" config:"rule=addOnVersion"`

	// Settings of the add-on, as text that is a mapping in YAML or JSON. Default: none.
	Configuration string `yaml:"configuration,omitempty" config:"rule=addOnConfiguration"`

	// The IAM role that its pods use, by Pod Identity. Default: none.
	PodIdentity *PodIdentity `yaml:"podIdentity,omitempty" config:"optional"`
}

// PodIdentity gives the pods of a service account an IAM role.
type PodIdentity struct {
	// Name of the service account, such as ebs-csi-controller-sa. Required.
	ServiceAccount string `yaml:"serviceAccount" jsonschema:"required" config:"rule=serviceAccount"`

	// ARN of the IAM role, whose trust policy lets pods.eks.amazonaws.com assume it and tag the session. Required.
	RoleARN string `yaml:"roleArn" jsonschema:"required" config:"rule=roleARN"`
}

// Key is the KMS key that encrypts the secrets: an existing key (arn), or a new one (the other fields).
type Key struct {
	// ARN of an existing symmetric key in the cluster's Region. An alias is not enough. Its key policy is not changed: what its owner must add to it is an output. Default: a new key is made.
	ARN string `yaml:"arn,omitempty" config:"rule=keyARN"`

	// Alias of a new key: alias/ and letters, digits, slashes, hyphens and underscores, at most 256 characters; alias/aws/ is reserved. Not with arn. Default: alias/eks/ and the cluster's name.
	Alias string `yaml:"alias,omitempty" config:"rule=keyAlias,unless=arn"`

	// Days between automatic rotations of a new key, 90 to 2560. Rotation can't be switched off. Not with arn. Default: 90.
	RotationPeriodDays int `yaml:"rotationPeriodDays,omitempty" config:"is=rotationDays,unless=arn"`

	// Days that a new key, once scheduled for deletion, can still be saved, 7 to 30. Not with arn. Default: 30.
	PendingWindowDays int `yaml:"pendingWindowDays,omitempty" config:"is=pendingDays,unless=arn"`

	// Whether a new key is a multi-Region primary key. KMS can't change this later. Not with arn. Default: false.
	MultiRegion bool `yaml:"multiRegion,omitempty" jsonschema:"default=false" config:"unless=arn"`

	// Whether conditions limit the creators' kms:CreateGrant to grants that EKS asks for. Not tried on AWS: try it on a cluster that you can lose. Default: false.
	StrictGrants bool `yaml:"strictGrants,omitempty" jsonschema:"default=false"`

	// ARNs of IAM roles, or permission sets as permission-set/NAME, for an emergency. With any, only they, the administrators and the account's root user may disable a new key or schedule its deletion, and only they and the creators may change its policy or copy it to another Region: an IAM policy can give that to nobody else. At most 3, whose ARNs have 420 characters in all, of which a permission set takes about 380. Not with arn. Default: any principal that the account's IAM policies allow.
	BreakGlass []string `yaml:"breakGlass,omitempty" jsonschema:"uniqueItems=true" config:"is=breakGlass,rule=role,unless=arn"`

	// Central is the account of the key, where that is a central one, and CentralARN the key
	// there once it is known: see [File.UseOutputs].
	Central, CentralARN string `yaml:"-"`
}

// Audit says how the use of the key, and tampering with it, is recorded and reported.
type Audit struct {
	// ARN of an existing CloudTrail trail. No trail is made then. It must record management events of KMS. Default: a new trail is made.
	TrailARN string `yaml:"trailArn,omitempty" config:"rule=trailARN"`

	// Days that the log bucket of a new trail keeps its objects, 1 to 36500. Not with trailArn. Default: 365.
	RetentionDays int `yaml:"retentionDays,omitempty" config:"is=trailDays,unless=trailArn"`

	// Days that a copy of a new trail is kept in CloudWatch Logs, one of the periods that it has. Any principal that IAM lets read the log group reads the copy, whatever readers says. Every management event of the account is ingested, and billed. Not with trailArn. Default: no copy.
	CloudWatchLogsRetentionDays int `yaml:"cloudWatchLogsRetentionDays,omitempty" config:"is=copyDays,rule=logRetention,unless=trailArn"`

	// Days that the log group of the cluster's control plane keeps its events, one of the periods that CloudWatch Logs has. Default: 365.
	ControlPlaneLogRetentionDays int `yaml:"controlPlaneLogRetentionDays" config:"is=logDays,rule=logRetention"`

	// E-mail addresses that a new notification topic sends alarms to. Each must confirm its subscription. Not with topicArn. Default: none.
	Emails []string `yaml:"emails,omitempty" jsonschema:"uniqueItems=true" config:"rule=email,unless=topicArn"`

	// ARN of an existing standard SNS topic in the cluster's Region to send alarms to. Its policy and the policy of its key must let EventBridge publish. Default: a new topic is made.
	TopicARN string `yaml:"topicArn,omitempty" config:"rule=topicARN"`

	// ARNs of IAM roles, or permission sets as permission-set/NAME, that may decrypt the logs of a new trail. Not with trailArn. Default: none.
	Readers []string `yaml:"readers,omitempty" jsonschema:"uniqueItems=true" config:"rule=role,unless=trailArn"`
}

// AccessEntry lets an IAM principal use the Kubernetes API.
type AccessEntry struct {
	// ARN of an IAM role or user, or a permission set of IAM Identity Center as permission-set/NAME, whose role 'ekskms lock' pins in ekskms.lock.yaml. Each principal may have one entry. Required.
	PrincipalARN string `yaml:"principalArn" jsonschema:"required" config:"rule=principalARN"`

	// Name of the EKS access policy that says what the principal may do. Required.
	Policy string `yaml:"policy" jsonschema:"required" config:"rule=accessPolicy"`

	// Where the policy holds. Default: in the whole cluster.
	Scope Scope `yaml:"scope"`

	// Kubernetes groups that the principal is in, beside what the policy gives, for RBAC roles that are bound to them: at most 20. Default: none.
	Groups []string `yaml:"groups,omitempty" jsonschema:"uniqueItems=true" config:"is=perReader,rule=group"`
}

// Scope says where an access policy holds.
type Scope struct {
	// cluster: everywhere. namespace: in the listed namespaces only. Default: cluster.
	Type string `yaml:"type" jsonschema:"enum=cluster,enum=namespace,default=cluster"`

	// Names of Kubernetes namespaces. Required with type namespace, not allowed without.
	Namespaces []string `yaml:"namespaces,omitempty" jsonschema:"minItems=1,uniqueItems=true" config:"rule=namespace,requiredWhen=type:namespace"`
}

// Plugin is the deployment of the Kubernetes KMS v2 plugin.
type Plugin struct {
	// Whether the plugin is deployed on the cluster. Default: true.
	Enabled bool `yaml:"enabled" jsonschema:"default=true"`

	// Container image of the plugin, with a tag or a digest. Default: an image built from this module's Dockerfile as a CDK asset.
	Image string `yaml:"image,omitempty" config:"rule=image"`

	// deployment: plugin pods that watch the cluster's key. sidecar: the same, and an identity for the plugin in the pods of each tenant's API server. daemonset: one plugin pod on each node, for API servers that take its socket from the host. Default: deployment.
	Mode string `yaml:"mode" jsonschema:"enum=deployment,enum=sidecar,enum=daemonset,default=deployment"`

	// Hosted control planes whose API servers run as pods on this cluster, with the plugin beside them in the pod: at most 20, whose names, namespaces and service accounts have 2,400 characters in all. Required with mode sidecar, not allowed without.
	Tenants []Tenant `yaml:"tenants,omitempty" jsonschema:"minItems=1" config:"is=tenants,requiredWhen=mode:sidecar"`

	// Folders of the nodes that pods may mount beside the socket, in namespaces without the label ekskms.github.io/kms-socket=allowed. Each as it is written or, with a slash at its end, with all below it: any principal that can write there can plant a link to the socket. At most 50, only with mode daemonset. Default: none.
	HostPaths []string `yaml:"hostPaths,omitempty" jsonschema:"uniqueItems=true" config:"is=hostPaths"`

	// Who applies the Kubernetes objects, those of secrets too. handler: the CDK, with a Lambda function that is an administrator of the cluster. none: your own pipeline applies what 'ekskms generate manifests' prints; there is no such function then. In Terraform the variable apply_manifests decides. Default: handler.
	Apply string `yaml:"apply" jsonschema:"enum=handler,enum=none,default=handler"`

	// Processor architecture of the image and of the nodes that run it. Default: amd64.
	Architecture string `yaml:"architecture" jsonschema:"enum=amd64,enum=arm64" config:"is=architecture"`
}

// Tenant is a hosted control plane. Its plugin uses the cluster's key under an encryption context of its own, so that no other plugin can read its data.
type Tenant struct {
	// Name of the tenant, part of its encryption context: what is encrypted under one name can't be decrypted under another. A DNS label of 1 to 63 lower-case letters, digits and hyphens, unique among the tenants. Required.
	Name string `yaml:"name" jsonschema:"required" config:"rule=dnsLabel"`

	// Namespace of the API server's pods. Required.
	Namespace string `yaml:"namespace" jsonschema:"required" config:"rule=namespace"`

	// Service account of the API server's pods. A pair of namespace and service account belongs to one tenant, and is not that of the plugin itself, ekskms-system and kms-plugin. Required.
	ServiceAccount string `yaml:"serviceAccount" jsonschema:"required" config:"rule=serviceAccount"`
}

// Secrets says who may read which Kubernetes secrets.
type Secrets struct {
	// Who may read which secrets: at most 50. Default: none.
	Readers []SecretReader `yaml:"readers,omitempty" config:"is=readers"`

	// What happens to a new Role or ClusterRole, or a new rule in one, that gives access to secrets without naming them. off: nothing. warn: a warning and a mark in the audit log. deny: it is refused. Default: off.
	Guard string `yaml:"guard" jsonschema:"enum=off,enum=warn,enum=deny,default=off"`

	// Roles that the guard passes by: ClusterRoles by name, Roles as namespace/name. At most 100. Not with guard off. Default: none beside those of Kubernetes itself.
	GuardExemptions []string `yaml:"guardExemptions,omitempty" jsonschema:"uniqueItems=true" config:"is=exemptions,rule=exemption"`
}

// SecretReader is somebody who may get some secrets of one namespace by their names.
type SecretReader struct {
	// Name of the reader, part of the names of its Role and RoleBinding: a DNS label of 1 to 63 lower-case letters, digits and hyphens, unique among the readers. Required.
	Name string `yaml:"name" jsonschema:"required" config:"rule=dnsLabel"`

	// Namespace of the secrets. It must be there before the deployment. Required.
	Namespace string `yaml:"namespace" jsonschema:"required" config:"rule=namespace"`

	// Names of the secrets: 1 to 20, without wildcards. Required.
	SecretNames []string `yaml:"secretNames" jsonschema:"required,minItems=1,uniqueItems=true" config:"is=perReader,rule=secretName"`

	// Kubernetes groups that may read them: at most 20. Groups or serviceAccounts must be given. Default: none.
	Groups []string `yaml:"groups,omitempty" jsonschema:"uniqueItems=true" config:"is=perReader,rule=group"`

	// ARNs of IAM roles and users, or permission sets as in accessEntries, that are put in the groups, by an access entry each: at most 20. A principal that is in accessEntries gets the groups there. Default: none.
	PrincipalARNs []string `yaml:"principalArns,omitempty" jsonschema:"uniqueItems=true" config:"is=perReader,rule=principalARN,needs=groups"`

	// Kubernetes service accounts that may read them: at most 20. Groups or serviceAccounts must be given. Default: none.
	ServiceAccounts []ServiceAccount `yaml:"serviceAccounts,omitempty" config:"is=perReader"`

	// Whether the secrets may also be listed, each by its name: kubectl get secrets --field-selector metadata.name=NAME. Others can't be listed, and neither can all. Default: false.
	AllowList bool `yaml:"allowList,omitempty" jsonschema:"default=false"`

	// Whether the secrets may also be watched, each by its name, as with allowList, which nearly all clients need beside it. Default: false.
	AllowWatch bool `yaml:"allowWatch,omitempty" jsonschema:"default=false"`
}

// ServiceAccount is a Kubernetes service account.
type ServiceAccount struct {
	// Name of the service account. Required.
	Name string `yaml:"name" jsonschema:"required" config:"rule=serviceAccount"`

	// Namespace of the service account. Default: that of the reader.
	Namespace string `yaml:"namespace,omitempty" config:"rule=namespace"`
}

// CDK says how the CDK deploys. A name of a role may have a path before it, and hold ${AWS::AccountId}, ${AWS::Region} and ${Qualifier}.
type CDK struct {
	// Qualifier of the bootstrap stack: 1 to 10 lowercase letters and digits. Default: that of cdk.json, or hnb659fds.
	Qualifier string `yaml:"qualifier,omitempty" config:"rule=qualifier"`

	// Name of the IAM policy of the account that bounds the permissions of every role that is made. Default: none.
	PermissionsBoundary string `yaml:"permissionsBoundary,omitempty" config:"rule=policyName"`

	// Name of the role with which CloudFormation works, which may create the cluster then. Default: cdk-${Qualifier}-cfn-exec-role-${AWS::AccountId}-${AWS::Region}.
	ExecutionRole string `yaml:"executionRole,omitempty" config:"rule=cdkRole"`

	// Name of the role that the CDK CLI deploys as. Default: cdk-${Qualifier}-deploy-role-${AWS::AccountId}-${AWS::Region}.
	DeployRole string `yaml:"deployRole,omitempty" config:"rule=cdkRole"`

	// Name of the role that the CDK CLI looks things up as. Default: cdk-${Qualifier}-lookup-role-${AWS::AccountId}-${AWS::Region}.
	LookupRole string `yaml:"lookupRole,omitempty" config:"rule=cdkRole"`

	// Name of the role that uploads files. Default: cdk-${Qualifier}-file-publishing-role-${AWS::AccountId}-${AWS::Region}.
	FilePublishingRole string `yaml:"filePublishingRole,omitempty" config:"rule=cdkRole"`

	// Name of the role that uploads container images. Default: cdk-${Qualifier}-image-publishing-role-${AWS::AccountId}-${AWS::Region}.
	ImagePublishingRole string `yaml:"imagePublishingRole,omitempty" config:"rule=cdkRole"`
}

// Checks says which findings of ekskms check are accepted.
type Checks struct {
	// Accepted findings: at most 100. They stay in every report, marked as suppressed. Default: none.
	Suppress []CheckSuppression `yaml:"suppress,omitempty" jsonschema:"maxItems=100"`
}

// CheckSuppression accepts the findings of one rule.
type CheckSuppression struct {
	// ID of the rule, such as endpoint-public. ekskms check refuses an ID that no rule has. Required.
	ID string `yaml:"id" jsonschema:"required" config:"rule=checkID"`

	// Where the findings are accepted: a construct path with all that is below it, or a logical ID. Default: everywhere.
	Resource string `yaml:"resource,omitempty" config:"rule=checkResource"`

	// Why the findings are accepted, for anyone who reads the report: one line of 10 to 500 characters. Required.
	Reason string `yaml:"reason" jsonschema:"required" config:"rule=checkReason"`
}
