// Package manifest holds the Kubernetes objects of the KMS plugin as typed
// values. It knows nothing of AWS clients or the CDK: whoever renders a cluster,
// as CloudFormation, Terraform or YAML, takes the objects from here.
//
// # What the two modes are for
//
// EKS's own API server can't be served by a plugin that you deploy: AWS runs
// that API server, and its KMS plugin with it.
//
// A Deployment serves no API server at all. It keeps the plugin's socket to
// itself and proves over it, again and again, that this cluster's role can use
// this cluster's key under this cluster's encryption context. When the key is
// disabled, scheduled for deletion, or out of reach, the Deployment stops being
// Available, and whatever watches the cluster's workloads sees it, hours before
// the loss of the key would show otherwise.
//
// A DaemonSet puts the socket into a folder of every node, for API servers that
// run on this cluster's nodes as pods, such as those of hosted control planes,
// and mount the same folder.
//
// # Strings are passed on as they are
//
// A value may be a placeholder that another tool resolves later, such as a CDK
// token, so nothing here looks into the key's ARN, the image or the values of
// the encryption context.
package manifest
