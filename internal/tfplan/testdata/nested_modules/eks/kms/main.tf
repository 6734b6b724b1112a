variable "users" { type = list(string) }

data "aws_iam_policy_document" "this" {
  count = 1
  statement {
    sid       = "Default"
    actions   = ["kms:*"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:aws:iam::111122223333:root"]
    }
  }
  dynamic "statement" {
    for_each = length(var.users) > 0 ? [1] : []
    content {
      sid       = "KeyUsage"
      actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
      resources = ["*"]
      principals {
        type        = "AWS"
        identifiers = var.users
      }
    }
  }
}

resource "aws_kms_key" "this" {
  count               = 1
  enable_key_rotation = true
  policy              = data.aws_iam_policy_document.this[0].json
}

output "key_arn" { value = try(aws_kms_key.this[0].arn, null) }
