// Package kmsplugin is a Kubernetes KMS v2 plugin backed by AWS KMS: a gRPC
// service on a unix socket that encrypts and decrypts the seeds from which an
// API server derives its data keys.
//
// # Which API servers it can serve
//
// API servers that mount the plugin's socket: hosted control planes whose API
// servers run as pods, and API servers that you run yourself. It can't serve
// the API server of EKS: AWS runs that one, together with a plugin of its own.
//
// # What key_id promises
//
// A key_id names one key and one key material of it. AWS KMS rotates material
// under an unchanged key ARN, so the ARN alone would hide a rotation from the
// API server. Encrypt has KMS make a data key (kms:GenerateDataKey, which names
// the material), seals the seed under it with AES-256-GCM, and hands it out only
// if the material is the one that Status vouches for. That what was written can
// be read back is proven by a round trip no older than one poll: the probe's, or
// one that the call makes itself.
//
// # What it watches
//
// Told the EKS cluster whose secrets its first key encrypts, the plugin also
// looks after that cluster: at the key, as the probe sees it, and at the grant by
// which EKS uses it. It says in log, metrics, Events and a condition when the
// cluster is in danger, and the way back. None of that is in the way of a call,
// and what Kubernetes answers changes nothing else.
//
// # What is never logged
//
// Plaintext, ciphertext and encryption-context values: neither here nor in
// errors. The words of AWS's error messages are not passed on either, only the
// error code and the request ID, under which CloudTrail has the rest.
package kmsplugin
