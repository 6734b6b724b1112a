# The CMK of the secrets. No action and no principal of its policy is a wildcard, and
# the account itself can administer it but not use it.
resource "aws_kms_key" "secrets" {
  description             = "Encrypts the Kubernetes secrets of EKS cluster ekskms"
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
        Action = "kms:DescribeKey"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws:iam::111122223333:role/Admin"
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
          AWS = "arn:aws:iam::111122223333:role/Admin"
        }
        Resource = "*"
        Sid      = "ClusterCreatorsGrant"
      },
      {
        Action = ["kms:DescribeKey", "kms:ListGrants"]
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws:iam::111122223333:role/eksctl-payments-ServiceRole"
        }
        Resource = "*"
        Sid      = "ClusterRole"
      },
    ]
    Version = "2012-10-17"
  })

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "secrets" {
  name          = "alias/eks/ekskms"
  target_key_id = aws_kms_key.secrets.key_id
}
