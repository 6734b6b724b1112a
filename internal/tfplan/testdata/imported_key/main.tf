provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "a"
  secret_key                  = "b"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}

resource "aws_iam_role" "cluster" {
  name_prefix = "eks-"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = ["sts:AssumeRole", "sts:TagSession"], Principal = { Service = "eks.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"
}

# Its material was made elsewhere, and does not rotate.
resource "aws_kms_external_key" "secrets" {
  description = "imported"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Admin", Effect = "Allow", Principal = { AWS = "arn:aws:iam::111122223333:root" }, Resource = "*",
      Action = ["kms:Describe*", "kms:Get*", "kms:List*", "kms:Put*", "kms:Update*", "kms:Enable*", "kms:Disable*", "kms:Revoke*", "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:Create*"] },
      { Sid = "Cluster", Effect = "Allow", Principal = { AWS = aws_iam_role.cluster.arn }, Resource = "*", Action = ["kms:DescribeKey", "kms:CreateGrant", "kms:ListGrants"] },
    ]
  })
}

resource "aws_eks_cluster" "this" {
  name                      = "prod"
  role_arn                  = aws_iam_role.cluster.arn
  version                   = "1.35"
  enabled_cluster_log_types = ["api", "audit", "authenticator", "controllerManager", "scheduler"]
  vpc_config {
    subnet_ids              = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
    endpoint_private_access = true
    endpoint_public_access  = false
  }
  encryption_config {
    resources = ["secrets"]
    provider {
      key_arn = aws_kms_external_key.secrets.arn
    }
  }
}

# What modules for service accounts make of the cluster: its blocks are asked for by index.
resource "aws_iam_openid_connect_provider" "this" {
  url             = aws_eks_cluster.this.identity[0].oidc[0].issuer
  client_id_list  = ["sts.amazonaws.com"]
  thumbprint_list = ["9e99a48a9960b14926bb7f3b02e22da2b0ab7280"]
}

output "ca" {
  value = base64decode(aws_eks_cluster.this.certificate_authority[0].data)
}
