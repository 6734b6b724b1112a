output "key_arn" {
  description = "ARN of the key that encrypts the secrets"
  value       = aws_kms_key.secrets.arn
}
