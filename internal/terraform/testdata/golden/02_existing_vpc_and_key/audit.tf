# Alarms that could not be delivered, and the CloudWatch alarm on them.
resource "aws_sqs_queue" "undelivered" {
  name                      = "ekskms-payments-undelivered"
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
            "aws:SourceArn" = "arn:${local.partition}:events:${local.region}:${local.account_id}:rule/ekskms-payments-*"
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
  alarm_name          = "ekskms-payments-undelivered"
  alarm_description   = "EKS cluster payments: an alarm did not arrive. Read it with 'aws sqs receive-message', or in the log group /aws/events/ekskms/payments/alarms, and find out why."
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
  alarm_actions       = ["arn:aws:sns:eu-central-1:111122223333:security-alarms"]
}

# A copy of each alarm.
resource "aws_cloudwatch_log_group" "alarms" {
  name              = "/aws/events/ekskms/payments/alarms"
  retention_in_days = 365

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_cloudwatch_log_resource_policy" "alarms" {
  policy_name = "ekskms-payments-alarms"
  policy_document = jsonencode({
    Statement = [
      {
        Action = "logs:CreateLogStream"
        Effect = "Allow"
        Principal = {
          Service = ["events.amazonaws.com", "delivery.logs.amazonaws.com"]
        }
        Resource = "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:/aws/events/ekskms/payments/alarms:*"
        Sid      = "AlarmStreams"
      },
      {
        Action = "logs:PutLogEvents"
        Condition = {
          ArnLike = {
            "aws:SourceArn" = "arn:${local.partition}:events:${local.region}:${local.account_id}:rule/ekskms-payments-*"
          }
        }
        Effect = "Allow"
        Principal = {
          Service = ["events.amazonaws.com", "delivery.logs.amazonaws.com"]
        }
        Resource = "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:/aws/events/ekskms/payments/alarms:*:*"
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
      description = "EKS cluster payments: A rule, a target, a topic or a subscription of the alarms was changed or removed."
      name        = "ekskms-payments-AlarmsTampered"
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
                  prefix = "ekskms-payments-"
                }]
              },
              {
                rule = [{
                  prefix = "ekskms-payments-"
                }]
              },
              {
                topicArn = ["arn:aws:sns:eu-central-1:111122223333:security-alarms"]
              },
              {
                subscriptionArn = [{
                  prefix = "arn:aws:sns:eu-central-1:111122223333:security-alarms:"
                }]
              },
              {
                alarmName = ["ekskms-payments-undelivered"]
              },
              {
                alarmNames = ["ekskms-payments-undelivered"]
              },
            ]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.events", "aws.sns", "aws.monitoring"]
      }
      template = join("\n", [
        "\"EKS cluster payments is in danger: <action>\"",
        "\"A rule, a target, a topic or a subscription of the alarms was changed or removed.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: Alarms may no longer be raised, or no longer reach you.\"",
        "\"What to do: If this was not a deployment of yours, deploy the template again, and look in CloudTrail for what happened since.\"",
      ])
    }
    AliasChanged = {
      description = "EKS cluster payments: An alias of the key that encrypts the secrets was created, moved or deleted."
      name        = "ekskms-payments-AliasChanged"
      pattern = {
        detail = {
          eventName   = ["CreateAlias", "UpdateAlias", "DeleteAlias"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = ["arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster payments is in danger: <action>\"",
        "\"An alias of the key that encrypts the secrets was created, moved or deleted.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: EKS does not use the alias, but people and tools that do may now act on another key.\"",
        "\"What to do: Check with 'aws kms list-aliases' that the alias of the template points to the key of the template.\"",
      ])
    }
    ClusterOpened = {
      description = "EKS cluster payments: Who or what may use the Kubernetes API of the cluster, or a role of its pods, was changed."
      name        = "ekskms-payments-ClusterOpened"
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
                name = ["payments"]
              },
              {
                clusterName = ["payments"]
              },
            ]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.eks"]
      }
      template = join("\n", [
        "\"EKS cluster payments is in danger: <action>\"",
        "\"Who or what may use the Kubernetes API of the cluster, or a role of its pods, was changed.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: A principal that may use the API reads the secrets decrypted, and the key has no part in it.\"",
        "\"What to do: If this was not a deployment of yours, compare 'aws eks list-access-entries', 'aws eks list-pod-identity-associations' and 'aws eks describe-cluster' with the template, and remove what you do not know.\"",
      ])
    }
    GrantRemoved = {
      description = "EKS cluster payments: A grant on the key that encrypts the secrets was taken away."
      name        = "ekskms-payments-GrantRemoved"
      pattern = {
        detail = {
          eventName   = ["RevokeGrant", "RetireGrant"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = ["arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster payments is in danger: <action>\"",
        "\"A grant on the key that encrypts the secrets was taken away.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: If it was the grant eks-grant-payments of EKS, the cluster loses access to its secrets.\"",
        "\"What to do: Look for the grant with 'aws kms list-grants'. If EKS has none left, open a case with AWS Support at once.\"",
      ])
    }
    KeyDeletionScheduled = {
      description = "EKS cluster payments: The key that encrypts the secrets was scheduled for deletion."
      name        = "ekskms-payments-KeyDeletionScheduled"
      pattern = {
        detail = {
          eventName   = ["ScheduleKeyDeletion"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = ["arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster payments is in danger: <action>\"",
        "\"The key that encrypts the secrets was scheduled for deletion.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: When the key is deleted, the cluster and every backup of it are lost. Nobody can undo that, AWS included.\"",
        "\"What to do: Run 'aws kms cancel-key-deletion' and then 'aws kms enable-key' before the waiting period ends.\"",
      ])
    }
    KeyDisabled = {
      description = "EKS cluster payments: The key that encrypts the secrets was disabled."
      name        = "ekskms-payments-KeyDisabled"
      pattern = {
        detail = {
          eventName   = ["DisableKey"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = ["arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster payments is in danger: <action>\"",
        "\"The key that encrypts the secrets was disabled.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: The cluster stops working hours later, or when an API server restarts. After 30 days it may be beyond recovery.\"",
        "\"What to do: Enable the key again with 'aws kms enable-key', then find out who did this and why.\"",
      ])
    }
    KeyPolicyChanged = {
      description = "EKS cluster payments: The policy of the key that encrypts the secrets was changed."
      name        = "ekskms-payments-KeyPolicyChanged"
      pattern = {
        detail = {
          eventName   = ["PutKeyPolicy"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = ["arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster payments is in danger: <action>\"",
        "\"The policy of the key that encrypts the secrets was changed.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: Somebody may now be able to decrypt the secrets, or the cluster may have lost its key.\"",
        "\"What to do: If this was not a deployment of yours, compare the policy with the template and deploy the template again.\"",
      ])
    }
    KeyReplicated = {
      description = "EKS cluster payments: The key that encrypts the secrets was copied to another Region, or its primary Region was changed."
      name        = "ekskms-payments-KeyReplicated"
      pattern = {
        detail = {
          eventName   = ["ReplicateKey", "UpdatePrimaryRegion"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = ["arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster payments is in danger: <action>\"",
        "\"The key that encrypts the secrets was copied to another Region, or its primary Region was changed.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: A replica has the same key material under a policy of its own: any principal that may use it can decrypt the secrets.\"",
        "\"What to do: Read the policy of the replica with 'aws kms get-key-policy' in its Region. Schedule a replica that you do not know for deletion.\"",
      ])
    }
    LogsKeyTampered = {
      description = "EKS cluster payments: The key that encrypts the control plane's logs was disabled, scheduled for deletion, given another policy or a grant."
      name        = "ekskms-payments-LogsKeyTampered"
      pattern = {
        detail = {
          eventName   = ["DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy", "CreateGrant"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = [aws_kms_key.logs.arn]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster payments is in danger: <action>\"",
        "\"The key that encrypts the control plane's logs was disabled, scheduled for deletion, given another policy or a grant.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: EKS may no longer be able to write the audit log, which is the only record of who read which secret.\"",
        "\"What to do: Enable the key, cancel its deletion, revoke the grant, or deploy the template again.\"",
      ])
    }
    RecordWeakened = {
      description = "EKS cluster payments: The bucket of the audit trail, or a log group of the cluster, was changed or deleted."
      name        = "ekskms-payments-RecordWeakened"
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
                logGroupName = ["/aws/eks/payments/cluster", "/aws/events/ekskms/payments/alarms"]
              },
              {
                resourceIdentifier = [
                  {
                    suffix = ":log-group:/aws/eks/payments/cluster"
                  },
                  {
                    suffix = ":log-group:/aws/events/ekskms/payments/alarms"
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
        "\"EKS cluster payments is in danger: <action>\"",
        "\"The bucket of the audit trail, or a log group of the cluster, was changed or deleted.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: The record may be deleted sooner, be open to others, or be lost already.\"",
        "\"What to do: If this was not a deployment of yours, compare the bucket and the log group with the template and deploy it again. Note the gap for the audit.\"",
      ])
    }
    RotationChanged = {
      description = "EKS cluster payments: Rotation of the key that encrypts the secrets was switched off, or on with another period."
      name        = "ekskms-payments-RotationChanged"
      pattern = {
        detail = {
          eventName   = ["DisableKeyRotation", "EnableKeyRotation"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = ["arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.kms"]
      }
      template = join("\n", [
        "\"EKS cluster payments is in danger: <action>\"",
        "\"Rotation of the key that encrypts the secrets was switched off, or on with another period.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: The cluster keeps working, but the key material may be renewed late or never.\"",
        "\"What to do: If this was not a deployment of yours, run 'aws kms enable-key-rotation' with the period of the template.\"",
      ])
    }
    TrailBlinded = {
      description = "EKS cluster payments: The choice of events of the trail that records every use of the key was changed."
      name        = "ekskms-payments-TrailBlinded"
      pattern = {
        detail = {
          eventName   = ["PutEventSelectors"]
          eventSource = ["cloudtrail.amazonaws.com"]
          requestParameters = {
            trailName = ["management", "arn:aws:cloudtrail:eu-central-1:111122223333:trail/management"]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.cloudtrail"]
      }
      template = join("\n", [
        "\"EKS cluster payments is in danger: <action>\"",
        "\"The choice of events of the trail that records every use of the key was changed.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: Calls to KMS may now be left out of the trail, and the other alarms may stay silent.\"",
        "\"What to do: Compare 'aws cloudtrail get-event-selectors' with the template and deploy the template again.\"",
      ])
    }
    TrailTampered = {
      description = "EKS cluster payments: The trail that records every use of the key was stopped, deleted or changed."
      name        = "ekskms-payments-TrailTampered"
      pattern = {
        detail = {
          eventName   = ["StopLogging", "DeleteTrail", "UpdateTrail"]
          eventSource = ["cloudtrail.amazonaws.com"]
          requestParameters = {
            name = ["management", "arn:aws:cloudtrail:eu-central-1:111122223333:trail/management"]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.cloudtrail"]
      }
      template = join("\n", [
        "\"EKS cluster payments is in danger: <action>\"",
        "\"The trail that records every use of the key was stopped, deleted or changed.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: From now on uses of the key may go unrecorded, and the other alarms may stay silent.\"",
        "\"What to do: Deploy the template again and run 'aws cloudtrail start-logging'. Note the gap for the audit.\"",
      ])
    }
    UnexpectedGrant = {
      description = "EKS cluster payments: A grant on the key that encrypts the secrets was made, and not through EKS."
      name        = "ekskms-payments-UnexpectedGrant"
      pattern = {
        detail = {
          eventName   = ["CreateGrant"]
          eventSource = ["kms.amazonaws.com"]
          resources = {
            ARN = ["arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"]
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
        "\"EKS cluster payments is in danger: <action>\"",
        "\"A grant on the key that encrypts the secrets was made, and not through EKS.\"",
        "\"Who: <who> <service> (principal <principal> of account <caller>) from <from>\"",
        "\"When: <when> in account <account>, Region <region> (CloudTrail event <event>)\"",
        "\"Error, if the call was refused: <error>\"",
        "\"What it means: Any principal that holds the grant may be able to decrypt the secrets.\"",
        "\"What to do: List the grants with 'aws kms list-grants'; revoke the one you do not know with 'aws kms revoke-grant'.\"",
      ])
    }
    WatcherTampered = {
      description = "EKS cluster payments: The rule that watches over the alarms was changed or removed."
      name        = "ekskms-payments-WatcherTampered"
      pattern = {
        detail = {
          eventName   = ["DeleteRule", "DisableRule", "PutRule", "PutTargets", "RemoveTargets"]
          eventSource = ["events.amazonaws.com"]
          requestParameters = {
            "$or" = [
              {
                name = ["ekskms-payments-AlarmsTampered"]
              },
              {
                rule = ["ekskms-payments-AlarmsTampered"]
              },
            ]
          }
        }
        detail-type = ["AWS API Call via CloudTrail"]
        source      = ["aws.events"]
      }
      template = join("\n", [
        "\"EKS cluster payments is in danger: <action>\"",
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
  arn       = "arn:aws:sns:eu-central-1:111122223333:security-alarms"

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
