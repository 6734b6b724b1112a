# The API calls that raise an alarm, and what the alarm says.
locals {
  alarms = {
    AliasChanged = {
      description = "EKS cluster payments: An alias of the key that encrypts the secrets was created, moved or deleted."
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
    GrantRemoved = {
      description = "EKS cluster payments: A grant on the key that encrypts the secrets was taken away."
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
        "\"What it means: A replica has the same key material under a policy of its own: whoever may use it can decrypt the secrets.\"",
        "\"What to do: Read the policy of the replica with 'aws kms get-key-policy' in its Region. Schedule a replica that you do not know for deletion.\"",
      ])
    }
    RotationChanged = {
      description = "EKS cluster payments: Rotation of the key that encrypts the secrets was switched off, or on with another period."
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
      description = "EKS cluster payments: Somebody other than a cluster creator or EKS made a grant on the key that encrypts the secrets."
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
        "\"EKS cluster payments is in danger: <action>\"",
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
  name_prefix   = "payments-${each.key}-"
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
}
