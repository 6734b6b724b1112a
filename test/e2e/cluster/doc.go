// Package cluster runs a Kubernetes control plane for tests, on loopback and
// from source: etcd, kube-apiserver and kube-controller-manager of the versions
// in ../tools/go.mod, kms-plugin and ekskms of this module, and a fake AWS KMS.
//
// Nothing is downloaded but Go modules. Each part is a process of its own, which
// a test may stop, kill or start again in any order. All end with the test.
package cluster
