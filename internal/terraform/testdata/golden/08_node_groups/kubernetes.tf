# What belongs on the cluster, in the order in which to apply it.
locals {
  kubernetes_objects = [
    {
      allowVolumeExpansion = true
      apiVersion           = "storage.k8s.io/v1"
      kind                 = "StorageClass"
      metadata = {
        name = "encrypted"
      }
      parameters = {
        encrypted = "true"
        kmsKeyId  = aws_kms_key.volumes.arn
        type      = "gp3"
      }
      provisioner       = "ebs.csi.aws.com"
      volumeBindingMode = "WaitForFirstConsumer"
    },
    {
      apiVersion = "v1"
      kind       = "Namespace"
      metadata = {
        annotations = {
          "ekskms.github.io/cluster" = "mixed"
        }
        labels = {
          "app.kubernetes.io/component"        = "encryption"
          "app.kubernetes.io/managed-by"       = "ekskms"
          "app.kubernetes.io/name"             = "kms-plugin"
          "app.kubernetes.io/part-of"          = "ekskms"
          "pod-security.kubernetes.io/audit"   = "restricted"
          "pod-security.kubernetes.io/enforce" = "restricted"
          "pod-security.kubernetes.io/warn"    = "restricted"
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
          "ekskms.github.io/cluster" = "mixed"
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
          "ekskms.github.io/cluster" = "mixed"
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
          "ekskms.github.io/cluster" = "mixed"
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
          "ekskms.github.io/cluster" = "mixed"
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
          "ekskms.github.io/cluster" = "mixed"
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
              "ekskms.github.io/cluster" = "mixed"
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
                "ekskms:cluster-arn=arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/mixed",
                "--listen",
                "unix:///run/kms-plugin/socket.sock",
                "--health-listen",
                ":8080",
                "--vouch-for",
                "5m",
                "--watch-cluster",
                "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/mixed",
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
          "ekskms.github.io/cluster" = "mixed"
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
  depends_on = [aws_eks_pod_identity_association.plugin, aws_eks_access_policy_association.this, aws_eks_node_group.general, aws_eks_node_group.batch]
}
