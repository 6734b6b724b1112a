# The CMK of the secrets. No action and no principal of its policy is a wildcard, and
# the account itself can administer it but not use it.
resource "aws_kms_key" "secrets" {
  description             = "Encrypts the Kubernetes secrets of EKS cluster hosted-control-planes"
  enable_key_rotation     = true
  rotation_period_in_days = 180
  deletion_window_in_days = 30
  multi_region            = true
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
          "kms:ReplicateKey",
          "kms:RevokeGrant",
          "kms:RotateKeyOnDemand",
          "kms:ScheduleKeyDeletion",
          "kms:TagResource",
          "kms:UntagResource",
          "kms:UpdateAlias",
          "kms:UpdateKeyDescription",
          "kms:UpdatePrimaryRegion",
        ]
        Effect = "Allow"
        Principal = {
          AWS = "arn:${local.partition}:iam::${local.account_id}:root"
        }
        Resource = "*"
        Sid      = "AccountAdministration"
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
        Action = "kms:CreateGrant"
        Condition = {
          "ForAllValues:StringEquals" = {
            "kms:GrantOperations" = ["Decrypt", "Encrypt"]
          }
          "ForAllValues:StringNotEqualsIgnoreCase" = {
            "kms:EncryptionContextKeys" = ["ekskms:cluster-arn", "ekskms:tenant"]
          }
          StringEquals = {
            "kms:CallerAccount"       = local.account_id
            "kms:GrantConstraintType" = "EncryptionContextEquals"
            "kms:ViaService"          = "eks.${local.region}.${data.aws_partition.current.dns_suffix}"
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
            "aws:PrincipalTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/hosted-control-planes"
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
            "aws:PrincipalTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/hosted-control-planes"
            "aws:PrincipalTag/kubernetes-namespace"       = "ekskms-system"
            "aws:PrincipalTag/kubernetes-service-account" = "kms-plugin"
            "kms:EncryptionContext:ekskms:cluster-arn"    = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/hosted-control-planes"
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
  name          = "alias/eks/hosted"
  target_key_id = aws_kms_key.secrets.key_id
}
