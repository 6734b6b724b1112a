package kmsfake

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

const contentType = "application/x-amz-json-1.1"

// errCut is a connection that ends without an answer.
var errCut = &net.OpError{Op: "read", Net: "tcp", Err: io.ErrUnexpectedEOF}

// request has the parameters of every operation. Blobs travel as base64, which
// encoding/json does for byte slices.
type request struct {
	KeyID               string            `json:"KeyId"`
	Plaintext           []byte            `json:"Plaintext"`
	CiphertextBlob      []byte            `json:"CiphertextBlob"`
	EncryptionContext   map[string]string `json:"EncryptionContext"`
	NumberOfBytes       *int              `json:"NumberOfBytes"`
	KeySpec             string            `json:"KeySpec"`
	KeyUsage            string            `json:"KeyUsage"`
	Origin              string            `json:"Origin"`
	MultiRegion         bool              `json:"MultiRegion"`
	Description         string            `json:"Description"`
	PendingWindowInDays *int              `json:"PendingWindowInDays"`
	AliasName           string            `json:"AliasName"`
	TargetKeyID         string            `json:"TargetKeyId"`
	ReplicaRegion       string            `json:"ReplicaRegion"`

	Name                    string       `json:"Name"`
	GrantID                 string       `json:"GrantId"`
	GranteePrincipal        string       `json:"GranteePrincipal"`
	GranteeServicePrincipal string       `json:"GranteeServicePrincipal"`
	RetiringPrincipal       string       `json:"RetiringPrincipal"`
	Operations              []string     `json:"Operations"`
	Constraints             *constraints `json:"Constraints"`
	Limit                   *int         `json:"Limit"`
	Marker                  string       `json:"Marker"`
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

// ServeHTTP answers one request. A cut ends in http.ErrAbortHandler, with which
// an http.Server closes the connection.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rep, err := s.reply(r)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	for name, values := range rep.header {
		w.Header()[name] = values
	}
	w.WriteHeader(rep.status)
	_, _ = w.Write(rep.body) // a client that is gone misses nothing
}

// RoundTripper answers requests in process, in the goroutine that sends them,
// without a network. Under testing/synctest it takes no time but what Latency
// says. A request whose context ends while it waits fails as it would on a
// connection, and one that is cut fails with a net.OpError.
func (s *Server) RoundTripper() http.RoundTripper { return roundTripper{s} }

type roundTripper struct{ s *Server }

func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	if r.Context().Err() != nil {
		return nil, context.Cause(r.Context())
	}
	rep, err := t.s.reply(r)
	if err != nil {
		return nil, err
	}
	if r.Context().Err() != nil {
		return nil, context.Cause(r.Context()) // the client did not wait for it
	}
	rep.header.Set("Content-Length", strconv.Itoa(len(rep.body)))
	return &http.Response{
		Status:        strconv.Itoa(rep.status) + " " + http.StatusText(rep.status),
		StatusCode:    rep.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        rep.header,
		Body:          io.NopCloser(bytes.NewReader(rep.body)),
		ContentLength: int64(len(rep.body)),
		Request:       r,
	}, nil
}

// reply works on a request. An error means that its connection ends.
func (s *Server) reply(r *http.Request) (reply, error) {
	s.counters.enter()
	defer s.counters.leave()

	requestID := hex.EncodeToString(randomBytes(16))
	answer, err := s.answer(r, requestID)
	status := http.StatusOK
	if fault := (*faultError)(nil); errors.As(err, &fault) {
		status = cmp.Or(fault.fault.Status, http.StatusBadRequest)
		answer = map[string]string{"__type": fault.fault.Code, "message": fault.fault.Message}
	} else if err != nil {
		return reply{}, err
	}
	rep := reply{status: status, header: http.Header{
		"Content-Type":     {contentType},
		"X-Amzn-Requestid": {requestID},
		// Last, as AWS stamps what it sends: the SDK compares it with the time
		// at which it arrives.
		"Date": {s.now().UTC().Format(http.TimeFormat)},
	}}
	if answer != nil {
		if rep.body, err = json.Marshal(answer); err != nil {
			return reply{}, err
		}
	}
	return rep, nil
}

// faultError is an Error on its way through functions that may also cut the
// connection.
type faultError struct{ fault *Error }

func (e *faultError) Error() string { return e.fault.Code }

func (s *Server) answer(r *http.Request, requestID string) (any, error) {
	var body []byte
	var err error
	if r.Body != nil {
		// To its end: only then does net/http watch for the client going away.
		body, err = io.ReadAll(io.LimitReader(r.Body, 1<<20))
	}
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	var req request
	if err != nil || !ok || json.Unmarshal(body, &req) != nil {
		return nil, &faultError{failure("SerializationException", "not a KMS request")}
	}

	now := s.now()
	s.mu.Lock()
	s.calls.add(Call{Op: op, KeyID: cmp.Or(req.KeyID, req.TargetKeyID), Context: req.EncryptionContext, RequestID: requestID})
	refusal := s.access.authenticate(r.Header, now)
	if refusal == nil {
		refusal = s.faults.throttled(now)
	}
	latency, before := s.faults.latency, s.faults.before
	s.mu.Unlock()

	if err := wait(r.Context(), latency); err != nil {
		return nil, err
	}
	if before != nil {
		before(op)
	}
	if refusal != nil {
		return nil, &faultError{refusal}
	}
	f := s.fate(op)
	switch {
	case f.hang:
		<-r.Context().Done()
		return nil, context.Cause(r.Context())
	case f.cut:
		return nil, errCut
	}
	var answer any
	if f.fail == nil {
		answer, f.fail = s.operate(op, &req)
	}
	s.record(op, &req, answer, f.fail, requestID)
	switch {
	case f.cutAfter:
		return nil, errCut
	case f.fail != nil:
		return nil, &faultError{f.fail}
	}
	return answer, nil
}
