variable "account_id" {
  description = "AWS account of the cluster. Default: that of the credentials."
  type        = string
  default     = null
}
