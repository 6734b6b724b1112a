// Package tools pins the programs of a Kubernetes control plane that the tests
// build, in a module of its own: what they are built from does not depend on
// what the tests or ekskms need.
//
// Each k8s.io module that Kubernetes develops in its own repository is replaced
// by its published release, since k8s.io/kubernetes asks for v0.0.0 of it.
package tools
