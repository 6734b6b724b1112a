output "cluster_name" {
  description = "Name of the EKS cluster"
  value       = aws_eks_cluster.this.name
}

output "update_kubeconfig" {
  description = "Command that makes kubectl talk to the cluster"
  value       = "aws eks update-kubeconfig --name ${aws_eks_cluster.this.name} --region ${local.region}"
}

output "key_arn" {
  description = "ARN of the key that encrypts the secrets"
  value       = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
}

output "existing_key_policy_statements" {
  description = "What the owner of the existing key must add to its policy, as a JSON list of statements: those that name no role of this module before it is applied, the others after it"
  value = jsonencode([
    {
      Action = [
        "kms:CancelKeyDeletion",
        "kms:CreateAlias",
        "kms:DeleteAlias",
        "kms:DescribeKey",
        "kms:DisableKey",
        "kms:DisableKeyRotation",
        "kms:EnableKey",
        "kms:EnableKeyRotation",
        "kms:GetKeyPolicy",
        "kms:GetKeyRotationStatus",
        "kms:ListGrants",
        "kms:ListKeyPolicies",
        "kms:ListKeyRotations",
        "kms:ListResourceTags",
        "kms:PutKeyPolicy",
        "kms:RevokeGrant",
        "kms:RotateKeyOnDemand",
        "kms:ScheduleKeyDeletion",
        "kms:TagResource",
        "kms:UntagResource",
        "kms:UpdateAlias",
        "kms:UpdateKeyDescription",
      ]
      Effect = "Allow"
      Principal = {
        AWS = "arn:aws:iam::111122223333:role/KeyAdmin"
      }
      Resource = "*"
      Sid      = "Administrators"
    },
    {
      Action = "kms:DescribeKey"
      Effect = "Allow"
      Principal = {
        AWS = var.creator_arns
      }
      Resource = "*"
      Sid      = "ClusterCreatorsDescribe"
    },
    {
      Action = "kms:CreateGrant"
      Condition = {
        "ForAllValues:StringNotEqualsIgnoreCase" = {
          "kms:EncryptionContextKeys" = ["ekskms:cluster-arn", "ekskms:tenant"]
        }
        StringEquals = {
          "kms:GrantConstraintType" = ["EncryptionContextEquals", "EncryptionContextSubset"]
        }
      }
      Effect = "Allow"
      Principal = {
        AWS = var.creator_arns
      }
      Resource = "*"
      Sid      = "ClusterCreatorsGrant"
    },
    {
      Action = ["kms:DescribeKey", "kms:ListGrants"]
      Condition = {
        ArnLike = {
          "aws:PrincipalArn" = "arn:${local.partition}:iam::${local.account_id}:role/ekskms/payments/*"
        }
      }
      Effect = "Allow"
      Principal = {
        AWS = "arn:${local.partition}:iam::${local.account_id}:root"
      }
      Resource = "*"
      Sid      = "ClusterRole"
    },
    {
      Action = ["kms:DescribeKey", "kms:ListGrants"]
      Condition = {
        StringEquals = {
          "aws:PrincipalTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/payments"
          "aws:PrincipalTag/kubernetes-namespace"       = "ekskms-system"
          "aws:PrincipalTag/kubernetes-service-account" = "kms-plugin"
        }
      }
      Effect = "Allow"
      Principal = {
        AWS = aws_iam_role.plugin.arn
      }
      Resource = "*"
      Sid      = "PluginDescribe"
    },
    {
      Action = ["kms:Decrypt", "kms:GenerateDataKey"]
      Condition = {
        "ForAllValues:StringEquals" = {
          "kms:EncryptionContextKeys" = "ekskms:cluster-arn"
        }
        StringEquals = {
          "aws:PrincipalTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/payments"
          "aws:PrincipalTag/kubernetes-namespace"       = "ekskms-system"
          "aws:PrincipalTag/kubernetes-service-account" = "kms-plugin"
          "kms:EncryptionContext:ekskms:cluster-arn"    = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/payments"
        }
      }
      Effect = "Allow"
      Principal = {
        AWS = aws_iam_role.plugin.arn
      }
      Resource = "*"
      Sid      = "PluginUse"
    },
  ])
}

output "trail_arn" {
  description = "ARN of the trail that records every use of the key"
  value       = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/management"
}

output "topic_arn" {
  description = "ARN of the topic that receives the alarms"
  value       = "arn:aws:sns:eu-central-1:111122223333:security-alarms"
}

output "plugin_role_arn" {
  description = "ARN of the KMS plugin's IAM role"
  value       = aws_iam_role.plugin.arn
}

output "kubernetes_manifests" {
  description = "What belongs on the cluster: terraform output -raw kubernetes_manifests | kubectl apply --server-side -f -"
  value       = local.kubernetes_manifests
}
