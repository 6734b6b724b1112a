# The key of the audit trail and the alarms.
resource "aws_kms_key" "audit" {
  description             = "Encrypts the audit trail and the alarms of EKS cluster ekskms"
  enable_key_rotation     = true
  rotation_period_in_days = 90
  deletion_window_in_days = 30
  multi_region            = false
  policy = jsonencode({
    Statement = [
      {
        Action = [
          "kms:CancelKeyDeletion",
          "kms:CreateAlias",
          "kms:DeleteAlias",
          "kms:DescribeKey",
          "kms:DisableKey",
          "kms:DisableKeyRotation",
          "kms:EnableKey",
          "kms:EnableKeyRotation",
          "kms:GetKeyPolicy",
          "kms:GetKeyRotationStatus",
          "kms:ListGrants",
          "kms:ListKeyPolicies",
          "kms:ListKeyRotations",
          "kms:ListResourceTags",
          "kms:PutKeyPolicy",
          "kms:RevokeGrant",
          "kms:RotateKeyOnDemand",
          "kms:ScheduleKeyDeletion",
          "kms:TagResource",
          "kms:UntagResource",
          "kms:UpdateAlias",
          "kms:UpdateKeyDescription",
        ]
        Effect = "Allow"
        Principal = {
          AWS = "arn:${local.partition}:iam::${local.account_id}:root"
        }
        Resource = "*"
        Sid      = "AccountAdministration"
      },
      {
        Action = "kms:DescribeKey"
        Condition = {
          StringEquals = {
            "aws:SourceArn" = "arn:${local.partition}:cloudtrail:${local.region}:${local.account_id}:trail/ekskms-ekskms-${local.region}"
          }
        }
        Effect = "Allow"
        Principal = {
          Service = "cloudtrail.amazonaws.com"
        }
        Resource = "*"
        Sid      = "TrailDescribe"
      },
      {
        Action = "kms:GenerateDataKey*"
        Condition = {
          StringEquals = {
            "aws:SourceArn"                            = "arn:${local.partition}:cloudtrail:${local.region}:${local.account_id}:trail/ekskms-ekskms-${local.region}"
            "kms:EncryptionContext:aws:cloudtrail:arn" = "arn:${local.partition}:cloudtrail:${local.region}:${local.account_id}:trail/ekskms-ekskms-${local.region}"
          }
        }
        Effect = "Allow"
        Principal = {
          Service = "cloudtrail.amazonaws.com"
        }
        Resource = "*"
        Sid      = "TrailEncryptsLogs"
      },
      {
        Action = ["kms:Decrypt", "kms:GenerateDataKey*"]
        Condition = {
          StringEquals = {
            "kms:EncryptionContext:aws:sns:topicArn" = "arn:${local.partition}:sns:${local.region}:${local.account_id}:ekskms-ekskms-alarms"
          }
        }
        Effect = "Allow"
        Principal = {
          Service = "events.amazonaws.com"
        }
        Resource = "*"
        Sid      = "AlarmsThroughTopic"
      },
    ]
    Version = "2012-10-17"
  })

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "audit" {
  name          = "alias/eks/ekskms/audit"
  target_key_id = aws_kms_key.audit.key_id
}

resource "aws_s3_bucket" "trail" {
  bucket_prefix = "ekskms-ekskms-trail-"

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_public_access_block" "trail" {
  bucket                  = aws_s3_bucket.trail.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "trail" {
  bucket = aws_s3_bucket.trail.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "trail" {
  bucket = aws_s3_bucket.trail.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "trail" {
  bucket = aws_s3_bucket.trail.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "trail" {
  bucket = aws_s3_bucket.trail.id

  rule {
    id     = "Retention"
    status = "Enabled"

    filter {
    }

    expiration {
      days = 365
    }

    noncurrent_version_expiration {
      noncurrent_days = 365
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
  depends_on = [aws_s3_bucket_versioning.trail]
}

resource "aws_s3_bucket_policy" "trail" {
  bucket = aws_s3_bucket.trail.id
  policy = jsonencode({
    Statement = [
      {
        Action = "s3:*"
        Condition = {
          Bool = {
            "aws:SecureTransport" = "false"
          }
        }
        Effect = "Deny"
        Principal = {
          AWS = "*"
        }
        Resource = [aws_s3_bucket.trail.arn, "${aws_s3_bucket.trail.arn}/*"]
      },
      {
        Action = "s3:*"
        Condition = {
          NumericLessThan = {
            "s3:TlsVersion" = "1.2"
          }
        }
        Effect = "Deny"
        Principal = {
          AWS = "*"
        }
        Resource = [aws_s3_bucket.trail.arn, "${aws_s3_bucket.trail.arn}/*"]
      },
      {
        Action = "s3:GetBucketAcl"
        Condition = {
          StringEquals = {
            "aws:SourceArn" = "arn:${local.partition}:cloudtrail:${local.region}:${local.account_id}:trail/ekskms-ekskms-${local.region}"
          }
        }
        Effect = "Allow"
        Principal = {
          Service = "cloudtrail.amazonaws.com"
        }
        Resource = aws_s3_bucket.trail.arn
        Sid      = "TrailReadsBucketACL"
      },
      {
        Action = "s3:PutObject"
        Condition = {
          StringEquals = {
            "aws:SourceArn" = "arn:${local.partition}:cloudtrail:${local.region}:${local.account_id}:trail/ekskms-ekskms-${local.region}"
            "s3:x-amz-acl"  = "bucket-owner-full-control"
          }
        }
        Effect = "Allow"
        Principal = {
          Service = "cloudtrail.amazonaws.com"
        }
        Resource = "${aws_s3_bucket.trail.arn}/AWSLogs/${local.account_id}/*"
        Sid      = "TrailWritesLogs"
      },
    ]
    Version = "2012-10-17"
  })

  lifecycle {
    prevent_destroy = true
  }
  depends_on = [aws_s3_bucket_public_access_block.trail, aws_s3_bucket_ownership_controls.trail]
}

# Every use of the key is a management event: all of them, of all Regions, are recorded.
resource "aws_cloudtrail" "this" {
  name                          = "ekskms-ekskms-${local.region}"
  s3_bucket_name                = aws_s3_bucket.trail.id
  kms_key_id                    = aws_kms_key.audit.arn
  enable_logging                = true
  enable_log_file_validation    = true
  is_multi_region_trail         = true
  include_global_service_events = true

  event_selector {
    include_management_events = true
    read_write_type           = "All"
  }
  depends_on = [aws_s3_bucket_policy.trail]
}

resource "aws_sns_topic" "alarms" {
  name              = "ekskms-ekskms-alarms"
  display_name      = "EKS key alarms ekskms"
  kms_master_key_id = aws_kms_key.audit.arn
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn
  policy = jsonencode({
    Statement = [
      {
        Action = "sns:Publish"
        Effect = "Allow"
        Principal = {
          Service = "events.amazonaws.com"
        }
        Resource = aws_sns_topic.alarms.arn
        Sid      = "AlarmRules"
      },
      {
        Action = "sns:Publish"
        Condition = {
          Bool = {
            "aws:SecureTransport" = "false"
          }
        }
        Effect = "Deny"
        Principal = {
          AWS = "*"
        }
        Resource = aws_sns_topic.alarms.arn
        Sid      = "TLSOnly"
      },
    ]
    Version = "2012-10-17"
  })
}

# The API calls that raise an alarm, and what the alarm says.
locals {
  alarms = {
    AliasChanged = {
      description = "EKS cluster ekskms: An alias of the key that encrypts the secrets was created, moved or deleted."
      pattern = {
        detail = {
          eventName   = ["CreateAlias", "UpdateAlias", "DeleteAlias"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = [
              aws_kms_key.secrets.arn,
              "arn:${local.partition}:kms:${local.region}:${local.account_id}:alias/eks/ekskms",
            ]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"An alias of the key that encrypts the secrets was created, moved or deleted.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: EKS does not use the alias, but people and tools that do may now act on another key.\"",
        "\"What to do: Check with 'aws kms list-aliases' that the alias of the template points to the key of the template.\"",
      ])
    }
    AuditKeyTampered = {
      description = "EKS cluster ekskms: The key that encrypts the audit trail was disabled, scheduled for deletion, or given another policy."
      pattern = {
        detail = {
          eventName   = ["DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = [aws_kms_key.audit.arn]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"The key that encrypts the audit trail was disabled, scheduled for deletion, or given another policy.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: CloudTrail may no longer be able to deliver logs, and this topic may no longer be able to deliver alarms.\"",
        "\"What to do: Enable the key, cancel its deletion, or deploy the template again.\"",
      ])
    }
    GrantRemoved = {
      description = "EKS cluster ekskms: A grant on the key that encrypts the secrets was taken away."
      pattern = {
        detail = {
          eventName   = ["RevokeGrant", "RetireGrant"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = [aws_kms_key.secrets.arn]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"A grant on the key that encrypts the secrets was taken away.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: If it was the grant eks-grant-ekskms of EKS, the cluster loses access to its secrets.\"",
        "\"What to do: Look for the grant with 'aws kms list-grants'. If EKS has none left, open a case with AWS Support at once.\"",
      ])
    }
    KeyDeletionScheduled = {
      description = "EKS cluster ekskms: The key that encrypts the secrets was scheduled for deletion."
      pattern = {
        detail = {
          eventName   = ["ScheduleKeyDeletion"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = [aws_kms_key.secrets.arn]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"The key that encrypts the secrets was scheduled for deletion.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: When the key is deleted, the cluster and every backup of it are lost. Nobody can undo that, AWS included.\"",
        "\"What to do: Run 'aws kms cancel-key-deletion' and then 'aws kms enable-key' before the waiting period ends.\"",
      ])
    }
    KeyDisabled = {
      description = "EKS cluster ekskms: The key that encrypts the secrets was disabled."
      pattern = {
        detail = {
          eventName   = ["DisableKey"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = [aws_kms_key.secrets.arn]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"The key that encrypts the secrets was disabled.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: The cluster stops working hours later, or when an API server restarts. After 30 days it may be beyond recovery.\"",
        "\"What to do: Enable the key again with 'aws kms enable-key', then find out who did this and why.\"",
      ])
    }
    KeyPolicyChanged = {
      description = "EKS cluster ekskms: The policy of the key that encrypts the secrets was changed."
      pattern = {
        detail = {
          eventName   = ["PutKeyPolicy"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = [aws_kms_key.secrets.arn]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"The policy of the key that encrypts the secrets was changed.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: Somebody may now be able to decrypt the secrets, or the cluster may have lost its key.\"",
        "\"What to do: If this was not a deployment of yours, compare the policy with the template and deploy the template again.\"",
      ])
    }
    KeyReplicated = {
      description = "EKS cluster ekskms: The key that encrypts the secrets was copied to another Region, or its primary Region was changed."
      pattern = {
        detail = {
          eventName   = ["ReplicateKey", "UpdatePrimaryRegion"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = [aws_kms_key.secrets.arn]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"The key that encrypts the secrets was copied to another Region, or its primary Region was changed.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: A replica has the same key material under a policy of its own: whoever may use it can decrypt the secrets.\"",
        "\"What to do: Read the policy of the replica with 'aws kms get-key-policy' in its Region. Schedule a replica that you do not know for deletion.\"",
      ])
    }
    RotationChanged = {
      description = "EKS cluster ekskms: Rotation of the key that encrypts the secrets was switched off, or on with another period."
      pattern = {
        detail = {
          eventName   = ["DisableKeyRotation", "EnableKeyRotation"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = [aws_kms_key.secrets.arn]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"Rotation of the key that encrypts the secrets was switched off, or on with another period.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: The cluster keeps working, but the key material may be renewed late or never.\"",
        "\"What to do: If this was not a deployment of yours, run 'aws kms enable-key-rotation' with the period of the template.\"",
      ])
    }
    TrailBlinded = {
      description = "EKS cluster ekskms: The choice of events of the trail that records every use of the key was changed."
      pattern = {
        detail = {
          eventName   = ["PutEventSelectors"]
          eventSource = ["cloudtrail.amazonaws.com"]
          requestParameters = {
            trailName = [
              "ekskms-ekskms-${local.region}",
              "arn:${local.partition}:cloudtrail:${local.region}:${local.account_id}:trail/ekskms-ekskms-${local.region}",
            ]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.cloudtrail"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"The choice of events of the trail that records every use of the key was changed.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: Calls to KMS may now be left out of the trail, and the other alarms may stay silent.\"",
        "\"What to do: Compare 'aws cloudtrail get-event-selectors' with the template and deploy the template again.\"",
      ])
    }
    TrailTampered = {
      description = "EKS cluster ekskms: The trail that records every use of the key was stopped, deleted or changed."
      pattern = {
        detail = {
          eventName   = ["StopLogging", "DeleteTrail", "UpdateTrail"]
          eventSource = ["cloudtrail.amazonaws.com"]
          requestParameters = {
            name = [
              "ekskms-ekskms-${local.region}",
              "arn:${local.partition}:cloudtrail:${local.region}:${local.account_id}:trail/ekskms-ekskms-${local.region}",
            ]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.cloudtrail"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"The trail that records every use of the key was stopped, deleted or changed.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: From now on uses of the key may go unrecorded, and the other alarms may stay silent.\"",
        "\"What to do: Deploy the template again and run 'aws cloudtrail start-logging'. Note the gap for the audit.\"",
      ])
    }
    UnexpectedGrant = {
      description = "EKS cluster ekskms: Somebody other than a cluster creator or EKS made a grant on the key that encrypts the secrets."
      pattern = {
        detail = {
          eventName   = ["CreateGrant"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = [aws_kms_key.secrets.arn]
          }
          userIdentity = {
            invokedBy = [
              {
                anything-but = ["eks.amazonaws.com"]
              },
              {
                exists = false
              },
            ]
            sessionContext = {
              sessionIssuer = {
                arn = [
                  {
                    anything-but = var.creator_arns
                  },
                  {
                    exists = false
                  },
                ]
              }
            }
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"Somebody other than a cluster creator or EKS made a grant on the key that encrypts the secrets.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: Whoever holds the grant may be able to decrypt the secrets.\"",
        "\"What to do: List the grants with 'aws kms list-grants'; revoke the one you do not know with 'aws kms revoke-grant'.\"",
      ])
    }
  }
}

resource "aws_cloudwatch_event_rule" "alarm" {
  for_each      = local.alarms
  name_prefix   = "ekskms-${each.key}-"
  description   = each.value.description
  event_pattern = jsonencode(each.value.pattern)
  state         = "ENABLED"
}

resource "aws_cloudwatch_event_target" "alarm" {
  for_each  = local.alarms
  rule      = aws_cloudwatch_event_rule.alarm[each.key].name
  target_id = "Topic"
  arn       = aws_sns_topic.alarms.arn

  input_transformer {
    input_paths = {
      account   = "$.account"
      action    = "$.detail.eventName"
      caller    = "$.detail.userIdentity.accountId"
      error     = "$.detail.errorCode"
      event     = "$.detail.eventID"
      from      = "$.detail.sourceIPAddress"
      principal = "$.detail.userIdentity.principalId"
      region    = "$.region"
      service   = "$.detail.userIdentity.invokedBy"
      when      = "$.detail.eventTime"
      who       = "$.detail.userIdentity.arn"
    }
    input_template = each.value.template
  }
  depends_on = [aws_sns_topic_policy.alarms]
}
