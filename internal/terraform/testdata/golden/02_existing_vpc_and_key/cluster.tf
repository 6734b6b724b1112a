# Only EKS, and only for this cluster, can assume it.
resource "aws_iam_role" "cluster" {
  name_prefix = "payments-cluster-"
  path        = "/ekskms/payments/"
  description = "Role of EKS cluster payments"
  assume_role_policy = jsonencode({
    Statement = [{
      Action = ["sts:AssumeRole", "sts:TagSession"]
      Condition = {
        ArnEquals = {
          "aws:SourceArn" = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/payments"
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

# The policy of the existing key lets the role in only if this does too.
resource "aws_iam_role_policy" "cluster" {
  name = "key"
  role = aws_iam_role.cluster.id
  policy = jsonencode({
    Statement = [{
      Action   = ["kms:DescribeKey", "kms:ListGrants"]
      Effect   = "Allow"
      Resource = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
      Sid      = "ClusterRole"
    }]
    Version = "2012-10-17"
  })
}

# The key of the control plane's logs.
resource "aws_kms_key" "logs" {
  description             = "Encrypts the control-plane logs of EKS cluster payments"
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
            "kms:EncryptionContext:aws:logs:arn" = "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:/aws/eks/payments/cluster"
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
  name          = "alias/eks/payments/logs"
  target_key_id = aws_kms_key.logs.key_id
}

# EKS writes here. If it were not there, EKS would make one without a key and without an end.
resource "aws_cloudwatch_log_group" "control_plane" {
  name              = "/aws/eks/payments/cluster"
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
  input = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
}

resource "aws_eks_cluster" "this" {
  name                          = "payments"
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
      key_arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    }
  }

  vpc_config {
    subnet_ids              = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
    endpoint_private_access = true
    endpoint_public_access  = true
    public_access_cidrs     = ["203.0.113.0/24"]
  }

  compute_config {
    enabled       = true
    node_pools    = ["general-purpose", "system"]
    node_role_arn = aws_iam_role.nodes.arn
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
  depends_on = [aws_cloudwatch_log_group.control_plane, aws_iam_role_policy_attachment.cluster, aws_iam_role_policy_attachment.nodes, aws_iam_role_policy.cluster]
}

# Who may use the Kubernetes API. Nobody else may, the principal that applies this included.
locals {
  access_entries = {
    "arn:aws:iam::111122223333:role/ClusterAdmin" = {
      groups     = []
      namespaces = null
      policy     = "AmazonEKSClusterAdminPolicy"
      scope      = "cluster"
    }
    "arn:aws:iam::111122223333:role/team/PaymentsDeveloper" = {
      groups     = []
      namespaces = ["payments"]
      policy     = "AmazonEKSEditPolicy"
      scope      = "namespace"
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

resource "aws_iam_role" "nodes" {
  name_prefix = "payments-nodes-"
  description = "Role of the nodes of EKS cluster payments"
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
