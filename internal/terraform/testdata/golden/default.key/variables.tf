variable "creator_arns" {
  description = "ARNs of the IAM roles that may create the cluster under the key: those whose credentials run terraform apply. At most 10."
  type        = list(string)

  validation {
    condition     = length(var.creator_arns) >= 1 && length(var.creator_arns) <= 10
    error_message = "Name 1 to 10 roles."
  }

  validation {
    condition     = alltrue([for arn in var.creator_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[0-9A-Za-z_+=,.@/-]+$", arn))])
    error_message = "Each must be the ARN of an IAM role. A session, such as arn:aws:sts::111122223333:assumed-role/Deployer/me, belongs to arn:aws:iam::111122223333:role/Deployer."
  }
}

variable "account_id" {
  description = "AWS account of the cluster. Default: that of the credentials."
  type        = string
  default     = null
}
