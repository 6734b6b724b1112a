# Only EKS Pod Identity, and only for the plugin's pods on this cluster, can assume it.
resource "aws_iam_role" "plugin" {
  name_prefix = "isolated-plugin-"
  description = "Lets the KMS plugin on EKS cluster isolated use the key of its secrets"
  assume_role_policy = jsonencode({
    Statement = [{
      Action = ["sts:AssumeRole", "sts:TagSession"]
      Condition = {
        StringEquals = {
          "aws:RequestTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/isolated"
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
            "aws:PrincipalTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/isolated"
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
            "aws:PrincipalTag/eks-cluster-arn"            = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/isolated"
            "aws:PrincipalTag/kubernetes-namespace"       = "ekskms-system"
            "aws:PrincipalTag/kubernetes-service-account" = "kms-plugin"
            "kms:EncryptionContext:ekskms:cluster-arn"    = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/isolated"
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
