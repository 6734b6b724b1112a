# What belongs on the cluster, in the order in which to apply it.
locals {
  kubernetes_objects = [
    {
      apiVersion = "v1"
      kind       = "Namespace"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "hosted-control-planes"
        }
        labels = {
          "app.kubernetes.io/component"        = "encryption"
          "app.kubernetes.io/managed-by"       = "ekskms"
          "app.kubernetes.io/name"             = "kms-plugin"
          "app.kubernetes.io/part-of"          = "ekskms"
          "pod-security.kubernetes.io/audit"   = "privileged"
          "pod-security.kubernetes.io/enforce" = "privileged"
          "pod-security.kubernetes.io/warn"    = "privileged"
        }
        name = "ekskms-system"
      }
      spec = {}
    },
    {
      apiVersion                   = "v1"
      automountServiceAccountToken = false
      kind                         = "ServiceAccount"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "hosted-control-planes"
        }
        labels = {
          "app.kubernetes.io/component"  = "encryption"
          "app.kubernetes.io/managed-by" = "ekskms"
          "app.kubernetes.io/name"       = "kms-plugin"
          "app.kubernetes.io/part-of"    = "ekskms"
        }
        name      = "kms-plugin"
        namespace = "ekskms-system"
      }
    },
    {
      apiVersion = "rbac.authorization.k8s.io/v1"
      kind       = "Role"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "hosted-control-planes"
        }
        labels = {
          "app.kubernetes.io/component"  = "encryption"
          "app.kubernetes.io/managed-by" = "ekskms"
          "app.kubernetes.io/name"       = "kms-plugin"
          "app.kubernetes.io/part-of"    = "ekskms"
        }
        name      = "kms-plugin"
        namespace = "ekskms-system"
      }
      rules = [
        {
          apiGroups = [""]
          resources = ["events"]
          verbs     = ["create"]
        },
        {
          apiGroups     = ["apps"]
          resourceNames = ["kms-plugin"]
          resources     = ["deployments"]
          verbs         = ["get"]
        },
        {
          apiGroups     = ["apps"]
          resourceNames = ["kms-plugin"]
          resources     = ["deployments/status"]
          verbs         = ["patch"]
        },
      ]
    },
    {
      apiVersion = "rbac.authorization.k8s.io/v1"
      kind       = "RoleBinding"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "hosted-control-planes"
        }
        labels = {
          "app.kubernetes.io/component"  = "encryption"
          "app.kubernetes.io/managed-by" = "ekskms"
          "app.kubernetes.io/name"       = "kms-plugin"
          "app.kubernetes.io/part-of"    = "ekskms"
        }
        name      = "kms-plugin"
        namespace = "ekskms-system"
      }
      roleRef = {
        apiGroup = "rbac.authorization.k8s.io"
        kind     = "Role"
        name     = "kms-plugin"
      }
      subjects = [{
        kind      = "ServiceAccount"
        name      = "kms-plugin"
        namespace = "ekskms-system"
      }]
    },
    {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "hosted-control-planes"
        }
        labels = {
          "app.kubernetes.io/component"  = "encryption"
          "app.kubernetes.io/managed-by" = "ekskms"
          "app.kubernetes.io/name"       = "kms-plugin"
          "app.kubernetes.io/part-of"    = "ekskms"
        }
        name      = "kms-plugin"
        namespace = "ekskms-system"
      }
      spec = {
        egress = [
          {
            ports = [
              {
                port     = 53
                protocol = "UDP"
              },
              {
                port     = 53
                protocol = "TCP"
              },
            ]
          },
          {
            ports = [{
              port     = 443
              protocol = "TCP"
            }]
          },
          {
            ports = [{
              port     = 80
              protocol = "TCP"
            }]
            to = [
              {
                ipBlock = {
                  cidr = "169.254.170.23/32"
                }
              },
              {
                ipBlock = {
                  cidr = "fd00:ec2::23/128"
                }
              },
            ]
          },
        ]
        podSelector = {
          matchLabels = {
            "app.kubernetes.io/name" = "kms-plugin"
          }
        }
        policyTypes = ["Ingress", "Egress"]
      }
    },
    {
      apiVersion = "apps/v1"
      kind       = "Deployment"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "hosted-control-planes"
        }
        labels = {
          "app.kubernetes.io/component"  = "encryption"
          "app.kubernetes.io/managed-by" = "ekskms"
          "app.kubernetes.io/name"       = "kms-plugin"
          "app.kubernetes.io/part-of"    = "ekskms"
        }
        name      = "kms-plugin"
        namespace = "ekskms-system"
      }
      spec = {
        replicas             = 2
        revisionHistoryLimit = 3
        selector = {
          matchLabels = {
            "app.kubernetes.io/name" = "kms-plugin"
          }
        }
        strategy = {
          rollingUpdate = {
            maxSurge       = 1
            maxUnavailable = 0
          }
          type = "RollingUpdate"
        }
        template = {
          metadata = {
            annotations = {
              "ekskms.github.io/cluster" = "hosted-control-planes"
            }
            labels = {
              "app.kubernetes.io/component"  = "encryption"
              "app.kubernetes.io/managed-by" = "ekskms"
              "app.kubernetes.io/name"       = "kms-plugin"
              "app.kubernetes.io/part-of"    = "ekskms"
            }
          }
          spec = {
            automountServiceAccountToken = false
            containers = [{
              args = [
                "serve",
                "--key",
                aws_kms_key.secrets.arn,
                "--encryption-context",
                "ekskms:cluster-arn=arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/hosted-control-planes",
                "--listen",
                "unix:///run/kms-plugin/socket.sock",
                "--health-listen",
                ":8080",
                "--vouch-for",
                "5m",
                "--watch-cluster",
                "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/hosted-control-planes",
                "--report-on",
                "deployment/kms-plugin",
              ]
              env = [{
                name  = "GOMEMLIMIT"
                value = "64MiB"
              }]
              image = var.plugin_image
              livenessProbe = {
                failureThreshold = 6
                httpGet = {
                  path = "/livez"
                  port = "health"
                }
                periodSeconds  = 10
                timeoutSeconds = 5
              }
              name = "kms-plugin"
              ports = [{
                containerPort = 8080
                name          = "health"
                protocol      = "TCP"
              }]
              readinessProbe = {
                failureThreshold = 2
                httpGet = {
                  path = "/readyz"
                  port = "health"
                }
                periodSeconds  = 10
                timeoutSeconds = 5
              }
              resources = {
                limits = {
                  memory = "128Mi"
                }
                requests = {
                  cpu    = "10m"
                  memory = "48Mi"
                }
              }
              securityContext = {
                allowPrivilegeEscalation = false
                capabilities = {
                  drop = ["ALL"]
                }
                privileged             = false
                readOnlyRootFilesystem = true
                runAsGroup             = 65532
                runAsNonRoot           = true
                runAsUser              = 65532
                seccompProfile = {
                  type = "RuntimeDefault"
                }
              }
              startupProbe = {
                failureThreshold = 60
                httpGet = {
                  path = "/livez"
                  port = "health"
                }
                periodSeconds  = 1
                timeoutSeconds = 2
              }
              volumeMounts = [
                {
                  mountPath = "/run/kms-plugin"
                  name      = "socket"
                },
                {
                  mountPath = "/var/run/secrets/kubernetes.io/serviceaccount"
                  name      = "api-token"
                  readOnly  = true
                },
              ]
            }]
            enableServiceLinks = false
            nodeSelector = {
              "kubernetes.io/arch" = "amd64"
              "kubernetes.io/os"   = "linux"
            }
            securityContext = {
              fsGroup = 65532
              seccompProfile = {
                type = "RuntimeDefault"
              }
            }
            serviceAccountName            = "kms-plugin"
            terminationGracePeriodSeconds = 15
            topologySpreadConstraints = [
              {
                labelSelector = {
                  matchLabels = {
                    "app.kubernetes.io/name" = "kms-plugin"
                  }
                }
                matchLabelKeys    = ["pod-template-hash"]
                maxSkew           = 1
                topologyKey       = "topology.kubernetes.io/zone"
                whenUnsatisfiable = "ScheduleAnyway"
              },
              {
                labelSelector = {
                  matchLabels = {
                    "app.kubernetes.io/name" = "kms-plugin"
                  }
                }
                matchLabelKeys    = ["pod-template-hash"]
                maxSkew           = 1
                topologyKey       = "kubernetes.io/hostname"
                whenUnsatisfiable = "ScheduleAnyway"
              },
            ]
            volumes = [
              {
                emptyDir = {
                  medium    = "Memory"
                  sizeLimit = "1Mi"
                }
                name = "socket"
              },
              {
                name = "api-token"
                projected = {
                  sources = [
                    {
                      serviceAccountToken = {
                        expirationSeconds = 600
                        path              = "token"
                      }
                    },
                    {
                      configMap = {
                        items = [{
                          key  = "ca.crt"
                          path = "ca.crt"
                        }]
                        name = "kube-root-ca.crt"
                      }
                    },
                    {
                      downwardAPI = {
                        items = [{
                          fieldRef = {
                            apiVersion = "v1"
                            fieldPath  = "metadata.namespace"
                          }
                          path = "namespace"
                        }]
                      }
                    },
                  ]
                }
              },
            ]
          }
        }
      }
    },
    {
      apiVersion = "policy/v1"
      kind       = "PodDisruptionBudget"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "hosted-control-planes"
        }
        labels = {
          "app.kubernetes.io/component"  = "encryption"
          "app.kubernetes.io/managed-by" = "ekskms"
          "app.kubernetes.io/name"       = "kms-plugin"
          "app.kubernetes.io/part-of"    = "ekskms"
        }
        name      = "kms-plugin"
        namespace = "ekskms-system"
      }
      spec = {
        minAvailable = 1
        selector = {
          matchLabels = {
            "app.kubernetes.io/name" = "kms-plugin"
          }
        }
        unhealthyPodEvictionPolicy = "AlwaysAllow"
      }
    },
    {
      apiVersion = "admissionregistration.k8s.io/v1"
      kind       = "ValidatingAdmissionPolicy"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "hosted-control-planes"
        }
        labels = {
          "app.kubernetes.io/component"  = "encryption"
          "app.kubernetes.io/managed-by" = "ekskms"
          "app.kubernetes.io/name"       = "kms-plugin"
          "app.kubernetes.io/part-of"    = "ekskms"
        }
        name = "ekskms-kms-socket-pods"
      }
      spec = {
        failurePolicy = "Fail"
        matchConditions = [{
          expression = "!(request.namespace == 'ekskms-system' && has(object.spec.serviceAccountName) && object.spec.serviceAccountName == 'kms-plugin')"
          name       = "not-the-plugin-itself"
        }]
        matchConstraints = {
          namespaceSelector = {
            matchExpressions = [
              {
                key      = "ekskms.github.io/kms-socket"
                operator = "NotIn"
                values   = ["allowed"]
              },
              {
                key      = "kubernetes.io/metadata.name"
                operator = "NotIn"
                values   = ["kube-system"]
              },
            ]
          }
          resourceRules = [{
            apiGroups   = [""]
            apiVersions = ["v1"]
            operations  = ["CREATE", "UPDATE"]
            resources   = ["pods"]
          }]
        }
        validations = [
          {
            expression        = "variables.refused.size() == 0"
            messageExpression = "'the node folder ' + variables.refused[0] + ' is not among those that may be mounted here: a link in it can lead to the socket of kms-plugin, with which all data of API servers can be decrypted'"
            reason            = "Forbidden"
          },
          {
            expression = "request.operation == 'UPDATE' || !(has(object.spec.hostPID) && object.spec.hostPID)"
            message    = "hostPID shows all processes of the node, and the root folder of each leads to the socket of kms-plugin, with which all data of API servers can be decrypted"
            reason     = "Forbidden"
          },
        ]
        variables = [
          {
            expression = "request.operation == 'UPDATE' ? (has(oldObject.spec.volumes) ? oldObject.spec.volumes.filter(v, has(v.hostPath)).map(v, v.hostPath.path) : []) : []"
            name       = "before"
          },
          {
            expression = "(has(object.spec.volumes) ? object.spec.volumes.filter(v, has(v.hostPath)).map(v, v.hostPath.path) : []).filter(p, !(p in variables.before))"
            name       = "paths"
          },
          {
            expression = "variables.paths.map(p, p.split('/').filter(c, c != '' && c != '.').map(c, '/' + c).join('') + '/')"
            name       = "folders"
          },
          {
            expression = "variables.folders.filter(f, f.contains('/../') || !(f in [] || [].exists(a, f.startsWith(a))))"
            name       = "refused"
          },
        ]
      }
    },
    {
      apiVersion = "admissionregistration.k8s.io/v1"
      kind       = "ValidatingAdmissionPolicyBinding"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "hosted-control-planes"
        }
        labels = {
          "app.kubernetes.io/component"  = "encryption"
          "app.kubernetes.io/managed-by" = "ekskms"
          "app.kubernetes.io/name"       = "kms-plugin"
          "app.kubernetes.io/part-of"    = "ekskms"
        }
        name = "ekskms-kms-socket-pods"
      }
      spec = {
        policyName        = "ekskms-kms-socket-pods"
        validationActions = ["Deny"]
      }
    },
    {
      apiVersion = "admissionregistration.k8s.io/v1"
      kind       = "ValidatingAdmissionPolicy"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "hosted-control-planes"
        }
        labels = {
          "app.kubernetes.io/component"  = "encryption"
          "app.kubernetes.io/managed-by" = "ekskms"
          "app.kubernetes.io/name"       = "kms-plugin"
          "app.kubernetes.io/part-of"    = "ekskms"
        }
        name = "ekskms-kms-socket-volumes"
      }
      spec = {
        failurePolicy = "Fail"
        matchConstraints = {
          resourceRules = [{
            apiGroups   = [""]
            apiVersions = ["v1"]
            operations  = ["CREATE", "UPDATE"]
            resources   = ["persistentvolumes"]
          }]
        }
        validations = [{
          expression        = "variables.refused.size() == 0"
          messageExpression = "'the node folder ' + variables.refused[0] + ' is not among those that may be mounted here: a link in it can lead to the socket of kms-plugin, with which all data of API servers can be decrypted'"
          reason            = "Forbidden"
        }]
        variables = [
          {
            expression = "request.operation == 'UPDATE' ? ((has(oldObject.spec.hostPath) ? [oldObject.spec.hostPath.path] : []) + (has(oldObject.spec.local) ? [oldObject.spec.local.path] : [])) : []"
            name       = "before"
          },
          {
            expression = "((has(object.spec.hostPath) ? [object.spec.hostPath.path] : []) + (has(object.spec.local) ? [object.spec.local.path] : [])).filter(p, !(p in variables.before))"
            name       = "paths"
          },
          {
            expression = "variables.paths.map(p, p.split('/').filter(c, c != '' && c != '.').map(c, '/' + c).join('') + '/')"
            name       = "folders"
          },
          {
            expression = "variables.folders.filter(f, f.contains('/../') || !(f in [] || [].exists(a, f.startsWith(a))))"
            name       = "refused"
          },
        ]
      }
    },
    {
      apiVersion = "admissionregistration.k8s.io/v1"
      kind       = "ValidatingAdmissionPolicyBinding"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "hosted-control-planes"
        }
        labels = {
          "app.kubernetes.io/component"  = "encryption"
          "app.kubernetes.io/managed-by" = "ekskms"
          "app.kubernetes.io/name"       = "kms-plugin"
          "app.kubernetes.io/part-of"    = "ekskms"
        }
        name = "ekskms-kms-socket-volumes"
      }
      spec = {
        policyName        = "ekskms-kms-socket-volumes"
        validationActions = ["Deny"]
      }
    },
    {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "hosted-control-planes"
        }
        labels = {
          "app.kubernetes.io/component"  = "encryption"
          "app.kubernetes.io/managed-by" = "ekskms"
          "app.kubernetes.io/name"       = "kms-plugin-node"
          "app.kubernetes.io/part-of"    = "ekskms"
        }
        name      = "kms-plugin-node"
        namespace = "ekskms-system"
      }
      spec = {
        egress = [
          {
            ports = [
              {
                port     = 53
                protocol = "UDP"
              },
              {
                port     = 53
                protocol = "TCP"
              },
            ]
          },
          {
            ports = [{
              port     = 443
              protocol = "TCP"
            }]
          },
          {
            ports = [{
              port     = 80
              protocol = "TCP"
            }]
            to = [
              {
                ipBlock = {
                  cidr = "169.254.170.23/32"
                }
              },
              {
                ipBlock = {
                  cidr = "fd00:ec2::23/128"
                }
              },
            ]
          },
        ]
        podSelector = {
          matchLabels = {
            "app.kubernetes.io/name" = "kms-plugin-node"
          }
        }
        policyTypes = ["Ingress", "Egress"]
      }
    },
    {
      apiVersion = "apps/v1"
      kind       = "DaemonSet"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "hosted-control-planes"
        }
        labels = {
          "app.kubernetes.io/component"  = "encryption"
          "app.kubernetes.io/managed-by" = "ekskms"
          "app.kubernetes.io/name"       = "kms-plugin-node"
          "app.kubernetes.io/part-of"    = "ekskms"
        }
        name      = "kms-plugin-node"
        namespace = "ekskms-system"
      }
      spec = {
        minReadySeconds      = 30
        revisionHistoryLimit = 3
        selector = {
          matchLabels = {
            "app.kubernetes.io/name" = "kms-plugin-node"
          }
        }
        template = {
          metadata = {
            annotations = {
              "ekskms.github.io/cluster" = "hosted-control-planes"
            }
            labels = {
              "app.kubernetes.io/component"  = "encryption"
              "app.kubernetes.io/managed-by" = "ekskms"
              "app.kubernetes.io/name"       = "kms-plugin-node"
              "app.kubernetes.io/part-of"    = "ekskms"
            }
          }
          spec = {
            automountServiceAccountToken = false
            containers = [{
              args = [
                "serve",
                "--key",
                aws_kms_key.secrets.arn,
                "--encryption-context",
                "ekskms:cluster-arn=arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/hosted-control-planes",
                "--listen",
                "unix:///run/kms-plugin/socket.sock",
                "--health-listen",
                ":8080",
              ]
              env = [{
                name  = "GOMEMLIMIT"
                value = "64MiB"
              }]
              image = var.plugin_image
              livenessProbe = {
                failureThreshold = 6
                httpGet = {
                  path = "/livez"
                  port = "health"
                }
                periodSeconds  = 10
                timeoutSeconds = 5
              }
              name = "kms-plugin"
              ports = [{
                containerPort = 8080
                name          = "health"
                protocol      = "TCP"
              }]
              readinessProbe = {
                failureThreshold = 2
                httpGet = {
                  path = "/readyz"
                  port = "health"
                }
                periodSeconds  = 10
                timeoutSeconds = 5
              }
              resources = {
                limits = {
                  memory = "128Mi"
                }
                requests = {
                  cpu    = "10m"
                  memory = "48Mi"
                }
              }
              securityContext = {
                allowPrivilegeEscalation = false
                capabilities = {
                  drop = ["ALL"]
                }
                privileged             = false
                readOnlyRootFilesystem = true
                runAsGroup             = 0
                runAsNonRoot           = false
                runAsUser              = 0
                seccompProfile = {
                  type = "RuntimeDefault"
                }
              }
              startupProbe = {
                failureThreshold = 60
                httpGet = {
                  path = "/livez"
                  port = "health"
                }
                periodSeconds  = 1
                timeoutSeconds = 2
              }
              volumeMounts = [{
                mountPath = "/run/kms-plugin"
                name      = "socket"
              }]
            }]
            enableServiceLinks = false
            nodeSelector = {
              "kubernetes.io/arch" = "amd64"
              "kubernetes.io/os"   = "linux"
            }
            priorityClassName = "system-node-critical"
            securityContext = {
              seccompProfile = {
                type = "RuntimeDefault"
              }
            }
            serviceAccountName            = "kms-plugin"
            terminationGracePeriodSeconds = 15
            tolerations = [{
              operator = "Exists"
            }]
            volumes = [{
              hostPath = {
                path = "/var/run/kms-plugin"
                type = "DirectoryOrCreate"
              }
              name = "socket"
            }]
          }
        }
        updateStrategy = {
          rollingUpdate = {
            maxSurge       = 0
            maxUnavailable = 1
          }
          type = "RollingUpdate"
        }
      }
    },
  ]
  kubernetes_manifests = join("---\n", [for object in local.kubernetes_objects : yamlencode(object)])
}

resource "terraform_data" "kubernetes_objects" {
  count            = var.apply_manifests ? 1 : 0
  triggers_replace = [aws_eks_cluster.this.arn, sha256(local.kubernetes_manifests)]

  provisioner "local-exec" {
    interpreter = ["/bin/sh", "-euc"]
    command = join("\n", [
      "KUBECONFIG=$(mktemp)",
      "export KUBECONFIG",
      "trap 'rm -f \"$KUBECONFIG\"' EXIT",
      "aws eks update-kubeconfig --name \"$CLUSTER\" --region \"$REGION\" --kubeconfig \"$KUBECONFIG\" >/dev/null",
      "printf '%s' \"$MANIFESTS\" | kubectl apply --server-side -f -",
    ])
    environment = {
      CLUSTER   = aws_eks_cluster.this.name
      MANIFESTS = local.kubernetes_manifests
      REGION    = local.region
    }
  }
  depends_on = [aws_eks_pod_identity_association.plugin, aws_eks_node_group.this]
}
