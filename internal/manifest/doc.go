// Package manifest holds the Kubernetes objects of the KMS plugin as typed
// values. It knows nothing of AWS clients or the CDK: the renderer of a cluster,
// as CloudFormation, Terraform or YAML, takes the objects from here.
//
// # What the modes are for
//
// EKS's own API server can't be served by a plugin that you deploy: AWS runs
// that API server, and its KMS plugin with it.
//
// A Deployment ([Plugin]) serves no API server at all. It keeps the plugin's socket
// to itself and proves over it, again and again, that this cluster's role can use
// this cluster's key under this cluster's encryption context. When the key is
// disabled, scheduled for deletion, or out of reach, the Deployment stops being
// Available and says why, hours before the loss of the key would show otherwise.
// So it is deployed on an EKS cluster in every mode.
//
// A sidecar ([Sidecars]) stands in the pod of an API server that runs on the
// cluster, with an encryption context of its own for each.
//
// A DaemonSet ([Plugin]) puts the socket into a folder of every node, for API
// servers that run on this cluster's nodes and can only mount a folder, with
// policies that forbid it to others.
//
// A static pod ([StaticPods]) stands beside the API server of a node that is not
// EKS's.
//
// [Encryption] and [Migrations] are what such API servers need beside a plugin.
//
// # Strings are passed on as they are
//
// A value may be a placeholder that another tool resolves later, such as a CDK
// token, so nothing here looks into the key's ARN, the image or the values of
// the encryption context.
package manifest
