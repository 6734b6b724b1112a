package adopt

import (
	"fmt"
	"strings"
)

// Owner is what made a cluster, as its tags say.
type Owner struct {
	// Stack of CloudFormation, and its ID of the cluster, which eksctl has, too. Empty if no
	// stack made it.
	Stack, LogicalID string
	EKSCtl           bool
}

// The tags are written by CloudFormation (its user guide, "Resource tag") and by eksctl.
func ownerOf(tags map[string]string) Owner {
	_, ours := tags["alpha.eksctl.io/cluster-name"]
	return Owner{Stack: tags["aws:cloudformation:stack-name"], LogicalID: tags["aws:cloudformation:logical-id"], EKSCtl: ours}
}

// Code says how the code that made the cluster, which is under the key, follows. Of who leaves
// no mark on a cluster, such as Terraform, all forms are shown.
func (o Owner) Code(cluster, key string) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	switch {
	case o.EKSCtl:
		p(`eksctl made the cluster. Its ClusterConfig must say:

  secretsEncryption:
    keyARN: %s

eksctl reads that when it makes a cluster; it changes nothing of this one. Its stack %s
must not be updated by hand with an EncryptionConfig: that would replace the cluster.
`, key, o.Stack)
	case o.Stack != "":
		id := o.LogicalID
		if id == "" {
			id = "ID"
		}
		p(`The stack %[1]s made the cluster, as %[2]s. To write EncryptionConfig into its template
would replace the cluster, so it is imported with it, in this order:

  1. On %[2]s set "DeletionPolicy": "Retain" and "UpdateReplacePolicy": "Retain". Deploy that alone.
  2. Take %[2]s out of the template, and what refers to it replaced by its values: the name is
     %[3]s. Deploy: the cluster stays. In CDK: take its resource out, as in "cdk import".
  3. Put it back as it runs, with

       "EncryptionConfig": [{"Resources": ["secrets"], "Provider": {"KeyArn": "%[4]s"}}]

     and import it:

       aws cloudformation create-change-set --stack-name %[1]s --change-set-name adopt --change-set-type IMPORT \
         --template-body file://template.json --capabilities CAPABILITY_NAMED_IAM \
         --resources-to-import '[{"ResourceType": "AWS::EKS::Cluster", "LogicalResourceId": "%[2]s", "ResourceIdentifier": {"Name": "%[3]s"}}]'
       aws cloudformation execute-change-set --stack-name %[1]s --change-set-name adopt

  'ekskms guard --against BEFORE AFTER' of the templates names what a step would delete or replace.
`, o.Stack, id, cluster, key)
	default:
		p(`No tag of the cluster says what made it. If it was

  terraform-aws-eks 20      create_kms_key            = false
                            cluster_encryption_config = { provider_key_arn = "%[1]s", resources = ["secrets"] }
  terraform-aws-eks 21      create_kms_key    = false
                            encryption_config = { provider_key_arn = "%[1]s", resources = ["secrets"] }
  aws_eks_cluster           encryption_config {
                              provider { key_arn = "%[1]s" }
                              resources = ["secrets"]
                            }

'terraform plan' must change nothing of the cluster %[2]s then, and 'ekskms guard' of the plan finds nothing.
`, key, cluster)
	}
	return b.String()
}
