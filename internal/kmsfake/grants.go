package kmsfake

import (
	"encoding/hex"
	"maps"
	"slices"
	"time"
)

const (
	// Grants in one answer to ListGrants (KMS API reference, ListGrants).
	defaultGrantLimit = 50
	maxGrantLimit     = 100
)

// grantOperations are those that a grant on a symmetric key may permit.
var grantOperations = []string{
	"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo",
	"CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext",
}

// Grant lets a principal use a key. It is on record only: nothing here asks who
// signs a request, so no grant allows or forbids anything.
type Grant struct {
	Name              string
	GranteePrincipal  string
	RetiringPrincipal string
	Operations        []string
	// Context must be the encryption context of each operation
	// (EncryptionContextEquals). Nil is no constraint.
	Context map[string]string
	// Service says that GranteePrincipal was given as GranteeServicePrincipal,
	// which only AWS's own services may do. ListGrants then names the grantee
	// there, and no filter of another caller finds it.
	Service bool
}

// grant is a Grant with what KMS adds.
type grant struct {
	Grant
	id      string
	created time.Time
}

type (
	constraints struct {
		EncryptionContextEquals map[string]string `json:"EncryptionContextEquals,omitempty"`
		EncryptionContextSubset map[string]string `json:"EncryptionContextSubset,omitempty"`
	}

	grantEntry struct {
		KeyID                   string       `json:"KeyId"`
		GrantID                 string       `json:"GrantId"`
		Name                    string       `json:"Name,omitempty"`
		CreationDate            *float64     `json:"CreationDate"`
		GranteePrincipal        string       `json:"GranteePrincipal,omitempty"`
		GranteeServicePrincipal string       `json:"GranteeServicePrincipal,omitempty"`
		RetiringPrincipal       string       `json:"RetiringPrincipal,omitempty"`
		IssuingAccount          string       `json:"IssuingAccount"`
		Operations              []string     `json:"Operations"`
		Constraints             *constraints `json:"Constraints,omitempty"`
	}

	listGrantsAnswer struct {
		Grants     []grantEntry
		NextMarker string `json:"NextMarker,omitempty"`
		Truncated  bool
	}

	createGrantAnswer struct {
		GrantID    string `json:"GrantId"`
		GrantToken string
	}
)

// Grant adds a grant to the key, whatever the key's state, and returns its ID.
func (k *Key) Grant(g Grant) (id string) {
	k.family.mu.Lock()
	defer k.family.mu.Unlock()
	return k.grant(g)
}

func (k *Key) grant(g Grant) (id string) {
	g.Operations, g.Context = slices.Clone(g.Operations), maps.Clone(g.Context)
	id = hex.EncodeToString(randomBytes(32))
	k.grants = append(k.grants, grant{g, id, k.srv.now()})
	return id
}

// Revoke takes a grant away from the key, and tells whether it had it.
func (k *Key) Revoke(id string) bool {
	k.family.mu.Lock()
	defer k.family.mu.Unlock()
	before := len(k.grants)
	k.grants = slices.DeleteFunc(k.grants, func(g grant) bool { return g.id == id })
	return len(k.grants) < before
}

func (s *Server) createGrant(_ string, k *Key, req *request) (any, *Error) {
	if req.GranteePrincipal == "" || len(req.Operations) == 0 {
		return nil, failure("ValidationException", "1 validation error detected: granteePrincipal and operations must not be empty")
	}
	for _, op := range req.Operations {
		if !slices.Contains(grantOperations, op) {
			return nil, failure("ValidationException", "1 validation error detected: Value '%s' at 'operations' failed to satisfy constraint", op)
		}
	}
	g := Grant{Name: req.Name, GranteePrincipal: req.GranteePrincipal, RetiringPrincipal: req.RetiringPrincipal, Operations: req.Operations}
	if req.Constraints != nil {
		g.Context = req.Constraints.EncryptionContextEquals
	}
	k.family.mu.Lock()
	defer k.family.mu.Unlock()
	if fault := k.usable(); fault != nil {
		return nil, fault
	}
	// A request that was sent twice makes one grant, if it has a name.
	id := ""
	for _, old := range k.grants {
		if g.Name != "" && g.same(old.Grant) {
			id = old.id
		}
	}
	if id == "" {
		id = k.grant(g)
	}
	return createGrantAnswer{GrantID: id, GrantToken: hex.EncodeToString(randomBytes(16))}, nil
}

func (g Grant) same(o Grant) bool {
	return g.Name == o.Name && g.GranteePrincipal == o.GranteePrincipal && g.RetiringPrincipal == o.RetiringPrincipal &&
		g.Service == o.Service && slices.Equal(g.Operations, o.Operations) && maps.Equal(g.Context, o.Context)
}

// listGrants works in every state of a key (KMS developer guide, key states).
func (s *Server) listGrants(_ string, k *Key, req *request) (any, *Error) {
	limit := defaultGrantLimit
	if req.Limit != nil {
		limit = *req.Limit
	}
	if limit < 1 || limit > maxGrantLimit {
		return nil, failure("ValidationException", "1 validation error detected: Value '%d' at 'limit' failed to satisfy constraint: "+
			"Member must have value between 1 and %d", limit, maxGrantLimit)
	}
	if req.GranteeServicePrincipal != "" {
		return nil, failure("ValidationException", "granteeServicePrincipal is for callers in a service principal")
	}
	k.family.mu.RLock()
	defer k.family.mu.RUnlock()
	from := 0
	if req.Marker != "" {
		if from = 1 + slices.IndexFunc(k.grants, func(g grant) bool { return g.id == req.Marker }); from == 0 {
			return nil, failure("InvalidMarkerException", "Could not deserialize marker")
		}
	}
	answer := listGrantsAnswer{Grants: []grantEntry{}}
	for i, g := range k.grants[from:] {
		if req.GrantID != "" && g.id != req.GrantID || req.GranteePrincipal != "" && (g.Service || g.GranteePrincipal != req.GranteePrincipal) {
			continue
		}
		if len(answer.Grants) == limit {
			// The one before: markers need not be of grants that match.
			answer.Truncated, answer.NextMarker = true, k.grants[from+i-1].id
			break
		}
		answer.Grants = append(answer.Grants, g.entry(k.ARN))
	}
	return answer, nil
}

func (g grant) entry(keyARN string) grantEntry {
	e := grantEntry{
		KeyID: keyARN, GrantID: g.id, Name: g.Name, CreationDate: seconds(g.created), GranteePrincipal: g.GranteePrincipal,
		RetiringPrincipal: g.RetiringPrincipal, IssuingAccount: "arn:aws:iam::" + account + ":root", Operations: g.Operations,
	}
	if g.Service {
		e.GranteePrincipal, e.GranteeServicePrincipal = "", g.GranteePrincipal
	}
	if g.Context != nil {
		e.Constraints = &constraints{EncryptionContextEquals: g.Context}
	}
	return e
}

func (s *Server) revokeGrant(_ string, k *Key, req *request) (any, *Error) {
	if !k.Revoke(req.GrantID) {
		return nil, failure("NotFoundException", "Grant '%s' does not exist", req.GrantID)
	}
	return nil, nil
}
