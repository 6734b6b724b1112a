// Package iampolicy is a typed IAM policy document.
//
// It knows the elements that this project writes. A document that holds an
// element it does not know is refused when it is read, so that nothing is lost
// or overlooked on the way through.
package iampolicy

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Version is the version of the policy language, the only one in use since 2012.
const Version = "2012-10-17"

// Effect is what a statement does with a request that it matches.
type Effect string

// The two effects that IAM has.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Document is a policy: a key policy, a trust policy, a bucket or topic policy.
type Document struct {
	Version   string      `json:"Version"`
	ID        string      `json:"Id,omitempty"`
	Statement []Statement `json:"Statement"`
}

// Statement is one rule of a policy.
type Statement struct {
	// Sid names the statement. It is unique within a document.
	Sid       string    `json:"Sid,omitempty"`
	Effect    Effect    `json:"Effect"`
	Principal Principal `json:"Principal,omitzero"`
	Action    Values    `json:"Action"`
	Resource  Values    `json:"Resource,omitempty"`
	Condition Condition `json:"Condition,omitempty"`
}

// Principal says who a statement is about. The zero value is none, as in an
// identity policy, where the principal is whoever holds the policy.
type Principal struct {
	// AWS holds ARNs of roles, users and account roots, or "*".
	AWS Values `json:"AWS,omitempty"`
	// Service holds service principals, such as cloudtrail.amazonaws.com.
	Service Values `json:"Service,omitempty"`
	// Federated holds identity providers.
	Federated Values `json:"Federated,omitempty"`
}

// Condition maps an operator, such as StringEquals, to condition keys and the
// values of which one must match.
type Condition map[string]map[string]Values

// Values is one string or a list of strings, as IAM writes both.
type Values []string

// MarshalJSON writes a single value as a plain string, as IAM does.
func (v Values) MarshalJSON() ([]byte, error) {
	if len(v) == 1 {
		return json.Marshal(v[0])
	}
	return json.Marshal([]string(v))
}

// UnmarshalJSON reads a string or a list of strings.
func (v *Values) UnmarshalJSON(data []byte) error {
	var one string
	if err := json.Unmarshal(data, &one); err == nil {
		*v = Values{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(data, &many); err != nil {
		return fmt.Errorf("want a string or a list of strings, got %s", data)
	}
	*v = many
	return nil
}

// UnmarshalJSON reads the object form and the short form "*", which stands for
// everybody, signed in or not.
func (p *Principal) UnmarshalJSON(data []byte) error {
	if bytes.Equal(bytes.TrimSpace(data), []byte(`"*"`)) {
		*p = Principal{AWS: Values{"*"}}
		return nil
	}
	type plain Principal
	return decodeStrict(data, (*plain)(p))
}

// NewDocument returns a document that holds the statements.
func NewDocument(statements ...Statement) Document {
	return Document{Version: Version, Statement: statements}
}

// Parse reads a policy in JSON. An element that it does not know, such as
// NotAction, is an error.
func Parse(data []byte) (Document, error) {
	var doc Document
	if err := decodeStrict(data, &doc); err != nil {
		return Document{}, fmt.Errorf("policy: %w", err)
	}
	return doc, nil
}

func decodeStrict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return fmt.Errorf("unexpected data after the policy")
	}
	return nil
}

// Map returns the statement as plain maps and slices, the shape in which other
// renderers take it.
func (s Statement) Map() map[string]any {
	data, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("iampolicy: a statement of strings does not marshal: %v", err))
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		panic(fmt.Sprintf("iampolicy: a marshalled statement does not parse: %v", err))
	}
	return m
}

// OnResource returns the statement as an identity policy holds it: for one
// resource, and without a principal.
func (s Statement) OnResource(arn string) Statement {
	s.Principal = Principal{}
	s.Resource = Values{arn}
	return s
}
