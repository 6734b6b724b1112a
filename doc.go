// Package ekskms is the root of a module for Amazon EKS clusters whose Kubernetes
// secrets are encrypted under a rotating customer-managed KMS key (CMK) that only named
// principals may use, and whose every use is on record.
//
// There is nothing to import here. The module has
//
//   - [github.com/ekskms/ekskms/constructs/ekskms], the AWS CDK constructs, whose
//     package comment is the guide for those who import them;
//   - [github.com/ekskms/ekskms/stacks], finished stacks, such as those that an
//     ekskms.yaml describes;
//   - cmd/ekskms, the command: it writes CloudFormation, Terraform and Kubernetes files
//     from ekskms.yaml, and checks, explains and compares anybody's templates;
//   - cmd/cdkapp, the CDK app behind cdk.json;
//   - cmd/kms-plugin, the Kubernetes KMS v2 plugin that the constructs deploy.
package ekskms
