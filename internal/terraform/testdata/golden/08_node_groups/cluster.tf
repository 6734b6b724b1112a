# Only EKS, and only for this cluster, can assume it.
resource "aws_iam_role" "cluster" {
  name_prefix = "mixed-cluster-"
  description = "Role of EKS cluster mixed"
  assume_role_policy = jsonencode({
    Statement = [{
      Action = "sts:AssumeRole"
      Condition = {
        ArnEquals = {
          "aws:SourceArn" = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/mixed"
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
  for_each   = toset(["AmazonEKSClusterPolicy"])
  role       = aws_iam_role.cluster.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value}"
}

# The key of the control plane's logs.
resource "aws_kms_key" "logs" {
  description             = "Encrypts the control-plane logs of EKS cluster mixed"
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
            "kms:EncryptionContext:aws:logs:arn" = "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:/aws/eks/mixed/cluster"
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
  name          = "alias/eks/mixed/logs"
  target_key_id = aws_kms_key.logs.key_id
}

# EKS writes here. If it were not there, EKS would make one without a key and without an end.
resource "aws_cloudwatch_log_group" "control_plane" {
  name              = "/aws/eks/mixed/cluster"
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
  name                      = "mixed"
  version                   = "1.35"
  role_arn                  = aws_iam_role.cluster.arn
  enabled_cluster_log_types = ["api", "audit", "authenticator", "controllerManager", "scheduler"]

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
    enabled = false
  }

  kubernetes_network_config {
    ip_family = "ipv4"

    elastic_load_balancing {
      enabled = false
    }
  }

  storage_config {
    block_storage {
      enabled = false
    }
  }

  lifecycle {
    prevent_destroy      = true # after a creation that failed halfway: terraform untaint aws_eks_cluster.this
    replace_triggered_by = [terraform_data.secrets_key]
  }
  depends_on = [aws_cloudwatch_log_group.control_plane, aws_iam_role_policy_attachment.cluster, aws_route.private]
}

# Who may use the Kubernetes API. Nobody else may, the principal that applies this included.
locals {
  access_entries = {
    "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/eu-central-1/AWSReservedSSO_PlatformAdmin_0123456789abcdef" = {
      groups     = []
      namespaces = null
      policy     = "AmazonEKSClusterAdminPolicy"
      scope      = "cluster"
    }
  }
}

resource "aws_eks_access_entry" "this" {
  for_each          = local.access_entries
  cluster_name      = aws_eks_cluster.this.name
  principal_arn     = each.key
  kubernetes_groups = each.value.groups
  type              = "STANDARD"
}

resource "aws_eks_access_policy_association" "this" {
  for_each      = { for arn, entry in local.access_entries : arn => entry if entry.policy != null }
  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_eks_access_entry.this[each.key].principal_arn
  policy_arn    = "arn:${local.partition}:eks::aws:cluster-access-policy/${each.value.policy}"

  access_scope {
    type       = each.value.scope
    namespaces = each.value.namespaces
  }
}

# Lets nodes that come later join the cluster.
resource "aws_eks_access_entry" "nodes" {
  for_each      = toset(["arn:aws:iam::111122223333:role/KarpenterNode"])
  cluster_name  = aws_eks_cluster.this.name
  principal_arn = each.key
  type          = "EC2_LINUX"
}

resource "aws_iam_role" "nodes" {
  name_prefix = "mixed-nodes-"
  description = "Role of the nodes of EKS cluster mixed"
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
  for_each   = toset(["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryReadOnly"])
  role       = aws_iam_role.nodes.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value}"
}

# The key of the disks of nodes and of the volumes of pods.
resource "aws_kms_key" "volumes" {
  description             = "Encrypts the volumes of EKS cluster mixed"
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
          AWS = [
            "arn:${local.partition}:iam::${local.account_id}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling",
            "arn:aws:iam::111122223333:role/EbsCsiDriver",
          ]
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
          AWS = [
            "arn:${local.partition}:iam::${local.account_id}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling",
            "arn:aws:iam::111122223333:role/EbsCsiDriver",
          ]
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
          AWS = [
            "arn:${local.partition}:iam::${local.account_id}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling",
            "arn:aws:iam::111122223333:role/EbsCsiDriver",
          ]
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
  name          = "alias/eks/mixed/volumes"
  target_key_id = aws_kms_key.volumes.key_id
}

resource "aws_eks_addon" "pod_identity_agent" {
  cluster_name = aws_eks_cluster.this.name
  addon_name   = "eks-pod-identity-agent"
}

resource "aws_eks_addon" "vpc_cni" {
  cluster_name = aws_eks_cluster.this.name
  addon_name   = "vpc-cni"
  configuration_values = jsonencode({
    enableNetworkPolicy = "true"
    env = {
      ENABLE_PREFIX_DELEGATION = "true"
    }
  })
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"
}

resource "aws_eks_addon" "aws-ebs-csi-driver" {
  cluster_name  = aws_eks_cluster.this.name
  addon_name    = "aws-ebs-csi-driver"
  addon_version = "v1.55.0-eksbuild.1"

  pod_identity_association {
    role_arn        = "arn:aws:iam::111122223333:role/EbsCsiDriver"
    service_account = "ebs-csi-controller-sa"
  }
  depends_on = [aws_eks_node_group.general, aws_eks_node_group.batch, aws_eks_fargate_profile.jobs]
}

resource "aws_launch_template" "general" {
  name_prefix = "mixed-general-"

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      encrypted             = true
      kms_key_id            = aws_kms_key.volumes.arn
      volume_size           = 20
      volume_type           = "gp3"
      delete_on_termination = true
    }
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}

resource "aws_eks_node_group" "general" {
  cluster_name           = aws_eks_cluster.this.name
  node_group_name_prefix = "mixed-general-"
  node_role_arn          = aws_iam_role.nodes.arn
  subnet_ids             = [for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]
  version                = "1.35"
  ami_type               = "AL2023_x86_64_STANDARD"
  instance_types         = ["m7i.large"]
  force_update_version   = true

  scaling_config {
    min_size     = 2
    max_size     = 6
    desired_size = 2
  }

  launch_template {
    id      = aws_launch_template.general.id
    version = aws_launch_template.general.latest_version
  }

  lifecycle {
    create_before_destroy = true
  }
  depends_on = [aws_eks_addon.vpc_cni, aws_iam_role_policy_attachment.nodes]
}

resource "aws_launch_template" "batch" {
  name_prefix = "mixed-batch-"

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      encrypted             = true
      kms_key_id            = aws_kms_key.volumes.arn
      volume_type           = "gp3"
      delete_on_termination = true
    }
  }

  block_device_mappings {
    device_name = "/dev/xvdb"

    ebs {
      encrypted             = true
      kms_key_id            = aws_kms_key.volumes.arn
      volume_size           = 100
      volume_type           = "gp3"
      delete_on_termination = true
    }
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}

resource "aws_eks_node_group" "batch" {
  cluster_name           = aws_eks_cluster.this.name
  node_group_name_prefix = "mixed-batch-"
  node_role_arn          = aws_iam_role.nodes.arn
  subnet_ids             = [for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]
  version                = "1.35"
  capacity_type          = "SPOT"
  ami_type               = "BOTTLEROCKET_ARM_64"
  instance_types         = ["m7g.xlarge", "m8g.xlarge"]
  labels = {
    team = "data"
  }
  force_update_version = true

  scaling_config {
    min_size     = 0
    max_size     = 20
    desired_size = 0
  }

  launch_template {
    id      = aws_launch_template.batch.id
    version = aws_launch_template.batch.latest_version
  }

  taint {
    key    = "batch"
    value  = "only"
    effect = "NO_SCHEDULE"
  }

  lifecycle {
    create_before_destroy = true
  }
  depends_on = [aws_eks_addon.vpc_cni, aws_iam_role_policy_attachment.nodes]
}

resource "aws_iam_role" "fargate" {
  name_prefix = "mixed-fargate-"
  description = "Runs the Fargate pods of EKS cluster mixed"
  assume_role_policy = jsonencode({
    Statement = [{
      Action = "sts:AssumeRole"
      Condition = {
        ArnLike = {
          "aws:SourceArn" = "arn:${local.partition}:eks:${local.region}:${local.account_id}:fargateprofile/mixed/*"
        }
      }
      Effect = "Allow"
      Principal = {
        Service = "eks-fargate-pods.amazonaws.com"
      }
    }]
    Version = "2012-10-17"
  })
}

resource "aws_iam_role_policy_attachment" "fargate" {
  for_each   = toset(["AmazonEKSFargatePodExecutionRolePolicy"])
  role       = aws_iam_role.fargate.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value}"
}

resource "aws_eks_fargate_profile" "jobs" {
  cluster_name           = aws_eks_cluster.this.name
  fargate_profile_name   = "jobs"
  pod_execution_role_arn = aws_iam_role.fargate.arn
  subnet_ids             = [for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]

  selector {
    namespace = "jobs-*"
    labels = {
      runs-on = "fargate"
    }
  }
  depends_on = [aws_iam_role_policy_attachment.fargate]
}
