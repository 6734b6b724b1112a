variable "name" { type = string }
variable "create_kms_key" { default = true }
variable "key_arn" { default = null }


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

module "kms" {
  source = "./kms"
  count  = var.create_kms_key ? 1 : 0
  users  = [aws_iam_role.cluster.arn]
}

resource "aws_eks_cluster" "this" {
  count                     = 1
  name                      = var.name
  role_arn                  = aws_iam_role.cluster.arn
  version                   = "1.35"
  enabled_cluster_log_types = ["audit"]
  vpc_config {
    subnet_ids             = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
    endpoint_public_access = true
  }
  dynamic "encryption_config" {
    for_each = var.create_kms_key ? [1] : []
    content {
      resources = ["secrets"]
      provider {
        key_arn = var.create_kms_key ? module.kms[0].key_arn : var.key_arn
      }
    }
  }
}
