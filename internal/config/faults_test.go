package config_test

import (
	"fmt"
	"strings"
)

// faultCase is a file with faults. The schema must refuse it too, unless JSON Schema
// can't say what is wrong (silent), or a YAML reader already hides it (skip).
type faultCase struct {
	name, schema string
	// Lines below "clusters:\n- name: c\n", so the first is line 3. A leading ! is
	// for a whole file.
	yaml string
	// One line a fault, without the file's name.
	want []string
}

var faultCases = []faultCase{
	{"empty file", "skip", "!", []string{
		`1: the file is empty: it must have a list named clusters`,
	}},
	{"only comments", "skip", "!# nothing\n\n", []string{
		`1: the file is empty: it must have a list named clusters`,
	}},
	{"null document", "skip", "!---\n", []string{
		`1: the file is empty: it must have a list named clusters`,
	}},
	{"top level list", "", "!- clusters\n", []string{
		`1: a list: must be a mapping`,
	}},
	{"top level text", "", "!clusters\n", []string{
		`1: clusters: must be a mapping`,
	}},
	{"no clusters", "", "!{}\n", []string{
		`1: clusters: is required`,
	}},
	{"empty clusters", "", "!# none\nclusters: []\n", []string{
		`2: clusters: 0 items: must have at least 1`,
	}},
	{"two clusters of one name", "silent", "!clusters:\n- name: a\n- name: a\n", []string{
		`3: clusters[1].name: a: is the name of another cluster, on line 2: in one file each has its own, as its stack has (cluster a)`,
	}},
	{"clusters is a mapping", "", "!clusters:\n  name: a\n", []string{
		`2: clusters: a mapping: must be a list`,
	}},
	{"cluster is text", "", "!clusters:\n- production\n", []string{
		`2: clusters[0]: production: must be a mapping`,
	}},
	{"no name", "", "!clusters:\n- region: eu-central-1\n  account: \"111122223333\"\n", []string{
		`2: clusters[0].name: is required`,
	}},
	{"two documents", "skip", "!clusters:\n- name: c\n---\nclusters:\n- name: d\n", []string{
		`3: must be one YAML document: another begins here`,
	}},
	{"not YAML: unclosed list", "skip", "!clusters:\n- name: c\n  administrators: [a,\n  region: x\n", []string{
		`3: is not valid YAML: did not find expected ',' or ']'`,
	}},
	{"not YAML: tab", "skip", "!clusters:\n- name: c\n\tregion: x\n", []string{
		`3: is not valid YAML: found a tab character that violates indentation`,
	}},
	{"not YAML: bad indentation", "skip", "!clusters:\n- name: c\n   region: x\n", []string{
		`3: is not valid YAML: mapping values are not allowed in this context`,
	}},
	{"not YAML in a second document", "skip", "!clusters:\n- name: c\n---\n}\n", []string{
		`4: is not valid YAML: did not find expected node content`,
	}},
	{"not UTF-8", "skip", "!clusters:\n- name: \"\xff\"\n", []string{
		`2: must be text in UTF-8`,
	}},
	{"anchor", "skip", "!clusters:\n- name: &a c\n", []string{
		`2: clusters[0].name: &a: anchors are not supported: write the value out where it is needed`,
	}},
	{"alias", "skip", "!clusters:\n- &a\n  name: c\n- *a\n", []string{
		`2: clusters[0]: &a: anchors are not supported: write the value out where it is needed (cluster c)`,
		`4: clusters[1]: *a: aliases are not supported: write the value out`,
	}},
	{"merge key", "skip", "  key:\n    <<: {multiRegion: true}\n", []string{
		`4: clusters[0].key: <<: merge keys are not supported: write the fields out`,
	}},
	{"explicit tag", "skip", "  region: !!str eu-central-1\n", []string{
		`3: clusters[0].region: eu-central-1: needs account beside it: give both or neither`,
		`3: clusters[0].region: !!str: tags are not supported: text is quoted, everything else is not`,
	}},
	{"list as a key", "skip", "  [a, b]: c\n", []string{
		`3: clusters[0]: a list: can't be the name of a field`,
	}},
	{"number as a key", "skip", "  1: c\n", []string{
		`3: clusters[0]: 1: the name of a field must be text: quote it, "1"`,
	}},
	{"nameless field", "skip", "  ~: c\n", []string{
		`3: clusters[0]: ~: a field must have a name`,
	}},
	{"duplicate field", "skip", "  endpoint:\n    access: private\n    access: private\n", []string{
		`5: clusters[0].endpoint.access: private: stands here twice, first on line 4`,
	}},
	{"null", "", "  key:\n", []string{
		`3: clusters[0].key: has no value: give one or remove the field`,
	}},
	{"null in a list", "", "  administrators:\n  - ~\n", []string{
		`4: clusters[0].administrators[0]: ~: has no value: give one or remove the field`,
	}},
	{"unknown field, misspelt", "", "  regoin: eu-central-1\n", []string{
		`3: clusters[0].regoin: eu-central-1: unknown field, did you mean region?`,
	}},
	{"unknown field, wrong case", "", "  vpc: {subnetIDs: []}\n", []string{
		`3: clusters[0].vpc.subnetIDs: a list: unknown field, did you mean subnetIds?`,
	}},
	{"unknown field, nothing near", "", "  vpc:\n    flowLogs: true\n", []string{
		`4: clusters[0].vpc.flowLogs: true: unknown field, allowed here: shared, id, subnetIds, cidr, availabilityZones, natGateways, isolated, securityGroupIds`,
	}},
	{"unknown field with odd letters", "", "  plugin: {\"no de\\n\": true}\n", []string{
		`3: clusters[0].plugin["no de\n"]: true: unknown field, allowed here: enabled, image, mode, tenants, hostPaths, apply, architecture`,
	}},
	{"name with a dot", "", "!clusters:\n- name: my.cluster\n", []string{
		`2: clusters[0].name: my.cluster: must be 1 to 100 letters, digits, hyphens and underscores, beginning with a letter or a digit`,
	}},
	{"name too long", "", "!clusters:\n- name: " + strings.Repeat("a", 101) + "\n", []string{
		"2: clusters[0].name: " + strings.Repeat("a", 100) + "...: must be 1 to 100 letters, digits, hyphens and underscores, beginning with a letter or a digit",
	}},
	{"name is a number", "", "!clusters:\n- name: 42\n", []string{
		`2: clusters[0].name: 42: must be text: quote it, "42"`,
	}},
	{"name is empty", "", "!clusters:\n- name: \"\"\n", []string{
		`2: clusters[0].name: "": must be 1 to 100 letters, digits, hyphens and underscores, beginning with a letter or a digit`,
	}},
	{"account unquoted", "", "  account: 111122223333\n  region: eu-central-1\n", []string{
		`3: clusters[0].account: 111122223333: must be text: quote it, "111122223333"`,
	}},
	{"account unquoted with a leading zero", "", "  account: 012345678901\n  region: eu-central-1\n", []string{
		`3: clusters[0].account: 012345678901: must be text: quote it, "012345678901"`,
	}},
	{"account too short", "", "  account: \"11112222\"\n  region: eu-central-1\n", []string{
		`3: clusters[0].account: 11112222: must be an AWS account ID of 12 digits`,
	}},
	{"account without region", "", "  account: \"111122223333\"\n", []string{
		`3: clusters[0].account: 111122223333: needs region beside it: give both or neither`,
	}},
	{"region without account", "", "  region: eu-central-1\n", []string{
		`3: clusters[0].region: eu-central-1: needs account beside it: give both or neither`,
	}},
	{"region unknown", "", "  account: \"111122223333\"\n  region: eu-middle-1\n", []string{
		`4: clusters[0].region: eu-middle-1: must be an AWS Region of the partitions aws, aws-us-gov or aws-cn, such as eu-central-1`,
	}},
	{"region of a partition without support", "", "  account: \"111122223333\"\n  region: us-iso-east-1\n", []string{
		`4: clusters[0].region: us-iso-east-1: must be an AWS Region of the partitions aws, aws-us-gov or aws-cn, such as eu-central-1`,
	}},
	{"zone for a region", "", "  account: \"111122223333\"\n  region: eu-central-1a\n", []string{
		`4: clusters[0].region: eu-central-1a: is an Availability Zone: give the Region, eu-central-1`,
	}},
	{"version not offered", "", "  kubernetesVersion: \"1.31\"\n", []string{
		`3: clusters[0].kubernetesVersion: 1.31: must be a version that EKS offers: 1.32, 1.33, 1.34, 1.35, 1.36, 1.37`,
	}},
	{"version unquoted", "", "  kubernetesVersion: 1.35\n", []string{
		`3: clusters[0].kubernetesVersion: 1.35: must be text: quote it, "1.35"`,
	}},
	{"patch version", "", "  kubernetesVersion: v1.35.2\n", []string{
		`3: clusters[0].kubernetesVersion: v1.35.2: must be a minor version: give "1.35"`,
	}},
	{"vpc id malformed", "", "  vpc:\n    id: vpc-xyz\n    subnetIds: [subnet-11111111, subnet-22222222]\n", []string{
		`4: clusters[0].vpc.id: vpc-xyz: must be the ID of a VPC, such as vpc-0123456789abcdef0`,
	}},
	{"vpc id without subnets", "", "  vpc:\n    id: vpc-11111111\n", []string{
		`4: clusters[0].vpc.id: vpc-11111111: needs subnetIds beside it: give both or neither`,
	}},
	{"subnets without vpc id", "", "  vpc:\n    subnetIds: [subnet-11111111, subnet-22222222]\n", []string{
		`4: clusters[0].vpc.subnetIds: a list: needs id beside it: give both or neither`,
	}},
	{"one subnet", "", "  vpc:\n    id: vpc-11111111\n    subnetIds: [subnet-11111111]\n", []string{
		`5: clusters[0].vpc.subnetIds: 1 item: must have at least 2`,
	}},
	{"subnet twice", "", "  vpc:\n    id: vpc-11111111\n    subnetIds:\n    - subnet-11111111\n    - subnet-11111111\n", []string{
		`7: clusters[0].vpc.subnetIds[1]: subnet-11111111: stands here twice, first on line 6`,
	}},
	{"subnet malformed", "", "  vpc:\n    id: vpc-11111111\n    subnetIds: [subnet-11111111, sub-1]\n", []string{
		`5: clusters[0].vpc.subnetIds[1]: sub-1: must be the ID of a subnet, such as subnet-0123456789abcdef0`,
	}},
	{"existing vpc with new fields", "", "  vpc:\n    id: vpc-11111111\n    subnetIds: [subnet-11111111, subnet-22222222]\n    cidr: 10.0.0.0/16\n    availabilityZones: [eu-central-1a, eu-central-1b]\n    natGateways: 2\n", []string{
		`6: clusters[0].vpc.cidr: 10.0.0.0/16: can't stand beside id (line 4): remove one of them`,
		`7: clusters[0].vpc.availabilityZones: a list: can't stand beside id (line 4): remove one of them`,
		`8: clusters[0].vpc.natGateways: 2: can't stand beside id (line 4): remove one of them`,
	}},
	{"vpc range too small", "", "  vpc: {cidr: 10.0.0.0/28}\n", []string{
		`3: clusters[0].vpc.cidr: 10.0.0.0/28: must be an IPv4 range in CIDR notation, /16 to /24, such as 10.0.0.0/16`,
	}},
	{"vpc range malformed", "", "  vpc: {cidr: 10.0.0.256/16}\n", []string{
		`3: clusters[0].vpc.cidr: 10.0.0.256/16: must be an IPv4 range in CIDR notation, /16 to /24, such as 10.0.0.0/16`,
	}},
	{"vpc range with host bits", "silent", "  vpc: {cidr: 10.0.0.1/16}\n", []string{
		`3: clusters[0].vpc.cidr: 10.0.0.1/16: has bits set beyond its mask: give 10.0.0.0/16`,
	}},
	{"vpc range reserved", "silent", "  vpc: {cidr: 127.0.0.0/16}\n", []string{
		`3: clusters[0].vpc.cidr: 127.0.0.0/16: is a reserved range that no VPC can have: give a private one, such as 10.0.0.0/16`,
	}},
	{"one zone", "", "  vpc: {availabilityZones: [eu-central-1a]}\n", []string{
		`3: clusters[0].vpc.availabilityZones: 1 item: must have at least 2`,
	}},
	{"zone twice", "", "  vpc: {availabilityZones: [eu-central-1a, eu-central-1a]}\n", []string{
		`3: clusters[0].vpc.availabilityZones[1]: eu-central-1a: stands here twice, first on line 3`,
	}},
	{"zone malformed", "", "  vpc: {availabilityZones: [eu-central-1a, b]}\n", []string{
		`3: clusters[0].vpc.availabilityZones[1]: b: must be an Availability Zone, such as eu-central-1a`,
	}},
	{"zone of another region", "silent", "  account: \"111122223333\"\n  region: eu-central-1\n  vpc:\n    availabilityZones:\n    - eu-central-1a\n    - eu-west-1a\n", []string{
		`8: clusters[0].vpc.availabilityZones[1]: eu-west-1a: must be a zone of eu-central-1 like the cluster`,
	}},
	{"zones of two regions", "silent", "  vpc:\n    availabilityZones:\n    - eu-central-1a\n    - eu-west-1a\n", []string{
		`6: clusters[0].vpc.availabilityZones[1]: eu-west-1a: must be a zone of the same Region as eu-central-1a`,
	}},
	{"no nat gateway", "", "  vpc: {natGateways: 0}\n", []string{
		`3: clusters[0].vpc.natGateways: 0: must be 1 to 6`,
	}},
	{"more nat gateways than zones", "silent", "  vpc: {natGateways: 3}\n", []string{
		`3: clusters[0].vpc.natGateways: 3: must be at most one for each of the 2 Availability Zones`,
	}},
	{"access unknown", "", "  endpoint: {access: public}\n", []string{
		`3: clusters[0].endpoint.access: public: must be private or publicAndPrivate`,
	}},
	{"ranges missing", "", "  endpoint:\n    access: publicAndPrivate\n", []string{
		`4: clusters[0].endpoint.publicCidrs: is required with access: publicAndPrivate`,
	}},
	{"ranges empty", "", "  endpoint:\n    access: publicAndPrivate\n    publicCidrs: []\n", []string{
		`5: clusters[0].endpoint.publicCidrs: 0 items: must have at least 1`,
	}},
	{"ranges with private access", "", "  endpoint:\n    publicCidrs: [203.0.113.0/24]\n", []string{
		`4: clusters[0].endpoint.publicCidrs: a list: is only allowed with access: publicAndPrivate`,
	}},
	{"whole internet", "", "  endpoint:\n    access: publicAndPrivate\n    publicCidrs: [0.0.0.0/0]\n", []string{
		`5: clusters[0].endpoint.publicCidrs[0]: 0.0.0.0/0: would open the API server to much of the internet: give the ranges that need it, none larger than a /8`,
	}},
	{"range malformed", "", "  endpoint:\n    access: publicAndPrivate\n    publicCidrs: [203.0.113.0]\n", []string{
		`5: clusters[0].endpoint.publicCidrs[0]: 203.0.113.0: must be a public IPv4 range in CIDR notation, such as 203.0.113.0/24`,
	}},
	{"range of IPv6", "", "  endpoint:\n    access: publicAndPrivate\n    publicCidrs: [\"2001:db8::/32\"]\n", []string{
		`5: clusters[0].endpoint.publicCidrs[0]: 2001:db8::/32: must be a public IPv4 range in CIDR notation, such as 203.0.113.0/24`,
	}},
	{"range with host bits", "silent", "  endpoint:\n    access: publicAndPrivate\n    publicCidrs: [203.0.113.7/24]\n", []string{
		`5: clusters[0].endpoint.publicCidrs[0]: 203.0.113.7/24: has bits set beyond its mask: give 203.0.113.0/24`,
	}},
	{"internet in two halves", "", "  endpoint:\n    access: publicAndPrivate\n    publicCidrs: [0.0.0.0/1, 128.0.0.0/1]\n", []string{
		`5: clusters[0].endpoint.publicCidrs[0]: 0.0.0.0/1: would open the API server to much of the internet: give the ranges that need it, none larger than a /8`,
		`5: clusters[0].endpoint.publicCidrs[1]: 128.0.0.0/1: would open the API server to much of the internet: give the ranges that need it, none larger than a /8`,
	}},
	{"alias of the audit key", "silent", "  key:\n    alias: alias/eks/c/audit\n", []string{
		`4: clusters[0].key.alias: alias/eks/c/audit: is the alias of another key of this cluster, must be a different one`,
	}},
	{"range private", "silent", "  endpoint:\n    access: publicAndPrivate\n    publicCidrs: [10.0.0.0/8]\n", []string{
		`5: clusters[0].endpoint.publicCidrs[0]: 10.0.0.0/8: is not a public range: addresses inside the VPC reach the private endpoint without it`,
	}},
	{"too many ranges", "", "  endpoint:\n    access: publicAndPrivate\n    publicCidrs: [" + numbered(41, "203.0.113.%d/32, ") + "]\n", []string{
		`5: clusters[0].endpoint.publicCidrs: 41 items: must have at most 40`,
	}},
	{"capacity mode unknown", "", "  capacity: {mode: fargate}\n", []string{
		`3: clusters[0].capacity.mode: fargate: must be auto or nodeGroup or none`,
	}},
	{"capacity mode misspelt", "", "  capacity: {mode: nodegroup}\n", []string{
		`3: clusters[0].capacity.mode: nodegroup: must be auto or nodeGroup or none: did you mean nodeGroup?`,
	}},
	{"node group with auto mode", "", "  capacity:\n    mode: auto\n    nodeGroup: {minSize: 1}\n", []string{
		`5: clusters[0].capacity.nodeGroup: a mapping: is only allowed with mode: nodeGroup`,
	}},
	{"node group without mode", "", "  capacity:\n    nodeGroup: {}\n", []string{
		`4: clusters[0].capacity.nodeGroup: a mapping: is only allowed with mode: nodeGroup`,
	}},
	{"minimum above maximum", "silent", "  capacity:\n    mode: nodeGroup\n    nodeGroup:\n      minSize: 5\n      maxSize: 3\n", []string{
		`6: clusters[0].capacity.nodeGroup.minSize: 5: must be at most maxSize, which is 3`,
	}},
	{"maximum below the default minimum", "silent", "  capacity:\n    mode: nodeGroup\n    nodeGroup:\n      maxSize: 1\n", []string{
		`6: clusters[0].capacity.nodeGroup.maxSize: 1: must be at least minSize, which is 2`,
	}},
	{"desired above maximum", "silent", "  capacity:\n    mode: nodeGroup\n    nodeGroup:\n      desiredSize: 9\n", []string{
		`6: clusters[0].capacity.nodeGroup.desiredSize: 9: must be from minSize to maxSize, 2 to 4`,
	}},
	{"no nodes", "silent", "  capacity:\n    mode: nodeGroup\n    nodeGroup: {minSize: 0}\n", []string{
		`5: clusters[0].capacity.nodeGroup: a mapping: has no node for the pods of the cluster itself: a group needs minSize of 1 or more, and no taints of NoSchedule or NoExecute`,
	}},
	{"node groups that keep all pods off", "silent", "  capacity:\n    mode: nodeGroup\n    nodeGroups:\n    - {name: a, minSize: 0}\n    - {name: b, taints: [{key: k, effect: NoSchedule}]}\n", []string{
		`6: clusters[0].capacity.nodeGroups: a list: has no node for the pods of the cluster itself: a group needs minSize of 1 or more, and no taints of NoSchedule or NoExecute`,
	}},
	{"node groups without names, and of one name", "silent", "  capacity:\n    mode: nodeGroup\n    nodeGroups:\n    - {minSize: 1}\n    - name: b\n    - name: b\n", []string{
		`6: clusters[0].capacity.nodeGroups[0].name: is required`,
		`8: clusters[0].capacity.nodeGroups[2].name: b: is the name of another group, on line 7: give each its own`,
	}},
	{"a name and a version for the only node group", "silent", "  capacity:\n    mode: nodeGroup\n    nodeGroup: {name: a, kubernetesVersion: \"1.35\"}\n", []string{
		`5: clusters[0].capacity.nodeGroup.name: a: is for one of several groups: write the group in nodeGroups, which replaces it, or remove this`,
		`5: clusters[0].capacity.nodeGroup.kubernetesVersion: 1.35: is for one of several groups: write the group in nodeGroups, which replaces it, or remove this`,
	}},
	{"one node group and several", "", "  capacity:\n    mode: nodeGroup\n    nodeGroup: {}\n    nodeGroups: [{name: a}]\n", []string{
		`5: clusters[0].capacity.nodeGroup: a mapping: can't stand beside nodeGroups (line 6): remove one of them`,
	}},
	{"nodes newer than the cluster, and too old for it", "silent", "  kubernetesVersion: \"1.36\"\n  capacity:\n    mode: nodeGroup\n    nodeGroups:\n    - {name: a, kubernetesVersion: \"1.37\"}\n    - {name: b, kubernetesVersion: \"1.32\"}\n", []string{
		`7: clusters[0].capacity.nodeGroups[0].kubernetesVersion: 1.37: is newer than the cluster, which is 1.36: upgrade that first`,
		`8: clusters[0].capacity.nodeGroups[1].kubernetesVersion: 1.32: is 4 minor versions behind the cluster, which is 1.36: must be at most 3`,
	}},
	{"image of another architecture", "silent", "  capacity:\n    mode: nodeGroup\n    nodeGroups: [{name: a, amiType: AL2023_ARM_64_STANDARD}]\n", []string{
		`5: clusters[0].capacity.nodeGroups[0].amiType: AL2023_ARM_64_STANDARD: must be an image for amd64, the architecture of m7i.large`,
	}},
	{"images that EKS does not have", "", "  capacity:\n    mode: nodeGroup\n    nodeGroups:\n    - {name: a, amiType: AL2_x86_64}\n    - {name: b, amiType: CUSTOM}\n", []string{
		`6: clusters[0].capacity.nodeGroups[0].amiType: AL2_x86_64: is Amazon Linux 2, of which EKS has no image for these versions of Kubernetes: give AL2023_x86_64_STANDARD or AL2023_ARM_64_STANDARD`,
		`7: clusters[0].capacity.nodeGroups[1].amiType: CUSTOM: is not supported: make such a node group in Go, with EncryptedCluster.Cluster().AddNodegroupCapacity`,
	}},
	{"disk too small, label and taint malformed", "", "  capacity:\n    mode: nodeGroup\n    nodeGroups:\n    - name: a\n      diskSizeGiB: 8\n      labels: {a b: c}\n      taints: [{key: k, effect: NO_SCHEDULE}]\n", []string{
		`7: clusters[0].capacity.nodeGroups[0].diskSizeGiB: 8: must be 20 to 16384 GiB`,
		`8: clusters[0].capacity.nodeGroups[0].labels["a b"]: a b: must be the key of a Kubernetes label, such as team or example.com/team`,
		`9: clusters[0].capacity.nodeGroups[0].taints[0].effect: NO_SCHEDULE: must be NoSchedule or NoExecute or PreferNoSchedule`,
	}},
	{"no node of the plugin's architecture", "silent", "  capacity:\n    mode: nodeGroup\n    nodeGroups:\n    - {name: a, instanceTypes: [m7g.large]}\n    - {name: b, minSize: 0}\n", []string{
		`2: clusters[0].plugin.architecture: must be arm64, the architecture of the node group's m7g.large`,
	}},
	{"node pools with node groups", "", "  capacity:\n    mode: nodeGroup\n    nodePools: both\n", []string{
		`5: clusters[0].capacity.nodePools: both: is only allowed with mode: auto`,
	}},
	{"node pool unknown", "", "  capacity: {nodePools: generalPurpose}\n", []string{
		`3: clusters[0].capacity.nodePools: generalPurpose: must be both or general-purpose or system or none: did you mean general-purpose?`,
	}},
	{"Fargate for the plugin and for a tenant", "silent", "  capacity:\n    fargateProfiles:\n    - {name: all, selectors: [{namespace: \"*\"}]}\n    - {name: t, selectors: [{namespace: \"tenant-?\"}, {namespace: other}]}\n" +
		"  plugin: {mode: sidecar, tenants: [{name: a, namespace: tenant-a, serviceAccount: a}]}\n", []string{
		`5: clusters[0].capacity.fargateProfiles[0].selectors[0].namespace: *: chooses the pods of tenant a, which need Pod Identity, and Fargate has none: choose other namespaces, or labels`,
		`6: clusters[0].capacity.fargateProfiles[1].selectors[0].namespace: tenant-?: chooses the pods of tenant a, which need Pod Identity, and Fargate has none: choose other namespaces, or labels`,
	}},
	{"Fargate profile with a reserved name and no selectors", "", "  capacity:\n    fargateProfiles: [{name: eks-a, selectors: []}]\n", []string{
		`4: clusters[0].capacity.fargateProfiles[0].name: eks-a: must be 1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or a digit, without the reserved prefix eks-`,
		`4: clusters[0].capacity.fargateProfiles[0].selectors: 0 items: must have at least 1`,
	}},
	{"role of nodes with an entry already", "silent", "  capacity:\n    nodeRoles: [\"arn:aws:iam::111122223333:role/n\"]\n  accessEntries: [{principalArn: \"arn:aws:iam::111122223333:role/n\", policy: AmazonEKSViewPolicy}]\n", []string{
		`5: clusters[0].accessEntries[0].principalArn: arn:aws:iam::111122223333:role/n: has an entry already, on line 4: a principal can have one`,
	}},
	{"add-on that Auto Mode has", "silent", "  addOns: [{name: coredns}]\n", []string{
		`3: clusters[0].addOns[0].name: coredns: is built into Auto Mode: remove it`,
	}},
	{"add-on of no version", "", "  addOns: [{name: a, version: newest}]\n", []string{
		`3: clusters[0].addOns[0].version: newest: must be the version of an EKS add-on, such as v1.20.4-eksbuild.2, or latest`,
	}},
	{"kube-proxy that is newer", "silent", "  capacity: {mode: nodeGroup}\n  addOns: [{name: kube-proxy, version: v1.36.0-eksbuild.2}]\n", []string{
		`4: clusters[0].addOns[0].version: v1.36.0-eksbuild.2: does not go with Kubernetes 1.35: kube-proxy must be of that minor version, or at most 3 older`,
	}},
	{"kube-proxy that is too old", "silent", "  capacity: {mode: nodeGroup}\n  addOns: [{name: kube-proxy, version: v1.31.0-eksbuild.2}]\n", []string{
		`4: clusters[0].addOns[0].version: v1.31.0-eksbuild.2: does not go with Kubernetes 1.35: kube-proxy must be of that minor version, or at most 3 older`,
	}},
	{"add-on twice", "silent", "  addOns: [{name: a}, {name: a}]\n", []string{
		`3: clusters[0].addOns[1].name: a: is the name of another add-on, on line 3: give each its own`,
	}},
	{"add-on whose settings are no mapping", "silent", "  addOns: [{name: a, configuration: \"- a\"}]\n", []string{
		`3: clusters[0].addOns[0].configuration: - a: must be text that is a mapping in YAML or JSON`,
	}},
	{"network policies switched off", "silent", "  capacity: {mode: nodeGroup}\n  addOns: [{name: vpc-cni, configuration: \"enableNetworkPolicy: false\"}]\n", []string{
		`4: clusters[0].addOns[0].configuration: enableNetworkPolicy: false: must not switch enableNetworkPolicy off: the network policies of the plugin would mean nothing`,
	}},
	{"half of a Pod Identity", "", "  addOns: [{name: a, podIdentity: {serviceAccount: a}}]\n", []string{
		`3: clusters[0].addOns[0].podIdentity.roleArn: is required`,
	}},
	{"overrides of what keeps the secrets safe", "", "  overrides:\n    EncryptionConfig.0.Provider.KeyArn: a\n    Logging: a\n    ResourcesVpcConfig.EndpointPublicAccess: \"true\"\n    zonalShiftConfig: a\n", []string{
		`4: clusters[0].overrides["EncryptionConfig.0.Provider.KeyArn"]: EncryptionConfig.0.Provider.KeyArn: EncryptionConfig can't be overridden: use the field key`,
		`5: clusters[0].overrides.Logging: Logging: Logging can't be overridden: it keeps the cluster safe`,
		`6: clusters[0].overrides["ResourcesVpcConfig.EndpointPublicAccess"]: ResourcesVpcConfig.EndpointPublicAccess: ResourcesVpcConfig can't be overridden: use the field endpoint or the field vpc`,
		`7: clusters[0].overrides.zonalShiftConfig: zonalShiftConfig: must be the path of a property, such as ZonalShiftConfig.Enabled`,
	}},
	{"volumes with the built-in pools", "silent", "  volumes: {}\n", []string{
		`3: clusters[0].volumes: a mapping: needs capacity.nodePools: none, since the disks of the built-in pools are under the account's default key: the pool named encrypted takes their place`,
	}},
	{"volumes of nodes that do not come", "silent", "  capacity: {mode: none}\n  volumes: {}\n", []string{
		`4: clusters[0].volumes: a mapping: is for nodes that come with the cluster, and capacity.mode: none has none: give your nodes the key yourself`,
	}},
	{"volumes that nobody applies", "silent", "  capacity: {nodePools: none}\n  volumes: {}\n  plugin: {apply: none}\n", []string{
		`4: clusters[0].volumes: a mapping: needs plugin.apply: handler with Auto Mode, to apply the node class and the node pool`,
	}},
	{"key of volumes elsewhere", "silent", place + "us-east-1\n  capacity: {mode: nodeGroup}\n  volumes: {keyArn: \"" + key + "\"}\n", []string{
		`6: clusters[0].volumes.keyArn: ` + key + `: is in eu-central-1, must be in us-east-1 like the cluster`,
	}},
	{"isolated with NAT gateways", "", "  vpc: {isolated: true, natGateways: 1}\n", []string{
		`3: clusters[0].vpc.natGateways: 1: can't stand beside isolated (line 3): remove one of them`,
	}},
	{"isolated in China", "silent", place + "cn-north-1\n  vpc: {isolated: true}\n", []string{
		`5: clusters[0].vpc.isolated: true: is not supported in China, where the names of endpoint services follow no rule: make the VPC with its endpoints yourself, and give id and subnetIds`,
	}},
	{"shared VPC with an address range", "", "  vpc: {shared: true, cidr: 10.0.0.0/16}\n", []string{
		`3: clusters[0].vpc.shared: true: needs several clusters, or shared beside clusters: a cluster alone has a VPC of its own`,
		`3: clusters[0].vpc.cidr: 10.0.0.0/16: can't stand beside shared (line 3): remove one of them`,
	}},
	{"shared VPC with an ID", "", "  vpc: {shared: false, id: vpc-0123456789abcdef0, subnetIds: [subnet-0123456789abcdef0, subnet-0123456789abcdef1]}\n", []string{
		`3: clusters[0].vpc.id: vpc-0123456789abcdef0: can't stand beside shared (line 3): remove one of them`,
	}},
	{"security groups of a new VPC", "", "  vpc: {securityGroupIds: [sg-12345678]}\n", []string{
		`3: clusters[0].vpc.securityGroupIds: a list: needs id beside it: give both or neither`,
	}},
	{"permission sets too long for the key policy", "silent", "  creators: [permission-set/a, permission-set/b, permission-set/c, permission-set/d, permission-set/e, permission-set/f, permission-set/g]\n", []string{
		`3: clusters[0].creators: a list: has ARNs of 1559 characters in all, must have at most 1400, or the key policy would be too long`,
	}},
	{"permission set malformed", "", "  administrators: [\"permission-set/a b\", permission-set/]\n", []string{
		`3: clusters[0].administrators[0]: permission-set/a b: must be the ARN of an IAM role, such as arn:aws:iam::111122223333:role/Admin, or a permission set, such as permission-set/AdministratorAccess`,
		`3: clusters[0].administrators[1]: permission-set/: must be the ARN of an IAM role, such as arn:aws:iam::111122223333:role/Admin, or a permission set, such as permission-set/AdministratorAccess`,
	}},
	{"no instance types", "", "  capacity:\n    mode: nodeGroup\n    nodeGroup: {instanceTypes: []}\n", []string{
		`5: clusters[0].capacity.nodeGroup.instanceTypes: 0 items: must have at least 1`,
	}},
	{"instance type malformed", "", "  capacity:\n    mode: nodeGroup\n    nodeGroup: {instanceTypes: [large]}\n", []string{
		`5: clusters[0].capacity.nodeGroup.instanceTypes[0]: large: must be an EC2 instance type, such as m7i.large`,
	}},
	{"instance types of two architectures", "silent", "  capacity:\n    mode: nodeGroup\n    nodeGroup: {instanceTypes: [m7i.large, m7g.large]}\n", []string{
		`5: clusters[0].capacity.nodeGroup.instanceTypes[1]: m7g.large: must be of one processor architecture with m7i.large, which is amd64`,
	}},
	{"plugin of another architecture than the nodes", "silent", "  capacity:\n    mode: nodeGroup\n    nodeGroup: {instanceTypes: [m7g.large]}\n", []string{
		`2: clusters[0].plugin.architecture: must be arm64, the architecture of the node group's m7g.large`,
	}},
	{"rotation too short", "", "  key:\n    rotationPeriodDays: 30\n", []string{
		`4: clusters[0].key.rotationPeriodDays: 30: must be 90 to 2560 days`,
	}},
	{"rotation too long", "", "  key:\n    rotationPeriodDays: 2561\n", []string{
		`4: clusters[0].key.rotationPeriodDays: 2561: must be 90 to 2560 days`,
	}},
	{"rotation huge", "", "  key:\n    rotationPeriodDays: 99999999999999999999\n", []string{
		`4: clusters[0].key.rotationPeriodDays: 99999999999999999999: must be 90 to 2560 days, a whole number`,
	}},
	{"rotation quoted", "", "  key:\n    rotationPeriodDays: \"90\"\n", []string{
		`4: clusters[0].key.rotationPeriodDays: 90: must be 90 to 2560 days, without quotes`,
	}},
	{"rotation hexadecimal", "skip", "  key:\n    rotationPeriodDays: 0x5a\n", []string{
		`4: clusters[0].key.rotationPeriodDays: 0x5a: must be 90 to 2560 days, in plain decimal digits`,
	}},
	{"rotation fractional", "", "  key:\n    rotationPeriodDays: 90.5\n", []string{
		`4: clusters[0].key.rotationPeriodDays: 90.5: must be 90 to 2560 days, a whole number`,
	}},
	{"rotation in words", "", "  key:\n    rotationPeriodDays: 90d\n", []string{
		`4: clusters[0].key.rotationPeriodDays: 90d: must be 90 to 2560 days, a whole number`,
	}},
	{"window too short", "", "  key: {pendingWindowDays: 6}\n", []string{
		`3: clusters[0].key.pendingWindowDays: 6: must be 7 to 30 days`,
	}},
	{"window too long", "", "  key: {pendingWindowDays: 31}\n", []string{
		`3: clusters[0].key.pendingWindowDays: 31: must be 7 to 30 days`,
	}},
	{"boolean in words", "", "  key: {multiRegion: yes}\n", []string{
		`3: clusters[0].key.multiRegion: yes: must be true or false`,
	}},
	{"boolean in capitals", "skip", "  key: {multiRegion: True}\n", []string{
		`3: clusters[0].key.multiRegion: True: must be true or false`,
	}},
	{"boolean quoted", "", "  key: {strictGrants: \"true\"}\n", []string{
		`3: clusters[0].key.strictGrants: true: must be true or false, without quotes`,
	}},
	{"alias without prefix", "", "  key: {alias: my-key}\n", []string{
		`3: clusters[0].key.alias: my-key: must begin with alias/`,
	}},
	{"alias reserved", "", "  key: {alias: alias/aws/eks}\n", []string{
		`3: clusters[0].key.alias: alias/aws/eks: has the prefix alias/aws/, which is reserved for keys of AWS: give another, such as alias/eks/production`,
	}},
	{"alias malformed", "", "  key: {alias: alias/a b}\n", []string{
		`3: clusters[0].key.alias: alias/a b: must be alias/ followed by letters, digits, slashes, hyphens and underscores, at most 256 characters`,
	}},
	{"alias too long", "", "  key: {alias: alias/" + strings.Repeat("a", 251) + "}\n", []string{
		"3: clusters[0].key.alias: alias/" + strings.Repeat("a", 94) + "...: must be alias/ followed by letters, digits, slashes, hyphens and underscores, at most 256 characters",
	}},
	{"existing key with new fields", "", "  key:\n    alias: alias/k\n    arn: arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\n    rotationPeriodDays: 90\n    pendingWindowDays: 30\n    multiRegion: false\n", []string{
		`4: clusters[0].key.alias: alias/k: can't stand beside arn (line 5): remove one of them`,
		`6: clusters[0].key.rotationPeriodDays: 90: can't stand beside arn (line 5): remove one of them`,
		`7: clusters[0].key.pendingWindowDays: 30: can't stand beside arn (line 5): remove one of them`,
		`8: clusters[0].key.multiRegion: false: can't stand beside arn (line 5): remove one of them`,
	}},
	{"alias ARN for a key", "", "  key:\n    arn: arn:aws:kms:eu-central-1:111122223333:alias/eks\n", []string{
		"4: clusters[0].key.arn: arn:aws:kms:eu-central-1:111122223333:alias/eks: is the ARN of an alias, which can move to another key: give the key's ARN, `aws kms describe-key` prints it as Arn",
	}},
	{"alias name for a key", "", "  key:\n    arn: alias/eks\n", []string{
		"4: clusters[0].key.arn: alias/eks: is an alias, which can move to another key: give the key's ARN, `aws kms describe-key` prints it as Arn",
	}},
	{"key ID for a key", "", "  key:\n    arn: 1234abcd-12ab-34cd-56ef-1234567890ab\n", []string{
		"4: clusters[0].key.arn: 1234abcd-12ab-34cd-56ef-1234567890ab: must be the full ARN of a KMS key: `aws kms describe-key` prints it as Arn",
	}},
	{"ARN of another service for a key", "", "  key:\n    arn: arn:aws:s3:::bucket\n", []string{
		`4: clusters[0].key.arn: arn:aws:s3:::bucket: is an ARN of the service s3: must be the ARN of a KMS key`,
	}},
	{"key ARN malformed", "", "  key:\n    arn: arn:aws:kms:eu-central-1:111122223333:key/1234\n", []string{
		`4: clusters[0].key.arn: arn:aws:kms:eu-central-1:111122223333:key/1234: must be the ARN of a KMS key, such as arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab`,
	}},
	{"key in another region", "silent", "  account: \"111122223333\"\n  region: eu-central-1\n  key:\n    arn: arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab\n", []string{
		`6: clusters[0].key.arn: arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab: is in us-east-1, must be in eu-central-1 like the cluster`,
	}},
	{"session for a role", "", "  administrators:\n  - arn:aws:sts::111122223333:assumed-role/Admin/alice\n", []string{
		`4: clusters[0].administrators[0]: arn:aws:sts::111122223333:assumed-role/Admin/alice: is a session of a role: give the role itself, arn:aws:iam::111122223333:role/Admin (with its path, if it has one)`,
	}},
	{"user for a role", "", "  administrators:\n  - arn:aws:iam::111122223333:user/alice\n", []string{
		`4: clusters[0].administrators[0]: arn:aws:iam::111122223333:user/alice: is an IAM user: give the ARN of a role that the user may assume`,
	}},
	{"root for a role", "", "  administrators:\n  - arn:aws:iam::111122223333:root\n", []string{
		`4: clusters[0].administrators[0]: arn:aws:iam::111122223333:root: is a whole account: give the ARN of an IAM role in it`,
	}},
	{"account for a role", "", "  administrators:\n  - \"111122223333\"\n", []string{
		`4: clusters[0].administrators[0]: 111122223333: is a whole account: give the ARN of an IAM role in it`,
	}},
	{"wildcard for a role", "", "  administrators:\n  - arn:aws:iam::111122223333:role/*\n", []string{
		`4: clusters[0].administrators[0]: arn:aws:iam::111122223333:role/*: has a wildcard: name each IAM role by its ARN`,
	}},
	{"everybody for a role", "", "  administrators:\n  - \"*\"\n", []string{
		`4: clusters[0].administrators[0]: *: has a wildcard: name each IAM role by its ARN`,
	}},
	{"group for a role", "", "  creators:\n  - arn:aws:iam::111122223333:group/admins\n", []string{
		`4: clusters[0].creators[0]: arn:aws:iam::111122223333:group/admins: is an IAM group: give the ARN of an IAM role`,
	}},
	{"federated user for a role", "", "  creators:\n  - arn:aws:sts::111122223333:federated-user/alice\n", []string{
		`4: clusters[0].creators[0]: arn:aws:sts::111122223333:federated-user/alice: is a federated session: give the ARN of an IAM role`,
	}},
	{"role name for a role", "", "  creators:\n  - Admin\n", []string{
		`4: clusters[0].creators[0]: Admin: must be the ARN of an IAM role, such as arn:aws:iam::111122223333:role/Admin, or a permission set, such as permission-set/AdministratorAccess`,
	}},
	{"service ARN for a role", "", "  creators:\n  - arn:aws:s3:::bucket\n", []string{
		`4: clusters[0].creators[0]: arn:aws:s3:::bucket: is an ARN of the service s3: must be the ARN of an IAM role`,
	}},
	{"role twice", "", "  creators:\n  - arn:aws:iam::111122223333:role/a/Admin\n  - arn:aws:iam::111122223333:role/a/Admin\n", []string{
		`5: clusters[0].creators[1]: arn:aws:iam::111122223333:role/a/Admin: stands here twice, first on line 4`,
	}},
	{"break glass of an existing key", "", "  key: {arn: \"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\", breakGlass: [\"arn:aws:iam::111122223333:role/a\"]}\n", []string{
		`3: clusters[0].key.breakGlass: a list: can't stand beside arn (line 3): remove one of them`,
	}},
	{"break glass too long", "silent", "  key: {breakGlass: [\"arn:aws:iam::111122223333:role/" + strings.Repeat("a/", 250) + "b\"]}\n", []string{
		`3: clusters[0].key.breakGlass: a list: has ARNs of 532 characters in all, must have at most 420, or the key policy would be too long`,
	}},
	{"break glass in another partition", "silent", "  account: \"111122223333\"\n  region: cn-north-1\n  key: {breakGlass: [\"arn:aws:iam::111122223333:role/a\"]}\n", []string{
		`5: clusters[0].key.breakGlass[0]: arn:aws:iam::111122223333:role/a: is in the partition aws, must be in aws-cn like the cluster`,
	}},
	{"role of another partition", "silent", "  account: \"111122223333\"\n  region: cn-north-1\n  administrators:\n  - arn:aws:iam::111122223333:role/Admin\n", []string{
		`6: clusters[0].administrators[0]: arn:aws:iam::111122223333:role/Admin: is in the partition aws, must be in aws-cn like the cluster`,
	}},
	{"roles of two partitions", "silent", "  administrators:\n  - arn:aws:iam::111122223333:role/Admin\n  creators:\n  - arn:aws-us-gov:iam::111122223333:role/Admin\n", []string{
		`6: clusters[0].creators[0]: arn:aws-us-gov:iam::111122223333:role/Admin: is in the partition aws-us-gov, must be in aws like administrators[0]`,
	}},
	{"retention zero", "", "  audit: {retentionDays: 0}\n", []string{
		`3: clusters[0].audit.retentionDays: 0: must be 1 to 36500 days`,
	}},
	{"retention too long", "", "  audit: {retentionDays: 36501}\n", []string{
		`3: clusters[0].audit.retentionDays: 36501: must be 1 to 36500 days`,
	}},
	{"log retention that CloudWatch has not", "", "  audit: {controlPlaneLogRetentionDays: 100}\n", []string{
		`3: clusters[0].audit.controlPlaneLogRetentionDays: 100: must be a retention period of CloudWatch Logs: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653 days`,
	}},
	{"existing trail with new fields", "", "  audit:\n    trailArn: arn:aws:cloudtrail:eu-central-1:111122223333:trail/management\n    retentionDays: 90\n    readers: [arn:aws:iam::111122223333:role/Auditor]\n", []string{
		`5: clusters[0].audit.retentionDays: 90: can't stand beside trailArn (line 4): remove one of them`,
		`6: clusters[0].audit.readers: a list: can't stand beside trailArn (line 4): remove one of them`,
	}},
	{"event data store for a trail", "", "  audit:\n    trailArn: arn:aws:cloudtrail:eu-central-1:111122223333:eventdatastore/1234abcd-12ab-34cd-56ef-1234567890ab\n", []string{
		`4: clusters[0].audit.trailArn: arn:aws:cloudtrail:eu-central-1:111122223333:eventdatastore/1234abcd-12ab-34cd-56ef-1234567890ab: is an event data store, which EventBridge gets no events from: give the ARN of a trail`,
	}},
	{"bucket for a trail", "", "  audit:\n    trailArn: arn:aws:s3:::trail\n", []string{
		`4: clusters[0].audit.trailArn: arn:aws:s3:::trail: is an ARN of the service s3: must be the ARN of a CloudTrail trail`,
	}},
	{"trail name for a trail", "", "  audit:\n    trailArn: management\n", []string{
		`4: clusters[0].audit.trailArn: management: must be the ARN of a CloudTrail trail, such as arn:aws:cloudtrail:eu-central-1:111122223333:trail/management`,
	}},
	{"e-mail malformed", "", "  audit: {emails: [security]}\n", []string{
		`3: clusters[0].audit.emails[0]: security: must be an e-mail address, such as security@example.com`,
	}},
	{"e-mail twice", "", "  audit: {emails: [a@example.com, a@example.com]}\n", []string{
		`3: clusters[0].audit.emails[1]: a@example.com: stands here twice, first on line 3`,
	}},
	{"topic with e-mails", "", "  audit:\n    topicArn: arn:aws:sns:eu-central-1:111122223333:alarms\n    emails: [a@example.com]\n", []string{
		`5: clusters[0].audit.emails: a list: can't stand beside topicArn (line 4): remove one of them`,
	}},
	{"FIFO topic", "", "  audit:\n    topicArn: arn:aws:sns:eu-central-1:111122223333:alarms.fifo\n", []string{
		`4: clusters[0].audit.topicArn: arn:aws:sns:eu-central-1:111122223333:alarms.fifo: is a FIFO topic, which alarms and e-mail can't use: give the ARN of a standard topic`,
	}},
	{"subscription for a topic", "", "  audit:\n    topicArn: arn:aws:sns:eu-central-1:111122223333:alarms:1234abcd-12ab-34cd-56ef-1234567890ab\n", []string{
		`4: clusters[0].audit.topicArn: arn:aws:sns:eu-central-1:111122223333:alarms:1234abcd-12ab-34cd-56ef-1234567890ab: is a subscription: give the ARN of its topic`,
	}},
	{"queue for a topic", "", "  audit:\n    topicArn: arn:aws:sqs:eu-central-1:111122223333:alarms\n", []string{
		`4: clusters[0].audit.topicArn: arn:aws:sqs:eu-central-1:111122223333:alarms: is an ARN of the service sqs: must be the ARN of an SNS topic`,
	}},
	{"topic in another region", "silent", "  account: \"111122223333\"\n  region: eu-central-1\n  audit:\n    topicArn: arn:aws:sns:eu-west-1:111122223333:alarms\n", []string{
		`6: clusters[0].audit.topicArn: arn:aws:sns:eu-west-1:111122223333:alarms: is in eu-west-1, must be in eu-central-1 like the cluster`,
	}},
	{"topic and key in two regions", "silent", "  key:\n    arn: arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\n  audit:\n    topicArn: arn:aws:sns:eu-west-1:111122223333:alarms\n", []string{
		`6: clusters[0].audit.topicArn: arn:aws:sns:eu-west-1:111122223333:alarms: is in eu-west-1, must be in eu-central-1 like key.arn`,
	}},
	{"trail of another partition", "silent", "  account: \"111122223333\"\n  region: us-gov-west-1\n  audit:\n    trailArn: arn:aws:cloudtrail:us-east-1:111122223333:trail/management\n", []string{
		`6: clusters[0].audit.trailArn: arn:aws:cloudtrail:us-east-1:111122223333:trail/management: is in the partition aws, must be in aws-us-gov like the cluster`,
	}},
	{"entry without principal and policy", "", "  accessEntries:\n  - scope: {type: cluster}\n", []string{
		`4: clusters[0].accessEntries[0].principalArn: is required`,
		`4: clusters[0].accessEntries[0].policy: is required`,
	}},
	{"entry policy unknown", "", "  accessEntries:\n  - principalArn: arn:aws:iam::111122223333:role/a\n    policy: AdministratorAccess\n", []string{
		`5: clusters[0].accessEntries[0].policy: AdministratorAccess: must be the name of an EKS access policy: AIDevOpsAgentAccessPolicy, AWSBackupFullAccessPolicyForBackup, AWSBackupFullAccessPolicyForRestore, AmazonAIOpsAssistantPolicy, AmazonARCRegionSwitchScalingPolicy, AmazonEKSACKPolicy, AmazonEKSAdminPolicy, AmazonEKSAdminViewPolicy, AmazonEKSArgoCDClusterPolicy, AmazonEKSArgoCDPolicy, AmazonEKSClusterAdminPolicy, AmazonEKSEditPolicy, AmazonEKSKROPolicy, AmazonEKSSecretAdminPolicy, AmazonEKSSecretReaderPolicy, AmazonEKSViewPolicy, AmazonEMRJobPolicy, AmazonSagemakerHyperpodClusterPolicy, AmazonSagemakerHyperpodControllerPolicy, AmazonSagemakerHyperpodSpacePolicy, AmazonSagemakerHyperpodSpaceTemplatePolicy, AmazonSagemakerHyperpodSystemNamespacePolicy, AmazonSagemakerHyperpodUserClusterPolicy`,
	}},
	{"entry policy as ARN", "", "  accessEntries:\n  - principalArn: arn:aws:iam::111122223333:role/a\n    policy: arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy\n", []string{
		`5: clusters[0].accessEntries[0].policy: arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy: must be the name alone: AmazonEKSViewPolicy`,
	}},
	{"entry for a service-linked role", "", "  accessEntries:\n  - principalArn: arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS\n    policy: AmazonEKSViewPolicy\n", []string{
		`4: clusters[0].accessEntries[0].principalArn: arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS: is a service-linked role, which EKS takes in no access entry: give the ARN of another role or user`,
	}},
	{"entry for a session", "", "  accessEntries:\n  - principalArn: arn:aws:sts::111122223333:assumed-role/a/b\n    policy: AmazonEKSViewPolicy\n", []string{
		`4: clusters[0].accessEntries[0].principalArn: arn:aws:sts::111122223333:assumed-role/a/b: is a session of a role: give the role itself, arn:aws:iam::111122223333:role/a (with its path, if it has one)`,
	}},
	{"entry twice", "silent", "  accessEntries:\n  - principalArn: arn:aws:iam::111122223333:user/a\n    policy: AmazonEKSViewPolicy\n  - principalArn: arn:aws:iam::111122223333:user/a\n    policy: AmazonEKSEditPolicy\n", []string{
		`6: clusters[0].accessEntries[1].principalArn: arn:aws:iam::111122223333:user/a: has an entry already, on line 4: a principal can have one`,
	}},
	{"namespaces missing", "", "  accessEntries:\n  - principalArn: arn:aws:iam::111122223333:role/a\n    policy: AmazonEKSViewPolicy\n    scope: {type: namespace}\n", []string{
		`6: clusters[0].accessEntries[0].scope.namespaces: is required with type: namespace`,
	}},
	{"namespaces in the whole cluster", "", "  accessEntries:\n  - principalArn: arn:aws:iam::111122223333:role/a\n    policy: AmazonEKSViewPolicy\n    scope: {namespaces: [a]}\n", []string{
		`6: clusters[0].accessEntries[0].scope.namespaces: a list: is only allowed with type: namespace`,
	}},
	{"namespace malformed", "", "  accessEntries:\n  - principalArn: arn:aws:iam::111122223333:role/a\n    policy: AmazonEKSViewPolicy\n    scope: {type: namespace, namespaces: [A_b]}\n", []string{
		`6: clusters[0].accessEntries[0].scope.namespaces[0]: A_b: must be the name of a Kubernetes namespace: 1 to 63 lower-case letters, digits and hyphens`,
	}},
	{"plugin mode unknown", "", "  plugin: {mode: static}\n", []string{
		`3: clusters[0].plugin.mode: static: must be deployment or sidecar or daemonset`,
	}},
	{"sidecars of nobody", "", "  plugin: {mode: sidecar}\n", []string{
		`3: clusters[0].plugin.tenants: is required with mode: sidecar`,
	}},
	{"tenants without sidecars", "", "  plugin:\n    mode: daemonset\n    tenants:\n" + tenants(1, 1), []string{
		`5: clusters[0].plugin.tenants: a list: is only allowed with mode: sidecar`,
	}},
	{"tenants of a plugin that is off", "silent", "  plugin:\n    enabled: false\n    mode: sidecar\n    tenants:\n" + tenants(1, 1), []string{
		`7: clusters[0].plugin.tenants: a list: can't stand beside enabled: false (line 4): remove one of them`,
	}},
	{"too many tenants", "", "  plugin:\n    mode: sidecar\n    tenants:\n" + tenants(21, 2), []string{
		`26: clusters[0].plugin.tenants: 21 items: must have at most 20`,
	}},
	{"tenants with long names", "silent", "  plugin:\n    mode: sidecar\n    tenants:\n" + tenants(20, 41), []string{
		`6: clusters[0].plugin.tenants: a list: has names, namespaces and service accounts of 2460 characters in all, must be at most 2400: shorten them`,
	}},
	{"tenant without a pod", "", "  plugin:\n    mode: sidecar\n    tenants:\n    - name: a\n", []string{
		`6: clusters[0].plugin.tenants[0].namespace: is required`,
		`6: clusters[0].plugin.tenants[0].serviceAccount: is required`,
	}},
	{"tenant with a name of capitals", "", "  plugin: {mode: sidecar, tenants: [{name: Acme, namespace: a, serviceAccount: \"system:a\"}]}\n", []string{
		`3: clusters[0].plugin.tenants[0].name: Acme: must be 1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or a digit`,
		`3: clusters[0].plugin.tenants[0].serviceAccount: system:a: must be the name of a Kubernetes service account: labels of lower-case letters, digits and hyphens, joined by dots, at most 253 characters`,
	}},
	{"tenants with one name", "silent", "  plugin:\n    mode: sidecar\n    tenants:\n    - {name: a, namespace: a, serviceAccount: a}\n    - {name: a, namespace: b, serviceAccount: a}\n", []string{
		`7: clusters[0].plugin.tenants[1].name: a: is the name of another tenant, on line 6: give each its own`,
	}},
	{"tenants with one pod", "silent", "  plugin:\n    mode: sidecar\n    tenants:\n    - {name: a, namespace: n, serviceAccount: s}\n    - {name: b, namespace: n, serviceAccount: s}\n", []string{
		`7: clusters[0].plugin.tenants[1].serviceAccount: s: is in namespace n that of another tenant, on line 6: give each tenant its own`,
	}},
	{"tenant in the plugin's own pod", "silent", "  plugin: {mode: sidecar, tenants: [{name: a, namespace: ekskms-system, serviceAccount: kms-plugin}]}\n", []string{
		`3: clusters[0].plugin.tenants[0].serviceAccount: kms-plugin: is in namespace ekskms-system that of the plugin itself: give each tenant its own`,
	}},
	{"too many administrators", "", "  administrators:\n" + numbered(11, "  - arn:aws:iam::111122223333:role/a%d\n"), []string{
		`14: clusters[0].administrators: 11 items: must have at most 10`,
	}},
	{"guard unknown", "", "  secrets: {guard: audit}\n", []string{
		`3: clusters[0].secrets.guard: audit: must be off or warn or deny`,
	}},
	{"guard as a truth", "", "  secrets: {guard: false}\n", []string{
		`3: clusters[0].secrets.guard: false: must be text: quote it, "false"`,
	}},
	{"folders in another mode", "silent", "  plugin: {hostPaths: [/var/log]}\n", []string{
		`3: clusters[0].plugin.hostPaths: a list: is only for mode daemonset, which has a socket on the nodes: remove it`,
	}},
	{"folders that lead to the socket", "silent", "  plugin: {mode: daemonset, hostPaths: [/var/log, /run, var/lib, /opt/../run, /proc/1/root]}\n", []string{
		`3: clusters[0].plugin.hostPaths[1]: /run: leads to the socket of kms-plugin: set the label ekskms.github.io/kms-socket=allowed on the namespaces that must mount it`,
		`3: clusters[0].plugin.hostPaths[2]: var/lib: must be an absolute path of letters, digits and ._@+-, without a part that is . or ..`,
		`3: clusters[0].plugin.hostPaths[3]: /opt/../run: must be an absolute path of letters, digits and ._@+-, without a part that is . or ..`,
		`3: clusters[0].plugin.hostPaths[4]: /proc/1/root: leads to the socket of kms-plugin: set the label ekskms.github.io/kms-socket=allowed on the namespaces that must mount it`,
	}},
	{"exemptions of no guard", "silent", "  secrets: {guardExemptions: [monitoring]}\n", []string{
		`3: clusters[0].secrets.guardExemptions: a list: means nothing with guard: off: set guard to warn or deny, or remove this`,
	}},
	{"exemption with a quote", "", "  secrets: {guard: warn, guardExemptions: [\"a'b\"]}\n", []string{
		`3: clusters[0].secrets.guardExemptions[0]: a'b: must be the name of a ClusterRole, or the namespace and name of a Role with a slash between them, of letters, digits and :._@-`,
	}},
	{"reader of no secret", "", "  secrets: {readers: [{name: a, namespace: n, secretNames: [], groups: [g]}]}\n", []string{
		`3: clusters[0].secrets.readers[0].secretNames: 0 items: must have at least 1`,
	}},
	{"reader of every secret", "", "  secrets: {readers: [{name: a, namespace: n, secretNames: [\"*\"], groups: [g]}]}\n", []string{
		`3: clusters[0].secrets.readers[0].secretNames[0]: *: has a wildcard, which RBAC does not know in names: name each secret`,
	}},
	{"reader in every namespace", "", "  secrets: {readers: [{name: a, namespace: \"*\", secretNames: [db], groups: [g]}]}\n", []string{
		`3: clusters[0].secrets.readers[0].namespace: *: must be the name of a Kubernetes namespace: 1 to 63 lower-case letters, digits and hyphens`,
	}},
	{"reader of one secret twice", "", "  secrets: {readers: [{name: a, namespace: n, secretNames: [db, db], groups: [g]}]}\n", []string{
		`3: clusters[0].secrets.readers[0].secretNames[1]: db: stands here twice, first on line 3`,
	}},
	{"reader who is nobody", "silent", "  secrets:\n    readers:\n    - name: a\n      namespace: shop\n      secretNames: [db]\n", []string{
		`5: clusters[0].secrets.readers[0]: needs groups or serviceAccounts: name who may read`,
	}},
	{"principals without a group", "", "  secrets:\n    readers:\n    - name: a\n      namespace: shop\n      secretNames: [db]\n      serviceAccounts: [{name: s}]\n      principalArns: [\"arn:aws:iam::111122223333:role/a\"]\n", []string{
		`9: clusters[0].secrets.readers[0].principalArns: a list: needs groups beside it: give both or neither`,
	}},
	{"reader that is everybody", "", "  secrets:\n    readers:\n    - name: a\n      namespace: shop\n      secretNames: [db]\n      groups: [\"system:authenticated\", \"*\", \"a b\"]\n", []string{
		`8: clusters[0].secrets.readers[0].groups[0]: system:authenticated: has the reserved prefix system:, which EKS takes in no access entry: give a group of your own`,
		`8: clusters[0].secrets.readers[0].groups[1]: *: must be the name of a Kubernetes group: 1 to 128 letters, digits and signs, without spaces and *, and without the reserved prefixes system:, eks:, aws:, amazon: and iam:`,
		`8: clusters[0].secrets.readers[0].groups[2]: a b: must be the name of a Kubernetes group: 1 to 128 letters, digits and signs, without spaces and *, and without the reserved prefixes system:, eks:, aws:, amazon: and iam:`,
	}},
	{"readers with one name", "silent", "  secrets:\n    readers:\n    - name: a\n      namespace: shop\n      secretNames: [db]\n      groups: [g]\n    - name: a\n      namespace: shop\n      secretNames: [db]\n      groups: [h]\n", []string{
		`9: clusters[0].secrets.readers[1].name: a: is the name of another reader, on line 5: give each its own`,
	}},
	{"service account twice", "silent", "  secrets:\n    readers:\n    - name: a\n      namespace: shop\n      secretNames: [db]\n      serviceAccounts:\n      - {name: s}\n      - {name: s, namespace: shop}\n", []string{
		`10: clusters[0].secrets.readers[0].serviceAccounts[1].name: s: stands here twice, first on line 9`,
	}},
	{"two access entries for a reader", "silent", "  accessEntries:\n  - principalArn: arn:aws:iam::111122223333:role/a\n    policy: AmazonEKSViewPolicy\n  secrets:\n    readers:\n    - name: a\n      namespace: shop\n      secretNames: [db]\n      groups: [g]\n      principalArns:\n      - arn:aws:iam::111122223333:role/a\n", []string{
		`13: clusters[0].secrets.readers[0].principalArns[0]: arn:aws:iam::111122223333:role/a: has an access entry already, on line 4: a principal can have one, so write the groups there and remove this`,
	}},
	{"reader in another partition", "silent", "  account: \"111122223333\"\n  region: cn-north-1\n  secrets:\n    readers:\n    - name: a\n      namespace: shop\n      secretNames: [db]\n      groups: [g]\n      principalArns: [\"arn:aws:iam::111122223333:role/a\"]\n", []string{
		`11: clusters[0].secrets.readers[0].principalArns[0]: arn:aws:iam::111122223333:role/a: is in the partition aws, must be in aws-cn like the cluster`,
	}},
	{"suppression without a reason", "", "  checks:\n    suppress:\n    - id: endpoint-public\n", []string{
		`5: clusters[0].checks.suppress[0].reason: is required`,
	}},
	{"suppression without a rule", "", "  checks:\n    suppress:\n    - {resource: Key, reason: accepted until June}\n", []string{
		`5: clusters[0].checks.suppress[0].id: is required`,
	}},
	{"suppression that says nothing", "", "  checks:\n    suppress:\n    - id: endpoint-public\n      reason: because\n    - id: audit-log-off\n      reason: \"         .\"\n", []string{
		`6: clusters[0].checks.suppress[0].reason: because: must be one line of 10 to 500 characters that says why the finding is accepted`,
		`8: clusters[0].checks.suppress[1].reason: "         .": must be one line of 10 to 500 characters that says why the finding is accepted`,
	}},
	{"suppression of many lines", "", "  checks:\n    suppress:\n    - id: endpoint-public\n      reason: \"accepted\\nuntil June\"\n", []string{
		`6: clusters[0].checks.suppress[0].reason: "accepted\nuntil June": must be one line of 10 to 500 characters that says why the finding is accepted`,
	}},
	{"suppression of everything", "", "  checks:\n    suppress:\n    - id: \"*\"\n      reason: accepted until June\n    - id: Endpoint_Public\n      reason: accepted until June\n", []string{
		`5: clusters[0].checks.suppress[0].id: *: must be the ID of a rule: words of lower-case letters, joined by hyphens, such as endpoint-public`,
		`7: clusters[0].checks.suppress[1].id: Endpoint_Public: must be the ID of a rule: words of lower-case letters, joined by hyphens, such as endpoint-public`,
	}},
	{"suppression at a wildcard", "", "  checks:\n    suppress:\n    - id: endpoint-public\n      resource: ekskms-production/*\n      reason: accepted until June\n    - id: endpoint-public\n      resource: ekskms/\n      reason: accepted until June\n", []string{
		`6: clusters[0].checks.suppress[0].resource: ekskms-production/*: must be a construct path or a logical ID, such as ekskms-production/SecretsKey, without wildcards`,
		`9: clusters[0].checks.suppress[1].resource: ekskms/: must be a construct path or a logical ID, such as ekskms-production/SecretsKey, without wildcards`,
	}},
	{"suppression twice", "silent", "  checks:\n    suppress:\n    - id: endpoint-public\n      reason: accepted until June\n    - id: endpoint-public\n      reason: accepted until July\n", []string{
		`7: clusters[0].checks.suppress[1].id: endpoint-public: is suppressed there already, on line 5: remove one of them`,
	}},
	{"suppressions are a list", "", "  checks:\n    suppress: endpoint-public\n", []string{
		`4: clusters[0].checks.suppress: endpoint-public: must be a list`,
	}},
	{"too many suppressions", "", "  checks:\n    suppress:\n" + numbered(101, "    - {id: endpoint-public, resource: r%d, reason: accepted until June}\n"), []string{
		`105: clusters[0].checks.suppress: 101 items: must have at most 100`,
	}},
	{"plugin architecture unknown", "", "  plugin: {architecture: x86_64}\n", []string{
		`3: clusters[0].plugin.architecture: x86_64: must be amd64 or arm64`,
	}},
	{"image without a tag", "", "  plugin: {image: registry.example.com/kms-plugin}\n", []string{
		`3: clusters[0].plugin.image: registry.example.com/kms-plugin: must be a container image with a tag or a digest, such as registry.example.com/kms-plugin:v1.0.0`,
	}},
	{"image malformed", "", "  plugin: {image: \"https://example.com/a:b\"}\n", []string{
		`3: clusters[0].plugin.image: https://example.com/a:b: must be a container image with a tag or a digest, such as registry.example.com/kms-plugin:v1.0.0`,
	}},
	{"tag reserved", "", "  tags: {\"aws:a\": b}\n", []string{
		`3: clusters[0].tags["aws:a"]: aws:a: must be a key of 1 to 128 letters, digits, spaces and _.:/=+-@, without the reserved prefix aws:`,
	}},
	{"tag value reserved", "", "  tags: {a: \"AWS:b\"}\n", []string{
		`3: clusters[0].tags.a: AWS:b: must be up to 256 letters, digits, spaces and _.:/=+-@, without the reserved prefix aws:`,
	}},
	{"tag key empty", "", "  tags: {\"\": b}\n", []string{
		`3: clusters[0].tags[""]: "": must be a key of 1 to 128 letters, digits, spaces and _.:/=+-@, without the reserved prefix aws:`,
	}},
	{"tag key too long", "", "  tags: {" + strings.Repeat("k", 129) + ": b}\n", []string{
		"3: clusters[0].tags[\"" + strings.Repeat("k", 100) + "...\"]: " + strings.Repeat("k", 100) + "...: must be a key of 1 to 128 letters, digits, spaces and _.:/=+-@, without the reserved prefix aws:",
	}},
	{"tag value too long", "", "  tags: {k: " + strings.Repeat("v", 257) + "}\n", []string{
		"3: clusters[0].tags.k: " + strings.Repeat("v", 100) + "...: must be up to 256 letters, digits, spaces and _.:/=+-@, without the reserved prefix aws:",
	}},
	{"tag with a forbidden character", "", "  tags: {a: \"b;c\"}\n", []string{
		`3: clusters[0].tags.a: b;c: must be up to 256 letters, digits, spaces and _.:/=+-@, without the reserved prefix aws:`,
	}},
	{"tag value a number", "", "  tags:\n    cost-center: 4711\n", []string{
		`4: clusters[0].tags.cost-center: 4711: must be text: quote it, "4711"`,
	}},
	{"tag twice", "skip", "  tags:\n    a: b\n    a: c\n", []string{
		`5: clusters[0].tags.a: c: stands here twice, first on line 4`,
	}},
	{"too many tags", "", "  tags:\n" + numbered(51, "    t%d: v\n"), []string{
		`54: clusters[0].tags: 51 entries: must be at most 50`,
	}},
}

// tenants writes n tenants as YAML. Each of their three names has so many
// characters.
func tenants(n, characters int) string {
	var b strings.Builder
	for i := range n {
		name := fmt.Sprintf("%0*d", characters, i)
		fmt.Fprintf(&b, "    - {name: \"%[1]s\", namespace: \"%[1]s\", serviceAccount: \"%[1]s\"}\n", name)
	}
	return b.String()
}
