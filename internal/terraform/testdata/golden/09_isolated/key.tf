# The CMK of the secrets. No action and no principal of its policy is a wildcard, and
# the account itself can administer it but not use it.
resource "aws_kms_key" "secrets" {
  description             = "Encrypts the Kubernetes secrets of EKS cluster isolated"
  enable_key_rotation     = true
  rotation_period_in_days = 90
  deletion_window_in_days = 30
  multi_region            = false
  policy = jsonencode({
    Statement = [
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
          AWS = "arn:${local.partition}:iam::${local.account_id}:root"
        }
        Resource = "*"
        Sid      = "AccountAdministration"
      },
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
        Condition = {
          ArnLike = {
            "aws:PrincipalArn" = [
              "arn:${local.partition}:iam::${local.account_id}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_KeyAdmin_????????????????",
              "arn:${local.partition}:iam::${local.account_id}:role/aws-reserved/sso.amazonaws.com/*/AWSReservedSSO_KeyAdmin_????????????????",
            ]
          }
        }
        Effect = "Allow"
        Principal = {
          AWS = "arn:${local.partition}:iam::${local.account_id}:root"
        }
        Resource = "*"
        Sid      = "AdministratorsBySet"
      },
      {
        Action = "kms:DescribeKey"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws:iam::111122223333:role/Deployer"
        }
        Resource = "*"
        Sid      = "ClusterCreatorsDescribe"
      },
      {
        Action = "kms:DescribeKey"
        Condition = {
          ArnLike = {
            "aws:PrincipalArn" = [
              "arn:${local.partition}:iam::${local.account_id}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_PlatformDeploy_????????????????",
              "arn:${local.partition}:iam::${local.account_id}:role/aws-reserved/sso.amazonaws.com/*/AWSReservedSSO_PlatformDeploy_????????????????",
            ]
          }
        }
        Effect = "Allow"
        Principal = {
          AWS = "arn:${local.partition}:iam::${local.account_id}:root"
        }
        Resource = "*"
        Sid      = "ClusterCreatorsDescribeBySet"
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
          AWS = "arn:aws:iam::111122223333:role/Deployer"
        }
        Resource = "*"
        Sid      = "ClusterCreatorsGrant"
      },
      {
        Action = "kms:CreateGrant"
        Condition = {
          ArnLike = {
            "aws:PrincipalArn" = [
              "arn:${local.partition}:iam::${local.account_id}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_PlatformDeploy_????????????????",
              "arn:${local.partition}:iam::${local.account_id}:role/aws-reserved/sso.amazonaws.com/*/AWSReservedSSO_PlatformDeploy_????????????????",
            ]
          }
          "ForAllValues:StringNotEqualsIgnoreCase" = {
            "kms:EncryptionContextKeys" = ["ekskms:cluster-arn", "ekskms:tenant"]
          }
          StringEquals = {
            "kms:GrantConstraintType" = ["EncryptionContextEquals", "EncryptionContextSubset"]
          }
        }
        Effect = "Allow"
        Principal = {
          AWS = "arn:${local.partition}:iam::${local.account_id}:root"
        }
        Resource = "*"
        Sid      = "ClusterCreatorsGrantBySet"
      },
      {
        Action = ["kms:DescribeKey", "kms:ListGrants"]
        Effect = "Allow"
        Principal = {
          AWS = aws_iam_role.cluster.arn
        }
        Resource = "*"
        Sid      = "ClusterRole"
      },
      {
        Action = ["kms:DescribeKey", "kms:ListGrants"]
        Condition = {
          StringEquals = {
            "aws:PrincipalTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/isolated"
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
            "aws:PrincipalTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/isolated"
            "aws:PrincipalTag/kubernetes-namespace"       = "ekskms-system"
            "aws:PrincipalTag/kubernetes-service-account" = "kms-plugin"
            "kms:EncryptionContext:ekskms:cluster-arn"    = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/isolated"
          }
        }
        Effect = "Allow"
        Principal = {
          AWS = aws_iam_role.plugin.arn
        }
        Resource = "*"
        Sid      = "PluginUse"
      },
    ]
    Version = "2012-10-17"
  })

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "secrets" {
  name          = "alias/eks/isolated"
  target_key_id = aws_kms_key.secrets.key_id
}
