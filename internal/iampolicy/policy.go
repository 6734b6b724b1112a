// Package iampolicy is a typed IAM policy document.
//
// It knows the elements that this project writes. A document that holds an
// element it does not know is refused when it is read, so that nothing is lost
// or overlooked on the way through.
package iampolicy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
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

// UnmarshalJSON reads a string or a list of strings. IAM takes an empty list,
// but a statement with one matches nothing: it is refused as a mistake.
func (v *Values) UnmarshalJSON(data []byte) error {
	var one string
	if err := json.Unmarshal(data, &one); err == nil {
		*v = Values{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(data, &many); err != nil || len(many) == 0 {
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
	if err := decodeStrict(data, (*plain)(p)); err != nil {
		return err
	}
	if p.AWS == nil && p.Service == nil && p.Federated == nil {
		return fmt.Errorf("want \"*\" or an object that names a principal, got %s", data)
	}
	return nil
}

// NewDocument returns a document that holds the statements.
func NewDocument(statements ...Statement) Document {
	return Document{Version: Version, Statement: statements}
}

// Parse reads a policy in JSON. Whatever could be lost or overlooked is an
// error: an element that it does not know, such as NotAction, an element that
// is given twice, a null, an effect that IAM does not have, data after the end.
func Parse(data []byte) (Document, error) {
	doc, err := parse(data)
	if err != nil {
		return Document{}, fmt.Errorf("policy: %w", err)
	}
	return doc, nil
}

func parse(data []byte) (doc Document, err error) {
	if err := decodeStrict(data, &doc); err != nil {
		return Document{}, err
	}
	if err := unambiguous(data); err != nil {
		return Document{}, err
	}
	if len(doc.Statement) == 0 {
		return Document{}, errors.New("has no statement")
	}
	for i, s := range doc.Statement {
		if s.Effect != Allow && s.Effect != Deny {
			return Document{}, fmt.Errorf("statement %d: Effect is %q, must be Allow or Deny", i+1, s.Effect)
		}
		if s.Action == nil {
			return Document{}, fmt.Errorf("statement %d: has no Action", i+1)
		}
	}
	return doc, nil
}

func decodeStrict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// unambiguous finds what encoding/json passes over in silence: of two keys that
// it takes for the same element the last one wins, a null leaves a zero value,
// and a decoder stops reading at the end of the first value.
func unambiguous(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := unambiguousValue(d); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("unexpected data after the policy")
	}
	return nil
}

func unambiguousValue(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	if token == nil {
		return errors.New("null is no value of a policy")
	}
	if token != json.Delim('{') && token != json.Delim('[') {
		return nil
	}
	keys := map[string]bool{}
	for d.More() {
		if token == json.Delim('{') {
			key, err := d.Token()
			if err != nil {
				return err
			}
			// encoding/json finds the field of a key without regard to case.
			name := strings.ToLower(strings.ToUpper(key.(string)))
			if keys[name] {
				return fmt.Errorf("%q is given twice", key)
			}
			keys[name] = true
		}
		if err := unambiguousValue(d); err != nil {
			return err
		}
	}
	_, err = d.Token() // the closing bracket
	return err
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
