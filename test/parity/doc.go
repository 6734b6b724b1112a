// Package parity holds the renderers of the model to each other: the CloudFormation
// of the constructs, Terraform, and what ekskms generate prints.
package parity
