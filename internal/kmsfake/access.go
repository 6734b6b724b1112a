package kmsfake

import (
	"maps"
	"net/http"
	"strings"
	"time"
)

const (
	amzDate       = "20060102T150405Z"
	dateTolerance = 5 * time.Minute
)

// access is guarded by the server's lock.
type access struct {
	context     map[string]string
	denied      map[denial]bool
	credentials map[string]credential // by access key ID; nil takes any
	dates       bool                  // whether the date of a signature counts
}

// denial is about every key where key is nil.
type denial struct {
	op  string
	key *Key
}

type credential struct {
	sessionToken string
	expires      time.Time
}

// RequireContext denies Encrypt, Decrypt and GenerateDataKey under any other
// encryption context, as a key policy with kms:EncryptionContext conditions
// does. Nil lifts it. (*Key).RequireContext is the same for one key.
func (s *Server) RequireContext(c map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.access.context = maps.Clone(c)
}

// Deny takes away the permission for an operation on a key, or on every key
// where k is nil: it answers with AccessDeniedException. For operations on
// aliases, k is the target.
func (s *Server) Deny(op string, k *Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.access.denied[denial{op, k}] = true
}

// Allow takes a Deny with the same arguments back.
func (s *Server) Allow(op string, k *Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.access.denied, denial{op, k})
}

// Credentials makes an access key known, with the session token that belongs to
// it if it is a temporary one, and an end unless expires is zero. A second call
// for the same access key replaces the first. Once one is known, no other is
// taken. Their secrets do not matter.
func (s *Server) Credentials(accessKeyID, sessionToken string, expires time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.access.credentials == nil {
		s.access.credentials = map[string]credential{}
	}
	s.access.credentials[accessKeyID] = credential{sessionToken: sessionToken, expires: expires}
}

// Revoke makes an access key unknown.
func (s *Server) Revoke(accessKeyID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.access.credentials == nil {
		s.access.credentials = map[string]credential{}
	}
	delete(s.access.credentials, accessKeyID)
}

// authenticate looks at who signed a request and when.
func (a *access) authenticate(h http.Header, now time.Time) *Error {
	if a.credentials == nil && !a.dates {
		return nil
	}
	_, scope, ok := strings.Cut(h.Get("Authorization"), "Credential=")
	if !ok {
		return failure("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	if a.dates {
		if fault := checkDate(h.Get("X-Amz-Date"), now); fault != nil {
			return fault
		}
	}
	if a.credentials == nil {
		return nil
	}
	accessKeyID, _, _ := strings.Cut(scope, "/")
	c, ok := a.credentials[accessKeyID]
	switch {
	case !ok || c.sessionToken != h.Get("X-Amz-Security-Token"):
		return failure("UnrecognizedClientException", "The security token included in the request is invalid.")
	case !c.expires.IsZero() && !now.Before(c.expires):
		return failure("ExpiredTokenException", "The security token included in the request is expired")
	}
	return nil
}

func checkDate(header string, now time.Time) *Error {
	signed, err := time.Parse(amzDate, header)
	if err != nil {
		return failure("IncompleteSignatureException", "Date must be in ISO-8601 'basic format'. Got '%s'.", header)
	}
	now = now.UTC().Truncate(time.Second)
	earliest, latest := now.Add(-dateTolerance), now.Add(dateTolerance)
	switch {
	case signed.Before(earliest):
		return failure("InvalidSignatureException", "Signature expired: %s is now earlier than %s (%s - 5 min.)",
			header, earliest.Format(amzDate), now.Format(amzDate))
	case signed.After(latest):
		return failure("InvalidSignatureException", "Signature not yet current: %s is still later than %s (%s + 5 min.)",
			header, latest.Format(amzDate), now.Format(amzDate))
	}
	return nil
}

// permitted looks for a Deny of an operation on keys, or without any.
func (s *Server) permitted(op string, keys ...*Key) *Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	denied := s.access.denied
	if len(denied) == 0 {
		return nil
	}
	for _, k := range append(keys, nil) {
		if denied[denial{op, k}] || denied[denial{"*", k}] {
			resource := "*"
			if len(keys) > 0 {
				resource = keys[0].ARN
			}
			return accessDenied(op, resource)
		}
	}
	return nil
}

// contextAllowed holds an encryption context against what is required of it.
func (s *Server) contextAllowed(op string, k *Key, required, context map[string]string) *Error {
	s.mu.Lock()
	everywhere := s.access.context
	s.mu.Unlock()
	for _, want := range [...]map[string]string{everywhere, required} {
		if want != nil && !maps.Equal(want, context) {
			return accessDenied(op, k.ARN)
		}
	}
	return nil
}

func accessDenied(op, resource string) *Error {
	return failure("AccessDeniedException", "User: arn:aws:sts::%s:assumed-role/test/session is not authorized to perform: kms:%s "+
		"on resource: %s because no resource-based policy allows the kms:%s action", account, op, resource, op)
}
