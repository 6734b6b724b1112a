variable "plugin_image" {
  description = "Container image of the KMS plugin, with a tag or a digest: build it from the Dockerfile of ekskms, or set plugin.image in ekskms.yaml."
  type        = string

  validation {
    condition     = can(regex("^[^[:space:]]+[:@][^[:space:]/]+$", var.plugin_image))
    error_message = "Name an image with a tag or a digest, such as registry.example.com/kms-plugin:v1."
  }
}

variable "apply_manifests" {
  description = "Whether to apply the Kubernetes objects with the commands aws and kubectl of the machine that runs Terraform. It must reach the Kubernetes API, and its credentials need an access entry that lets them make the objects. Default: the output kubernetes_manifests is for you to apply."
  type        = bool
  default     = false
}

variable "availability_zones" {
  description = "The two Availability Zones of the VPC. Default: the first two of the Region."
  type        = list(string)
  default     = null

  validation {
    condition     = var.availability_zones == null ? true : length(distinct(var.availability_zones)) == 2
    error_message = "Name two different Availability Zones."
  }
}
