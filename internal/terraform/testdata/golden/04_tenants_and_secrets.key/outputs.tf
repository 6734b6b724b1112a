# With terraform-aws-eks 21, where this folder is ./key:
#
#   module "key" {
#     source = "./key"
#     creator_arns = ["arn:aws:iam::111122223333:role/Deployer"] # the credentials that run terraform apply
#   }
#
#   module "eks" {
#     source  = "terraform-aws-modules/eks/aws"
#     version = "~> 21.0"
#     name    = "platform"
#
#     create_kms_key    = module.key.create_kms_key
#     encryption_config = module.key.encryption_config
#     iam_role_path     = module.key.iam_role_path
#   }
#
# Version 20 calls the second input cluster_encryption_config.

output "key_arn" {
  description = "ARN of the key that encrypts the secrets"
  value       = aws_kms_key.secrets.arn
}

output "create_kms_key" {
  description = "Whether terraform-aws-eks makes a key: it does not"
  value       = false
}

output "encryption_config" {
  description = "encryption_config of terraform-aws-eks"
  value = {
    provider_key_arn = aws_kms_key.secrets.arn
    resources        = ["secrets"]
  }
}

output "iam_role_path" {
  description = "iam_role_path of terraform-aws-eks: the key policy lets the cluster's role in by it"
  value       = "/ekskms/platform/"
}

output "plugin_role_arn" {
  description = "ARN of the KMS plugin's IAM role, for an aws_eks_pod_identity_association"
  value       = aws_iam_role.plugin.arn
}

output "tenant_role_arns" {
  description = "ARNs of the IAM roles of the tenants' KMS plugins, by tenant"
  value       = { for name, role in aws_iam_role.tenant : name => role.arn }
}
