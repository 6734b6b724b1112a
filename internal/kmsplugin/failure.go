package kmsplugin

import (
	"context"
	"errors"
	"net"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// failure is one reason why the key can't be used, in words that may be logged
// and handed to the API server: what is wrong, and what to do.
type failure struct {
	class     string // short and bounded, for logs
	code      codes.Code
	text      string
	awsCode   string // KMS's own error code, if KMS answered
	requestID string
}

func (f *failure) Error() string { return f.text }

// GRPCStatus makes a failure an answer of a gRPC method as it stands.
func (f *failure) GRPCStatus() *status.Status {
	text := f.text
	if f.requestID != "" {
		text += " (KMS request ID " + f.requestID + ")"
	}
	return status.New(f.code, text)
}

func invalid(text string) *failure {
	return &failure{class: "invalid-argument", code: codes.InvalidArgument, text: text}
}

// The states that both DescribeKey and the errors of the other calls can tell.
func disabled() *failure {
	return &failure{class: "disabled", code: codes.FailedPrecondition,
		text: "the KMS key is disabled: enable it with kms:EnableKey"}
}

func pendingDeletion() *failure {
	return &failure{class: "pending-deletion", code: codes.FailedPrecondition,
		text: "the KMS key is pending deletion: cancel it with kms:CancelKeyDeletion, then kms:EnableKey; when the waiting period ends, everything encrypted under it is lost"}
}

func badState(state string) *failure {
	return &failure{class: "invalid-state", code: codes.FailedPrecondition,
		text: "the KMS key is in state " + state + ", which allows no encryption: see the key's state in AWS KMS"}
}

// stateFailure judges DescribeKey's answer.
func stateFailure(m *types.KeyMetadata) *failure {
	switch {
	case m.KeyState == types.KeyStateDisabled:
		return disabled()
	case m.KeyState == types.KeyStatePendingDeletion, m.KeyState == types.KeyStatePendingReplicaDeletion:
		return pendingDeletion()
	case m.KeyState != types.KeyStateEnabled && m.KeyState != types.KeyStateUpdating:
		// Updating, while a multi-Region key changes its primary, leaves
		// encryption and decryption alone.
		return badState(string(m.KeyState))
	case m.KeySpec != types.KeySpecSymmetricDefault || m.KeyUsage != types.KeyUsageTypeEncryptDecrypt:
		return &failure{class: "wrong-key-type", code: codes.FailedPrecondition,
			text: "the KMS key is not a symmetric key for encryption and decryption: name a key of spec SYMMETRIC_DEFAULT"}
	}
	return nil
}

// classify turns an error of a KMS call into a failure. rpc is the context of
// the caller, without the plugin's own time limit: who gave up decides whom the
// answer blames.
func classify(rpc context.Context, op string, err error) *failure {
	f := classOf(rpc, op, err)
	var creds credentialsError
	if errors.As(err, &creds) {
		return f // its code and request ID are not KMS's
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		f.awsCode = api.ErrorCode()
	}
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) {
		f.requestID = resp.ServiceRequestID()
	}
	return f
}

func classOf(rpc context.Context, op string, err error) *failure {
	switch {
	case errors.Is(rpc.Err(), context.Canceled):
		return &failure{class: "canceled", code: codes.Canceled, text: "the caller canceled the request"}
	case errors.Is(rpc.Err(), context.DeadlineExceeded):
		return &failure{class: "deadline", code: codes.DeadlineExceeded, text: "the caller's deadline passed before AWS KMS answered"}
	}

	var creds credentialsError
	if errors.As(err, &creds) {
		return &failure{class: "no-credentials", code: codes.Unauthenticated,
			text: "no AWS credentials: check the Pod Identity association (or role, or profile) of the plugin's service account, and that the credentials endpoint can be reached"}
	}

	var (
		off         *types.DisabledException
		state       *types.KMSInvalidStateException
		api         smithy.APIError
		incorrect   *types.IncorrectKeyException
		ciphertext  *types.InvalidCiphertextException
		notFound    *types.NotFoundException
		unavailable *types.KeyUnavailableException
	)
	switch {
	case errors.As(err, &off):
		return disabled()
	case errors.As(err, &state):
		// The state itself is only in the message's prose: the next probe's
		// DescribeKey names it.
		return &failure{class: "invalid-state", code: codes.FailedPrecondition,
			text: "the KMS key is in a state that allows no " + op + ": it may be pending deletion or pending import; see the key's state in AWS KMS"}
	case errors.As(err, &incorrect):
		return invalid("the ciphertext was made by another KMS key")
	case errors.As(err, &ciphertext):
		return invalid("AWS KMS can't read the ciphertext: it was altered or cut, or made under another encryption context")
	case errors.As(err, &notFound):
		return &failure{class: "not-found", code: codes.NotFound,
			text: "AWS KMS knows no such key: check account, Region and ID in the key ARN, and whether the key was deleted"}
	case errors.As(err, &unavailable):
		return unavailableFailure("the key's backing store does not answer: retry, and check the custom key store if the key is in one")
	case errors.As(err, &api):
		return classOfCode(op, api.ErrorCode(), err)
	}

	var network net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network):
		return unavailableFailure("AWS KMS did not answer in time or can't be reached: check route, DNS, security groups, network policy and the VPC endpoint for kms")
	}
	return unavailableFailure("the call to AWS KMS failed: check the network path to the KMS endpoint")
}

func unavailableFailure(text string) *failure {
	return &failure{class: "unreachable", code: codes.Unavailable, text: text}
}

func classOfCode(op, code string, err error) *failure {
	switch code {
	case "AccessDeniedException":
		return &failure{class: "permission-denied", code: codes.PermissionDenied,
			text: "the plugin's role may not call kms:" + op + ": allow it in the key policy for this role, for Encrypt and Decrypt under exactly the encryption context that the plugin was started with"}
	case "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "LimitExceededException":
		return &failure{class: "throttled", code: codes.ResourceExhausted,
			text: "AWS KMS throttles this account: see the KMS request quotas of the Region"}
	case "ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationTokenException":
		return &failure{class: "bad-credentials", code: codes.Unauthenticated,
			text: "AWS refuses the plugin's credentials as expired or unknown: check the source of the credentials and that the role still exists"}
	case "InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired", "RequestTimeTooSkewed", "IncompleteSignature":
		return &failure{class: "bad-signature", code: codes.Unauthenticated,
			text: "AWS refuses the request's signature: check this node's clock, then the credentials"}
	case "KMSInternalException", "DependencyTimeoutException", "ServiceUnavailable", "ServiceUnavailableException", "InternalFailure":
		return unavailableFailure("AWS KMS has an internal fault: retry, and see the AWS Health Dashboard")
	case "InvalidKeyUsageException":
		return &failure{class: "wrong-key-type", code: codes.FailedPrecondition,
			text: "the KMS key is not for encryption and decryption: name a key of spec SYMMETRIC_DEFAULT"}
	}
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) && resp.HTTPStatusCode() >= 500 {
		return unavailableFailure("AWS KMS has an internal fault: retry, and see the AWS Health Dashboard")
	}
	return &failure{class: "refused", code: codes.Internal,
		text: "AWS KMS refused kms:" + op + ": look its request ID up in CloudTrail"}
}
