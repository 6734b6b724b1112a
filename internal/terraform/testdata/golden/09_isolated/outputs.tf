output "cluster_name" {
  description = "Name of the EKS cluster"
  value       = aws_eks_cluster.this.name
}

output "update_kubeconfig" {
  description = "Command that makes kubectl talk to the cluster"
  value       = "aws eks update-kubeconfig --name ${aws_eks_cluster.this.name} --region ${local.region}"
}

output "key_arn" {
  description = "ARN of the key that encrypts the secrets"
  value       = aws_kms_key.secrets.arn
}

output "trail_arn" {
  description = "ARN of the trail that records every use of the key"
  value       = aws_cloudtrail.this.arn
}

output "topic_arn" {
  description = "ARN of the topic that receives the alarms"
  value       = aws_sns_topic.alarms.arn
}

output "test_alarm" {
  description = "Command that changes nothing and raises the alarm AliasChanged, to see one arrive"
  value       = "aws kms update-alias --alias-name alias/eks/isolated --target-key-id ${aws_kms_key.secrets.arn} --region ${local.region}"
}

output "plugin_role_arn" {
  description = "ARN of the KMS plugin's IAM role"
  value       = aws_iam_role.plugin.arn
}

output "kubernetes_manifests" {
  description = "What belongs on the cluster: terraform output -raw kubernetes_manifests | kubectl apply --server-side -f -"
  value       = local.kubernetes_manifests
}
