package keypolicy

import "github.com/ekskms/ekskms/internal/iampolicy"

// VolumesKey describes the key that encrypts the volumes of nodes and pods.
type VolumesKey struct {
	RootARN string
	// EC2Service is the endpoint name of EC2, such as ec2.eu-central-1.amazonaws.com.
	EC2Service string
	// RoleARNs are the roles that have EC2 start instances, or make and attach volumes:
	// that of Auto Scaling for node groups, that of the cluster for Auto Mode, and that of
	// the EBS CSI driver.
	RoleARNs []string
}

// AutoScalingRole is the path and the name of the service-linked role with which Auto
// Scaling starts the instances of node groups. It is there once an account has had an Auto
// Scaling group, or after aws iam create-service-linked-role; KMS refuses a policy that
// names it before.
const AutoScalingRole = "role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"

// Statements returns the whole policy of the key.
func (k VolumesKey) Statements() []iampolicy.Statement {
	return append([]iampolicy.Statement{Account(k.RootARN, false)}, k.Use()...)
}

// Use lets the roles work with volumes, and with nothing else: EC2 calls KMS in their name,
// and makes grants for the volumes.
//
// Sources: Amazon EC2 Auto Scaling User Guide, "Required AWS KMS key policy for use with
// encrypted volumes"; Amazon EKS User Guide, "Enable EBS Volume Encryption with Customer
// Managed KMS Keys for EKS Auto Mode"; Amazon EBS User Guide, "Requirements for Amazon EBS
// encryption", of which the actions are. The first two allow kms:Encrypt, plaintext data keys
// and any caller too. That EC2 calls in their name is inferred from the policy of the key
// aws/ebs, which they work with and which has the same condition.
func (k VolumesKey) Use() []iampolicy.Statement {
	if len(k.RoleARNs) == 0 {
		return nil
	}
	through := func() map[string]iampolicy.Values {
		return map[string]iampolicy.Values{"kms:ViaService": {k.EC2Service}}
	}
	roles := iampolicy.Principal{AWS: k.RoleARNs}
	return []iampolicy.Statement{
		{Sid: "VolumesDescribe", Effect: iampolicy.Allow, Principal: roles, Action: iampolicy.Values{"kms:DescribeKey"}, Resource: onKey()},
		{
			Sid: "VolumesUse", Effect: iampolicy.Allow, Principal: roles, Resource: onKey(),
			Action:    iampolicy.Values{"kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"},
			Condition: iampolicy.Condition{"StringEquals": through()},
		},
		{
			Sid: "VolumesGrant", Effect: iampolicy.Allow, Principal: roles, Action: iampolicy.Values{"kms:CreateGrant"}, Resource: onKey(),
			Condition: iampolicy.Condition{"StringEquals": through(), "Bool": {"kms:GrantIsForAWSResource": {"true"}}},
		},
	}
}
