# The key of the audit trail.
resource "aws_kms_key" "audit" {
  description             = "Encrypts the audit trail of EKS cluster ekskms"
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

# The key of the alarms. An alarm on the key of the trail arrives while that can't be used.
resource "aws_kms_key" "alarms" {
  description             = "Encrypts the alarms of EKS cluster ekskms"
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

resource "aws_kms_alias" "alarms" {
  name          = "alias/eks/ekskms/alarms"
  target_key_id = aws_kms_key.alarms.key_id
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
  kms_master_key_id = aws_kms_key.alarms.arn
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

# It tells of alarms that did not arrive, and has no customer key.
resource "aws_sns_topic" "undelivered" {
  name         = "ekskms-ekskms-undelivered"
  display_name = "EKS lost alarms ekskms"
}

resource "aws_sns_topic_policy" "undelivered" {
  arn = aws_sns_topic.undelivered.arn
  policy = jsonencode({
    Statement = [
      {
        Action = "sns:Publish"
        Condition = {
          ArnEquals = {
            "aws:SourceArn" = "arn:${local.partition}:cloudwatch:${local.region}:${local.account_id}:alarm:ekskms-ekskms-undelivered"
          }
          StringEquals = {
            "aws:SourceAccount" = local.account_id
          }
        }
        Effect = "Allow"
        Principal = {
          Service = "cloudwatch.amazonaws.com"
        }
        Resource = aws_sns_topic.undelivered.arn
        Sid      = "UndeliveredAlarm"
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
        Resource = aws_sns_topic.undelivered.arn
        Sid      = "TLSOnly"
      },
    ]
    Version = "2012-10-17"
  })
}

# Alarms that could not be delivered, and the CloudWatch alarm on them.
resource "aws_sqs_queue" "undelivered" {
  name                      = "ekskms-ekskms-undelivered"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue_policy" "undelivered" {
  queue_url = aws_sqs_queue.undelivered.id
  policy = jsonencode({
    Statement = [
      {
        Action = "sqs:SendMessage"
        Condition = {
          ArnLike = {
            "aws:SourceArn" = "arn:${local.partition}:events:${local.region}:${local.account_id}:rule/ekskms-ekskms-*"
          }
        }
        Effect = "Allow"
        Principal = {
          Service = "events.amazonaws.com"
        }
        Resource = aws_sqs_queue.undelivered.arn
        Sid      = "AlarmRules"
      },
      {
        Action = "sqs:*"
        Condition = {
          Bool = {
            "aws:SecureTransport" = "false"
          }
        }
        Effect = "Deny"
        Principal = {
          AWS = "*"
        }
        Resource = aws_sqs_queue.undelivered.arn
        Sid      = "TLSOnly"
      },
    ]
    Version = "2012-10-17"
  })
}

resource "aws_cloudwatch_metric_alarm" "undelivered" {
  alarm_name          = "ekskms-ekskms-undelivered"
  alarm_description   = "EKS cluster ekskms: an alarm did not arrive. Read it with 'aws sqs receive-message', or in the log group /aws/events/ekskms/ekskms/alarms, and find out why."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  period              = 60
  dimensions          = { QueueName = aws_sqs_queue.undelivered.name }
  statistic           = "Maximum"
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  actions_enabled     = true
  alarm_actions       = [aws_sns_topic.undelivered.arn]
}

# A copy of each alarm.
resource "aws_cloudwatch_log_group" "alarms" {
  name              = "/aws/events/ekskms/ekskms/alarms"
  retention_in_days = 365

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_cloudwatch_log_resource_policy" "alarms" {
  policy_name = "ekskms-ekskms-alarms"
  policy_document = jsonencode({
    Statement = [
      {
        Action = "logs:CreateLogStream"
        Effect = "Allow"
        Principal = {
          Service = ["events.amazonaws.com", "delivery.logs.amazonaws.com"]
        }
        Resource = "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:/aws/events/ekskms/ekskms/alarms:*"
        Sid      = "AlarmStreams"
      },
      {
        Action = "logs:PutLogEvents"
        Condition = {
          ArnLike = {
            "aws:SourceArn" = "arn:${local.partition}:events:${local.region}:${local.account_id}:rule/ekskms-ekskms-*"
          }
        }
        Effect = "Allow"
        Principal = {
          Service = ["events.amazonaws.com", "delivery.logs.amazonaws.com"]
        }
        Resource = "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:/aws/events/ekskms/ekskms/alarms:*:*"
        Sid      = "AlarmRules"
      },
    ]
    Version = "2012-10-17"
  })
}

# The API calls that raise an alarm, and what the alarm says.
locals {
  alarms = {
    AlarmsTampered = {
      description = "EKS cluster ekskms: A rule, a target, a topic or a subscription of the alarms was changed or removed."
      name        = "ekskms-ekskms-AlarmsTampered"
      pattern = {
        detail = {
          eventName = [
            "DeleteRule",
            "DisableRule",
            "PutRule",
            "PutTargets",
            "RemoveTargets",
            "SetTopicAttributes",
            "DeleteTopic",
            "AddPermission",
            "RemovePermission",
            "Subscribe",
            "Unsubscribe",
            "SetSubscriptionAttributes",
            "DeleteAlarms",
            "DisableAlarmActions",
            "PutMetricAlarm",
          ]
          eventSource = ["events.amazonaws.com", "sns.amazonaws.com", "monitoring.amazonaws.com"]
          requestParameters = {
            "$or" = [
              {
                name = [{
                  prefix = "ekskms-ekskms-"
                }]
              },
              {
                rule = [{
                  prefix = "ekskms-ekskms-"
                }]
              },
              {
                topicArn = ["arn:${local.partition}:sns:${local.region}:${local.account_id}:ekskms-ekskms-alarms"]
              },
              {
                subscriptionArn = [{
                  prefix = "arn:${local.partition}:sns:${local.region}:${local.account_id}:ekskms-ekskms-alarms:"
                }]
              },
              {
                topicArn = ["arn:${local.partition}:sns:${local.region}:${local.account_id}:ekskms-ekskms-undelivered"]
              },
              {
                subscriptionArn = [{
                  prefix = "arn:${local.partition}:sns:${local.region}:${local.account_id}:ekskms-ekskms-undelivered:"
                }]
              },
              {
                alarmName = ["ekskms-ekskms-undelivered"]
              },
              {
                alarmNames = ["ekskms-ekskms-undelivered"]
              },
            ]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.events", "aws.sns", "aws.monitoring"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"A rule, a target, a topic or a subscription of the alarms was changed or removed.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: Alarms may no longer be raised, or no longer reach you.\"",
        "\"What to do: If this was not a deployment of yours, deploy the template again, and look in CloudTrail for what happened since.\"",
      ])
    }
    AliasChanged = {
      description = "EKS cluster ekskms: An alias of the key that encrypts the secrets was created, moved or deleted."
      name        = "ekskms-ekskms-AliasChanged"
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
      description = "EKS cluster ekskms: A key that encrypts the audit trail or the alarms was disabled, scheduled for deletion, given another policy or a grant."
      name        = "ekskms-ekskms-AuditKeyTampered"
      pattern = {
        detail = {
          eventName   = ["DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy", "CreateGrant"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = [aws_kms_key.audit.arn, aws_kms_key.alarms.arn]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"A key that encrypts the audit trail or the alarms was disabled, scheduled for deletion, given another policy or a grant.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: CloudTrail may no longer be able to deliver logs, the topic may no longer be able to deliver alarms, or somebody more can read them.\"",
        "\"What to do: Enable the key, cancel its deletion, revoke the grant, or deploy the template again.\"",
      ])
    }
    ClusterOpened = {
      description = "EKS cluster ekskms: Who or what may use the Kubernetes API of the cluster, or a role of its pods, was changed."
      name        = "ekskms-ekskms-ClusterOpened"
      pattern = {
        detail = {
          eventName = [
            "CreateAccessEntry",
            "UpdateAccessEntry",
            "DeleteAccessEntry",
            "AssociateAccessPolicy",
            "DisassociateAccessPolicy",
            "AssociateIdentityProviderConfig",
            "DisassociateIdentityProviderConfig",
            "CreatePodIdentityAssociation",
            "UpdatePodIdentityAssociation",
            "DeletePodIdentityAssociation",
            "CreateCapability",
            "UpdateCapability",
            "DeleteCapability",
            "UpdateClusterConfig",
            "CreateAddon",
            "UpdateAddon",
            "DeleteAddon",
            "DeleteCluster",
          ]
          eventSource = ["eks.amazonaws.com"]
          requestParameters = {
            "$or" = [
              {
                name = ["ekskms"]
              },
              {
                clusterName = ["ekskms"]
              },
            ]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.eks"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"Who or what may use the Kubernetes API of the cluster, or a role of its pods, was changed.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: A principal that may use the API reads the secrets decrypted, and the key has no part in it.\"",
        "\"What to do: If this was not a deployment of yours, compare 'aws eks list-access-entries', 'aws eks list-pod-identity-associations' and 'aws eks describe-cluster' with the template, and remove what you do not know.\"",
      ])
    }
    GrantRemoved = {
      description = "EKS cluster ekskms: A grant on the key that encrypts the secrets was taken away."
      name        = "ekskms-ekskms-GrantRemoved"
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
      name        = "ekskms-ekskms-KeyDeletionScheduled"
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
      name        = "ekskms-ekskms-KeyDisabled"
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
      name        = "ekskms-ekskms-KeyPolicyChanged"
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
      name        = "ekskms-ekskms-KeyReplicated"
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
        "\"What it means: A replica has the same key material under a policy of its own: any principal that may use it can decrypt the secrets.\"",
        "\"What to do: Read the policy of the replica with 'aws kms get-key-policy' in its Region. Schedule a replica that you do not know for deletion.\"",
      ])
    }
    RecordWeakened = {
      description = "EKS cluster ekskms: The bucket of the audit trail, or a log group of the cluster, was changed or deleted."
      name        = "ekskms-ekskms-RecordWeakened"
      pattern = {
        detail = {
          eventName = [
            "PutBucketPolicy",
            "DeleteBucketPolicy",
            "PutBucketLifecycle",
            "DeleteBucketLifecycle",
            "PutBucketVersioning",
            "PutBucketEncryption",
            "DeleteBucketEncryption",
            "PutBucketPublicAccessBlock",
            "DeleteBucketPublicAccessBlock",
            "PutBucketAcl",
            "PutBucketOwnershipControls",
            "DeleteBucketOwnershipControls",
            "PutBucketReplication",
            "DeleteBucket",
            "DeleteLogGroup",
            "DeleteLogStream",
            "PutRetentionPolicy",
            "DeleteRetentionPolicy",
            "AssociateKmsKey",
            "DisassociateKmsKey",
            "PutSubscriptionFilter",
          ]
          eventSource = ["s3.amazonaws.com", "logs.amazonaws.com"]
          requestParameters = {
            "$or" = [
              {
                bucketName = [aws_s3_bucket.trail.id]
              },
              {
                logGroupName = ["/aws/eks/ekskms/cluster", "/aws/events/ekskms/ekskms/alarms"]
              },
              {
                resourceIdentifier = [
                  {
                    suffix = ":log-group:/aws/eks/ekskms/cluster"
                  },
                  {
                    suffix = ":log-group:/aws/events/ekskms/ekskms/alarms"
                  },
                ]
              },
            ]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.s3", "aws.logs"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"The bucket of the audit trail, or a log group of the cluster, was changed or deleted.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: The record may be deleted sooner, be open to others, or be lost already.\"",
        "\"What to do: If this was not a deployment of yours, compare the bucket and the log group with the template and deploy it again. Note the gap for the audit.\"",
      ])
    }
    RotationChanged = {
      description = "EKS cluster ekskms: Rotation of the key that encrypts the secrets was switched off, or on with another period."
      name        = "ekskms-ekskms-RotationChanged"
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
      name        = "ekskms-ekskms-TrailBlinded"
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
      name        = "ekskms-ekskms-TrailTampered"
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
      description = "EKS cluster ekskms: A grant on the key that encrypts the secrets was made, and not through EKS."
      name        = "ekskms-ekskms-UnexpectedGrant"
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
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"A grant on the key that encrypts the secrets was made, and not through EKS.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: Any principal that holds the grant may be able to decrypt the secrets.\"",
        "\"What to do: List the grants with 'aws kms list-grants'; revoke the one you do not know with 'aws kms revoke-grant'.\"",
      ])
    }
    WatcherTampered = {
      description = "EKS cluster ekskms: The rule that watches over the alarms was changed or removed."
      name        = "ekskms-ekskms-WatcherTampered"
      pattern = {
        detail = {
          eventName   = ["DeleteRule", "DisableRule", "PutRule", "PutTargets", "RemoveTargets"]
          eventSource = ["events.amazonaws.com"]
          requestParameters = {
            "$or" = [
              {
                name = ["ekskms-ekskms-AlarmsTampered"]
              },
              {
                rule = ["ekskms-ekskms-AlarmsTampered"]
              },
            ]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.events"]
      }
      template = join("\n", [
        "\"EKS cluster ekskms is in danger: <action>\"",
        "\"The rule that watches over the alarms was changed or removed.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: Alarms may be removed one after the other without a word.\"",
        "\"What to do: If this was not a deployment of yours, deploy the template again, and look in CloudTrail for what happened since.\"",
      ])
    }
  }
}

resource "aws_cloudwatch_event_rule" "alarm" {
  for_each      = local.alarms
  name          = each.value.name
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

  dead_letter_config {
    arn = aws_sqs_queue.undelivered.arn
  }

  retry_policy {
    maximum_event_age_in_seconds = 3600
    maximum_retry_attempts       = 185
  }
  depends_on = [aws_sns_topic_policy.alarms, aws_sqs_queue_policy.undelivered]
}

resource "aws_cloudwatch_event_target" "log" {
  for_each  = local.alarms
  rule      = aws_cloudwatch_event_rule.alarm[each.key].name
  target_id = "Log"
  arn       = aws_cloudwatch_log_group.alarms.arn

  dead_letter_config {
    arn = aws_sqs_queue.undelivered.arn
  }

  retry_policy {
    maximum_event_age_in_seconds = 3600
    maximum_retry_attempts       = 185
  }
  depends_on = [aws_cloudwatch_log_resource_policy.alarms, aws_sqs_queue_policy.undelivered]
}
