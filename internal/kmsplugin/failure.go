package kmsplugin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Classes of failures, as logs and metrics name them. The list is closed, so
// that a metric's label is bounded.
const (
	// KMS's word on the key or on the role: asking again changes nothing.
	classDisabled         = "disabled"
	classPendingDeletion  = "pending-deletion"
	classInvalidState     = "invalid-state"
	classNotFound         = "not-found"
	classPermissionDenied = "permission-denied"
	classWrongKeyType     = "wrong-key-type"
	classWrongKey         = "wrong-key"
	classCorrupt          = "corrupt"

	// No word on the key: it may be as good as ever.
	classUnreachable        = "unreachable"
	classTimeout            = "timeout"
	classKMSFault           = "kms-fault"
	classKeyStore           = "key-store"
	classThrottled          = "throttled"
	classNoCredentials      = "no-credentials"
	classExpiredCredentials = "expired-credentials" //nolint:gosec // a word, no secret
	classBadCredentials     = "bad-credentials"
	classClockSkew          = "clock-skew"
	classRefused            = "refused"

	// The plugin's own.
	classStarting   = "starting"
	classRotating   = "rotating"
	classOverloaded = "overloaded"
	classStopping   = "stopping"
	classInternal   = "internal"

	// The caller's.
	classInvalidArgument    = "invalid-argument"
	classInvalidCiphertext  = "invalid-ciphertext"
	classForeignKeyID       = "foreign-key-id"
	classForeignAnnotations = "foreign-annotations"
	classCanceled           = "canceled"
	classDeadline           = "deadline"
)

// The classes by where they can come from: counters have all of theirs from the
// start on.
var (
	refusals = []string{classDisabled, classPendingDeletion, classInvalidState, classNotFound, classPermissionDenied, classWrongKeyType, classWrongKey, classCorrupt}
	outages  = []string{classUnreachable, classTimeout, classKMSFault, classKeyStore, classThrottled, classNoCredentials, classExpiredCredentials,
		classBadCredentials, classClockSkew, classRefused}
	ofCallers = []string{classInvalidArgument, classInvalidCiphertext, classForeignKeyID, classForeignAnnotations, classCanceled, classDeadline}

	probeClasses   = slices.Concat(refusals, outages, []string{classRotating})
	statusClasses  = slices.Concat(probeClasses, []string{classStarting})
	callClasses    = slices.Concat(statusClasses, []string{classOverloaded, classStopping, classInternal}, ofCallers)
	requestClasses = slices.Concat(refusals, outages, []string{classInvalidCiphertext, classCanceled, classDeadline})
)

// failure is one reason why the key can't be used, in words that may be logged
// and handed to the API server: what is wrong, and what to do.
type failure struct {
	class     string
	code      codes.Code
	text      string
	op        string // KMS's operation that failed
	awsCode   string // KMS's own error code, if KMS answered
	requestID string
	deletion  time.Time // of a key that is pending deletion; zero while not known
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

// refusal tells whether the failure is KMS's word on the key: what is written
// now could not be read back.
func (f *failure) refusal() bool {
	return slices.Contains(refusals, f.class)
}

// elsewhere tells whether a replica of the key in another Region may do better.
func (f *failure) elsewhere() bool {
	switch f.class {
	case classUnreachable, classTimeout, classKMSFault, classThrottled:
		return true
	}
	return false
}

// aside tells whether a failure of DescribeKey says nothing against the key: the
// other calls may do.
func (f *failure) aside() bool {
	switch f.class {
	case classPermissionDenied, classThrottled, classRefused, classKMSFault:
		return true
	}
	return false
}

// ofKMS tells whether a call failed for KMS, the key or the way to it, and not
// for what its caller gave or did.
func (f *failure) ofKMS() bool {
	return slices.Contains(probeClasses, f.class)
}

func invalid(text string) *failure {
	return &failure{class: classInvalidArgument, code: codes.InvalidArgument, text: text}
}

// The states that both DescribeKey and the errors of the other calls can tell.
func disabled() *failure {
	return &failure{class: classDisabled, code: codes.FailedPrecondition,
		text: "the KMS key is disabled: enable it with kms:EnableKey"}
}

func pendingDeletion(at *time.Time) *failure {
	f := &failure{class: classPendingDeletion, code: codes.FailedPrecondition,
		text: "the KMS key is pending deletion: cancel it with kms:CancelKeyDeletion, then kms:EnableKey; when the waiting period ends, everything encrypted under it is lost"}
	if at != nil {
		f.deletion = at.UTC()
	}
	return f
}

// when says when the key will be deleted. KMS names no time for a multi-Region
// primary key that waits for its replicas to be deleted first.
func (f *failure) when() string {
	if f.deletion.IsZero() {
		return "when its waiting period ends"
	}
	return "on " + f.deletion.Format(time.RFC3339)
}

func badState(state string) *failure {
	return &failure{class: classInvalidState, code: codes.FailedPrecondition,
		text: "the KMS key is in state " + state + ", which allows no encryption: see the key's state in AWS KMS"}
}

// stateFailure judges DescribeKey's answer.
func stateFailure(m *types.KeyMetadata) *failure {
	switch {
	case m.KeyState == types.KeyStateDisabled:
		return disabled()
	case m.KeyState == types.KeyStatePendingDeletion, m.KeyState == types.KeyStatePendingReplicaDeletion:
		return pendingDeletion(m.DeletionDate)
	case m.KeyState == types.KeyStateUnavailable:
		return &failure{class: classKeyStore, code: codes.Unavailable,
			text: "the key's custom key store is not connected: see its connection state, and kms:ConnectCustomKeyStore"}
	case m.KeyState != types.KeyStateEnabled && m.KeyState != types.KeyStateUpdating:
		// Updating, while a multi-Region key changes its primary, leaves
		// encryption and decryption alone.
		return badState(string(m.KeyState))
	case m.KeySpec != types.KeySpecSymmetricDefault || m.KeyUsage != types.KeyUsageTypeEncryptDecrypt:
		return wrongKeyType()
	}
	return nil
}

func wrongKeyType() *failure {
	return &failure{class: classWrongKeyType, code: codes.FailedPrecondition,
		text: "the KMS key is not a symmetric key for encryption and decryption: name a key of spec SYMMETRIC_DEFAULT"}
}

// classify turns an error of a KMS call into a failure. caller is the context
// of who waits for it, without the plugin's own time limits: who gave up decides
// whom the answer blames.
func classify(caller context.Context, op string, err error) *failure {
	f := classOf(caller, op, err)
	f.op = op
	var creds credentialsError
	if errors.As(err, &creds) {
		return f // its code and request ID are not KMS's
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		f.awsCode = bare(api.ErrorCode())
	}
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) {
		f.requestID = bare(resp.ServiceRequestID())
	}
	return f
}

func classOf(caller context.Context, op string, err error) *failure {
	switch {
	case errors.Is(caller.Err(), context.Canceled):
		return &failure{class: classCanceled, code: codes.Canceled, text: "the caller canceled the request"}
	case errors.Is(caller.Err(), context.DeadlineExceeded):
		return callersDeadline()
	}

	var creds credentialsError
	if errors.As(err, &creds) {
		return &failure{class: classNoCredentials, code: codes.Unauthenticated,
			text: "no AWS credentials: check the Pod Identity association (or role, or profile) of the plugin's service account, and that the credentials endpoint can be reached"}
	}

	var (
		off        *types.DisabledException
		state      *types.KMSInvalidStateException
		api        smithy.APIError
		incorrect  *types.IncorrectKeyException
		ciphertext *types.InvalidCiphertextException
		notFound   *types.NotFoundException
		store      *types.KeyUnavailableException
	)
	switch {
	case errors.As(err, &off):
		return disabled()
	case errors.As(err, &state):
		// The state itself is only in the message's prose: the next probe's
		// DescribeKey names it.
		return &failure{class: classInvalidState, code: codes.FailedPrecondition,
			text: "the KMS key is in a state that allows no " + op + ": it may be pending deletion or pending import; see the key's state in AWS KMS"}
	case errors.As(err, &incorrect):
		return &failure{class: classInvalidCiphertext, code: codes.InvalidArgument,
			text: "the ciphertext was made by another KMS key"}
	case errors.As(err, &ciphertext):
		return &failure{class: classInvalidCiphertext, code: codes.InvalidArgument,
			text: "AWS KMS can't read the ciphertext: it was altered or cut, or made under another encryption context"}
	case errors.As(err, &notFound):
		return &failure{class: classNotFound, code: codes.NotFound,
			text: "AWS KMS knows no such key: check account, Region and ID in the key ARN, and whether the key was deleted"}
	case errors.As(err, &store):
		return &failure{class: classKeyStore, code: codes.Unavailable,
			text: "the key's backing store does not answer: retry, and check the custom key store if the key is in one"}
	case errors.As(err, &api) && api.ErrorCode() != noCode:
		return classOfCode(op, api, err)
	}

	var network net.Error
	timedOut := errors.As(err, &network) && network.Timeout()
	if timedOut || errors.Is(err, context.DeadlineExceeded) {
		return &failure{class: classTimeout, code: codes.Unavailable,
			text: "AWS KMS did not answer in time: check route, security groups, network policy and the VPC endpoint for kms, which drop packets silently"}
	}
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) && resp.HTTPStatusCode() > 0 { // it has one of 0 where nobody answered
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return &failure{class: classUnreachable, code: codes.Unavailable,
				text: "AWS KMS's answer was cut off: check proxies and the network to the KMS endpoint"}
		}
		return classOfStatus(op, resp.HTTPStatusCode())
	}
	return unreachable(err)
}

// classOfStatus judges an answer that is no answer of KMS's but for its status:
// KMS's errors are JSON with a code.
func classOfStatus(op string, code int) *failure {
	switch {
	case code == http.StatusTooManyRequests:
		return throttled()
	case code >= http.StatusInternalServerError:
		return kmsFault()
	case code < http.StatusMultipleChoices:
		return incomplete(op)
	}
	return &failure{class: classUnreachable, code: codes.Unavailable,
		text: fmt.Sprintf("something else than AWS KMS answers at its endpoint, with HTTP status %d: check the endpoint's URL, proxies and DNS", code)}
}

// maxWord is the longest request ID or error code that is passed on.
const maxWord = 64

// bare takes a request ID or an error code of what answered as KMS, as far as
// it looks like one.
func bare(word string) string {
	word = strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, word[:min(len(word), 4*maxWord)])
	return word[:min(len(word), maxWord)]
}

// unreachable tells the usual reasons apart. The error's own words stay out: they
// hold addresses at best.
func unreachable(err error) *failure {
	text := "AWS KMS can't be reached: check DNS, route, proxy, security groups, network policy and the VPC endpoint for kms"
	var (
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		notTLS      tls.RecordHeaderError
	)
	switch {
	case outOfFiles(err), errors.As(err, &dns) && outOfFiles(tryFile()):
		text = "no file descriptor is left for a connection to AWS KMS: raise the limit of open files (ulimit -n, LimitNOFILE); the plugin needs about 400"
	case errors.As(err, &dns):
		text = "the name of the KMS endpoint can't be resolved: check the Region, DNS, and whether network policy lets DNS out"
	case errors.As(err, &certificate), errors.As(err, &notTLS):
		text = "the KMS endpoint has no certificate that is trusted here: check for proxies that break TLS open, and the CA certificates"
	case errors.Is(err, syscall.ECONNREFUSED):
		text = "the KMS endpoint refuses connections: check its URL, proxies, and the VPC endpoint for kms"
	}
	return &failure{class: classUnreachable, code: codes.Unavailable, text: text}
}

// noCode is what the SDK calls the error of an answer that names none.
const noCode = "UnknownError"

func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// tryFile opens a file: Go's resolver says "no such host" where it can't.
func tryFile() error {
	f, err := os.Open(os.DevNull)
	if err == nil {
		err = f.Close()
	}
	return err
}

func callersDeadline() *failure {
	return &failure{class: classDeadline, code: codes.DeadlineExceeded, text: "the caller's deadline passed before AWS KMS answered"}
}

func classOfCode(op string, api smithy.APIError, err error) *failure {
	switch api.ErrorCode() {
	case "AccessDeniedException":
		return permissionDenied(op)
	case "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "LimitExceededException":
		return throttled()
	case "ExpiredTokenException", "ExpiredToken":
		return &failure{class: classExpiredCredentials, code: codes.Unauthenticated,
			text: "the plugin's AWS credentials have expired: check that their source (Pod Identity agent, web identity token, instance metadata) still renews them"}
	case "UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationTokenException", "MissingAuthenticationToken":
		return &failure{class: classBadCredentials, code: codes.Unauthenticated,
			text: "AWS does not know the plugin's credentials: check their source and that the role still exists"}
	case "RequestExpired", "RequestTimeTooSkewed":
		return clockSkew()
	case "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature":
		if tooSkewed(err) || strings.Contains(api.ErrorMessage(), "Signature expired") || strings.Contains(api.ErrorMessage(), "Signature not yet current") {
			return clockSkew()
		}
		return &failure{class: classBadCredentials, code: codes.Unauthenticated,
			text: "AWS refuses the request's signature: check the secret access key, and proxies that change requests"}
	case "KMSInternalException", "DependencyTimeoutException", "ServiceUnavailable", "ServiceUnavailableException", "InternalFailure":
		return kmsFault()
	case "InvalidKeyUsageException":
		return wrongKeyType()
	}
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) && resp.HTTPStatusCode() >= 500 {
		return kmsFault()
	}
	return &failure{class: classRefused, code: codes.Internal,
		text: "AWS KMS refused kms:" + op + ": look its request ID up in CloudTrail"}
}

func permissionDenied(op string) *failure {
	text := "the plugin's role may not call kms:" + op + ": allow it in the key policy for this role"
	if op == "GenerateDataKey" || op == "Decrypt" {
		text += ", under exactly the encryption context that the plugin was started with"
	}
	return &failure{class: classPermissionDenied, code: codes.PermissionDenied, text: text + "; kms-plugin doctor prints the statement"}
}

func kmsFault() *failure {
	return &failure{class: classKMSFault, code: codes.Unavailable,
		text: "AWS KMS has an internal fault: retry, and see the AWS Health Dashboard"}
}

func throttled() *failure {
	return &failure{class: classThrottled, code: codes.ResourceExhausted,
		text: "AWS KMS throttles this account: see the KMS request quotas of the Region, and who else uses them"}
}

func clockSkew() *failure {
	return &failure{class: classClockSkew, code: codes.Unauthenticated,
		text: "this node's clock is wrong, AWS takes signatures within five minutes only: check time synchronisation"}
}

// maxClockSkew is how far a signature's time may be off (AWS Signature
// Version 4).
const maxClockSkew = 5 * time.Minute

// tooSkewed compares the clock with the Date header of KMS's answer.
func tooSkewed(err error) bool {
	var resp *awshttp.ResponseError
	if !errors.As(err, &resp) || resp.Response == nil {
		return false
	}
	date, parseErr := http.ParseTime(resp.Response.Header.Get("Date"))
	return parseErr == nil && time.Since(date).Abs() > maxClockSkew
}
