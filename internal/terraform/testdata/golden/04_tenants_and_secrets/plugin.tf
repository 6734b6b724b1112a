# Only EKS Pod Identity, and only for the plugin's pods on this cluster, can assume it.
resource "aws_iam_role" "plugin" {
  name_prefix = "platform-plugin-"
  description = "Lets the KMS plugin on EKS cluster platform use the key of its secrets"
  assume_role_policy = jsonencode({
    Statement = [{
      Action = ["sts:AssumeRole", "sts:TagSession"]
      Condition = {
        StringEquals = {
          "aws:RequestTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/platform"
          "aws:RequestTag/kubernetes-namespace"       = "ekskms-system"
          "aws:RequestTag/kubernetes-service-account" = "kms-plugin"
        }
      }
      Effect = "Allow"
      Principal = {
        Service = "pods.eks.amazonaws.com"
      }
      Sid = "PodIdentity"
    }]
    Version = "2012-10-17"
  })
}

resource "aws_iam_role_policy" "plugin" {
  name = "key"
  role = aws_iam_role.plugin.id
  policy = jsonencode({
    Statement = [
      {
        Action = ["kms:DescribeKey", "kms:ListGrants"]
        Condition = {
          StringEquals = {
            "aws:PrincipalTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/platform"
            "aws:PrincipalTag/kubernetes-namespace"       = "ekskms-system"
            "aws:PrincipalTag/kubernetes-service-account" = "kms-plugin"
          }
        }
        Effect   = "Allow"
        Resource = aws_kms_key.secrets.arn
        Sid      = "PluginDescribe"
      },
      {
        Action = ["kms:Decrypt", "kms:GenerateDataKey"]
        Condition = {
          "ForAllValues:StringEquals" = {
            "kms:EncryptionContextKeys" = "ekskms:cluster-arn"
          }
          StringEquals = {
            "aws:PrincipalTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/platform"
            "aws:PrincipalTag/kubernetes-namespace"       = "ekskms-system"
            "aws:PrincipalTag/kubernetes-service-account" = "kms-plugin"
            "kms:EncryptionContext:ekskms:cluster-arn"    = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/platform"
          }
        }
        Effect   = "Allow"
        Resource = aws_kms_key.secrets.arn
        Sid      = "PluginUse"
      },
    ]
    Version = "2012-10-17"
  })
}

resource "aws_eks_pod_identity_association" "plugin" {
  cluster_name    = aws_eks_cluster.this.name
  namespace       = "ekskms-system"
  service_account = "kms-plugin"
  role_arn        = aws_iam_role.plugin.arn
}

# The hosted control planes, each with an identity and an encryption context of its own.
locals {
  tenants = {
    acme = {
      namespace       = "vcluster-acme"
      service_account = "vc-acme"
    }
    globex = {
      namespace       = "vcluster-globex"
      service_account = "vc-globex"
    }
  }
}

resource "aws_iam_role" "tenant" {
  for_each    = local.tenants
  name_prefix = "platform-tenant-"
  description = "Lets the KMS plugin of tenant ${each.key} on EKS cluster platform use the key of the cluster"
  assume_role_policy = jsonencode({
    Statement = [{
      Action = ["sts:AssumeRole", "sts:TagSession"]
      Condition = {
        StringEquals = {
          "aws:RequestTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/platform"
          "aws:RequestTag/kubernetes-namespace"       = each.value.namespace
          "aws:RequestTag/kubernetes-service-account" = each.value.service_account
        }
      }
      Effect = "Allow"
      Principal = {
        Service = "pods.eks.amazonaws.com"
      }
      Sid = "PodIdentity"
    }]
    Version = "2012-10-17"
  })
}

resource "aws_iam_role_policy" "tenant" {
  for_each = local.tenants
  name     = "key"
  role     = aws_iam_role.tenant[each.key].id
  policy = jsonencode({
    Statement = [
      {
        Action = "kms:DescribeKey"
        Condition = {
          StringEquals = {
            "aws:PrincipalTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/platform"
            "aws:PrincipalTag/kubernetes-namespace"       = each.value.namespace
            "aws:PrincipalTag/kubernetes-service-account" = each.value.service_account
          }
        }
        Effect   = "Allow"
        Resource = aws_kms_key.secrets.arn
        Sid      = "TenantDescribe"
      },
      {
        Action = ["kms:Decrypt", "kms:GenerateDataKey"]
        Condition = {
          "ForAllValues:StringEquals" = {
            "kms:EncryptionContextKeys" = ["ekskms:cluster-arn", "ekskms:tenant"]
          }
          StringEquals = {
            "aws:PrincipalTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/platform"
            "aws:PrincipalTag/kubernetes-namespace"       = each.value.namespace
            "aws:PrincipalTag/kubernetes-service-account" = each.value.service_account
            "kms:EncryptionContext:ekskms:cluster-arn"    = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/platform"
            "kms:EncryptionContext:ekskms:tenant"         = each.key
          }
        }
        Effect   = "Allow"
        Resource = aws_kms_key.secrets.arn
        Sid      = "TenantUse"
      },
    ]
    Version = "2012-10-17"
  })
}

resource "aws_eks_pod_identity_association" "tenant" {
  for_each        = local.tenants
  cluster_name    = aws_eks_cluster.this.name
  namespace       = each.value.namespace
  service_account = each.value.service_account
  role_arn        = aws_iam_role.tenant[each.key].arn
}
