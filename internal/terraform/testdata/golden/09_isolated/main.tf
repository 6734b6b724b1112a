data "aws_partition" "current" {
}

locals {
  partition  = data.aws_partition.current.partition
  account_id = "111122223333"
  region     = "eu-central-1"
}
