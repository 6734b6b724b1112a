# Only EKS, and only for this cluster, can assume it.
resource "aws_iam_role" "cluster" {
  name_prefix = "isolated-cluster-"
  description = "Role of EKS cluster isolated"
  assume_role_policy = jsonencode({
    Statement = [{
      Action = ["sts:AssumeRole", "sts:TagSession"]
      Condition = {
        ArnEquals = {
          "aws:SourceArn" = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/isolated"
        }
        StringEquals = {
          "aws:SourceAccount" = local.account_id
        }
      }
      Effect = "Allow"
      Principal = {
        Service = "eks.amazonaws.com"
      }
      Sid = "ThisCluster"
    }]
    Version = "2012-10-17"
  })
}

resource "aws_iam_role_policy_attachment" "cluster" {
  for_each = toset([
    "AmazonEKSClusterPolicy",
    "AmazonEKSComputePolicy",
    "AmazonEKSBlockStoragePolicy",
    "AmazonEKSLoadBalancingPolicy",
    "AmazonEKSNetworkingPolicy",
  ])
  role       = aws_iam_role.cluster.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value}"
}

# The key of the control plane's logs.
resource "aws_kms_key" "logs" {
  description             = "Encrypts the control-plane logs of EKS cluster isolated"
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
        Action = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
        Condition = {
          ArnEquals = {
            "kms:EncryptionContext:aws:logs:arn" = "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:/aws/eks/isolated/cluster"
          }
        }
        Effect = "Allow"
        Principal = {
          Service = "logs.${local.region}.${data.aws_partition.current.dns_suffix}"
        }
        Resource = "*"
        Sid      = "LogGroup"
      },
    ]
    Version = "2012-10-17"
  })

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "logs" {
  name          = "alias/eks/isolated/logs"
  target_key_id = aws_kms_key.logs.key_id
}

# EKS writes here. If it were not there, EKS would make one without a key and without an end.
resource "aws_cloudwatch_log_group" "control_plane" {
  name              = "/aws/eks/isolated/cluster"
  retention_in_days = 365
  kms_key_id        = aws_kms_key.logs.arn

  lifecycle {
    prevent_destroy = true
  }
}

# EKS can't change the key of a cluster. The provider would plan an update and call nothing,
# while the alarms and the plugin move to the other key (terraform-provider-aws 34883). With
# this a plan with another key replaces the cluster, which prevent_destroy refuses.
resource "terraform_data" "secrets_key" {
  input = aws_kms_key.secrets.arn
}

resource "aws_eks_cluster" "this" {
  name                          = "isolated"
  version                       = "1.35"
  role_arn                      = aws_iam_role.cluster.arn
  enabled_cluster_log_types     = ["api", "audit", "authenticator", "controllerManager", "scheduler"]
  bootstrap_self_managed_addons = false

  access_config {
    authentication_mode                         = "API"
    bootstrap_cluster_creator_admin_permissions = false
  }

  encryption_config {
    resources = ["secrets"]

    provider {
      key_arn = aws_kms_key.secrets.arn
    }
  }

  vpc_config {
    subnet_ids              = [for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]
    endpoint_private_access = true
    endpoint_public_access  = false
  }

  compute_config {
    enabled = true
  }

  kubernetes_network_config {
    ip_family = "ipv4"

    elastic_load_balancing {
      enabled = true
    }
  }

  storage_config {
    block_storage {
      enabled = true
    }
  }

  lifecycle {
    prevent_destroy      = true # after a creation that failed halfway: terraform untaint aws_eks_cluster.this
    replace_triggered_by = [terraform_data.secrets_key]
  }
  depends_on = [aws_cloudwatch_log_group.control_plane, aws_iam_role_policy_attachment.cluster, aws_iam_role_policy_attachment.nodes, aws_vpc_endpoint.s3, aws_vpc_endpoint.ec2, aws_vpc_endpoint.ecr_api, aws_vpc_endpoint.ecr_dkr, aws_vpc_endpoint.eks, aws_vpc_endpoint.eks_auth, aws_vpc_endpoint.kms, aws_vpc_endpoint.logs, aws_vpc_endpoint.sts]
}

resource "aws_iam_role" "nodes" {
  name_prefix = "isolated-nodes-"
  description = "Role of the nodes of EKS cluster isolated"
  assume_role_policy = jsonencode({
    Statement = [{
      Action = "sts:AssumeRole"
      Effect = "Allow"
      Principal = {
        Service = "ec2.amazonaws.com"
      }
    }]
    Version = "2012-10-17"
  })
}

resource "aws_iam_role_policy_attachment" "nodes" {
  for_each   = toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryReadOnly"])
  role       = aws_iam_role.nodes.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value}"
}

# The key of the disks of nodes and of the volumes of pods.
resource "aws_kms_key" "volumes" {
  description             = "Encrypts the volumes of EKS cluster isolated"
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
          AWS = aws_iam_role.cluster.arn
        }
        Resource = "*"
        Sid      = "VolumesDescribe"
      },
      {
        Action = ["kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
        Condition = {
          StringEquals = {
            "kms:ViaService" = "ec2.${local.region}.${data.aws_partition.current.dns_suffix}"
          }
        }
        Effect = "Allow"
        Principal = {
          AWS = aws_iam_role.cluster.arn
        }
        Resource = "*"
        Sid      = "VolumesUse"
      },
      {
        Action = "kms:CreateGrant"
        Condition = {
          Bool = {
            "kms:GrantIsForAWSResource" = "true"
          }
          StringEquals = {
            "kms:ViaService" = "ec2.${local.region}.${data.aws_partition.current.dns_suffix}"
          }
        }
        Effect = "Allow"
        Principal = {
          AWS = aws_iam_role.cluster.arn
        }
        Resource = "*"
        Sid      = "VolumesGrant"
      },
    ]
    Version = "2012-10-17"
  })

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "volumes" {
  name          = "alias/eks/isolated/volumes"
  target_key_id = aws_kms_key.volumes.key_id
}

# Lets the nodes of the class encrypted join the cluster.
resource "aws_eks_access_entry" "encrypted" {
  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_iam_role.nodes.arn
  type          = "EC2"
}

resource "aws_eks_access_policy_association" "encrypted" {
  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_eks_access_entry.encrypted.principal_arn
  policy_arn    = "arn:${local.partition}:eks::aws:cluster-access-policy/AmazonEKSAutoNodePolicy"

  access_scope {
    type = "cluster"
  }
}
