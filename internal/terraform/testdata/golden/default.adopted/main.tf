data "aws_partition" "current" {
}

data "aws_caller_identity" "current" {
  count = var.account_id == null ? 1 : 0
}

data "aws_region" "current" {
}

locals {
  partition  = data.aws_partition.current.partition
  account_id = var.account_id != null ? var.account_id : data.aws_caller_identity.current[0].account_id
  region     = data.aws_region.current.id
}

# In another Region, or account, nothing of this is found: a refresh would take all of it
# out of the state.
resource "terraform_data" "place" {
  input = "${local.account_id} ${local.region}"

  lifecycle {
    ignore_changes = [input]

    postcondition {
      condition     = self.output == "${local.account_id} ${local.region}"
      error_message = "This state is of account and Region ${self.output}, and the provider is for ${local.account_id} ${local.region}. Set the provider's region, or use another state for another cluster."
    }
  }
}
