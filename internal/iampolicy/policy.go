// Package iampolicy is a typed IAM policy document, and what it means: [Evaluate]
// decides on a request to AWS KMS, and [Explain] says under which conditions a
// request is decided how.
//
// The package knows all elements of IAM's grammar that a key policy or an
// identity policy can have. A document that holds anything else is refused when
// it is read, and what can't be judged is an error when it is evaluated, so that
// nothing is lost, overlooked, or allowed in silence.
//
// Not looked at are what can only take away: service control policies, resource
// control policies, permissions boundaries, session policies and endpoint
// policies. And nothing here was compared with a live account: the sources are the
// IAM User Guide and the AWS KMS Developer Guide.
package iampolicy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Version is the version of the policy language, the only one in use since 2012.
const Version = "2012-10-17"

// versionWithoutVariables is the version before, and what a document without a
// Version has. Policy variables are plain text in it.
const versionWithoutVariables = "2008-10-17"

// Effect is what a statement does with a request that it matches.
type Effect string

// The two effects that IAM has.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Document is a policy: a key policy, a trust policy, a bucket or topic policy.
type Document struct {
	// Version of the policy language. In "2008-10-17", which is also what an empty
	// one means, policy variables such as ${aws:username} are plain text.
	Version   string     `json:"Version"`
	ID        string     `json:"Id,omitempty"`
	Statement Statements `json:"Statement"`
}

// Statements are the rules of a policy. Read from JSON, one that is not in a list
// counts as a list of one, as in IAM.
type Statements []Statement

// Statement is one rule of a policy.
type Statement struct {
	// Sid names the statement. It is unique within a document.
	Sid    string `json:"Sid,omitempty"`
	Effect Effect `json:"Effect"`
	// At most one of Principal and NotPrincipal.
	Principal    Principal `json:"Principal,omitzero"`
	NotPrincipal Principal `json:"NotPrincipal,omitzero"`
	// One of Action and NotAction.
	Action    Values `json:"Action,omitempty"`
	NotAction Values `json:"NotAction,omitempty"`
	// At most one of Resource and NotResource.
	Resource    Values    `json:"Resource,omitempty"`
	NotResource Values    `json:"NotResource,omitempty"`
	Condition   Condition `json:"Condition,omitempty"`
}

// Principal says who a statement is about. The zero value is none, as in an
// identity policy, where the principal is the one that holds the policy.
type Principal struct {
	// AWS holds ARNs of roles, users, sessions and account roots, account IDs, or
	// "*".
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

// UnmarshalJSON reads a list, or one statement that is not in a list.
func (s *Statements) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		var one Statement
		if err := decodeStrict(data, &one); err != nil {
			return err
		}
		*s = Statements{one}
		return nil
	}
	return decodeStrict(data, (*[]Statement)(s))
}

// UnmarshalJSON reads values that are strings, booleans or numbers, or lists of
// them: IAM takes true for "true". They are strings from then on.
func (c *Condition) UnmarshalJSON(data []byte) error {
	var lenient map[string]map[string]scalars
	if err := json.Unmarshal(data, &lenient); err != nil {
		return err
	}
	*c = make(Condition, len(lenient))
	for operator, keys := range lenient {
		(*c)[operator] = make(map[string]Values, len(keys))
		for key, values := range keys {
			(*c)[operator][key] = Values(values)
		}
	}
	return nil
}

type scalars Values

func (s *scalars) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return err
	}
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	}
	for _, v := range list {
		switch v.(type) {
		case string, bool, json.Number:
			*s = append(*s, fmt.Sprint(v))
		default:
			return fmt.Errorf("want strings, booleans or numbers, got %s", data)
		}
	}
	if len(*s) == 0 {
		return fmt.Errorf("want at least one value, got %s", data)
	}
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
	if p.none() {
		return fmt.Errorf("want \"*\" or an object that names a principal, got %s", data)
	}
	return nil
}

func (p Principal) none() bool { return p.AWS == nil && p.Service == nil && p.Federated == nil }

// NewDocument returns a document that holds the statements.
func NewDocument(statements ...Statement) Document {
	return Document{Version: Version, Statement: statements}
}

// Parse reads a policy in JSON. Whatever could be lost or overlooked is an
// error: an element that it does not know, an element that is given twice or
// beside its negation, a version that is none, a null, an effect that IAM does not have, data after the end.
func Parse(data []byte) (Document, error) {
	doc, err := parse(data)
	if err != nil {
		return Document{}, fmt.Errorf("policy: %w", plainly(err))
	}
	return doc, nil
}

// plainly says what is wrong with a policy in words of policies, not of encoding/json.
func plainly(err error) error {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch element, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); {
	case unknown:
		return fmt.Errorf("%s is no element of a policy", element)
	case errors.As(err, &kind):
		return fmt.Errorf("%s is a JSON %s, which it can't be", cmp.Or(strings.TrimPrefix(kind.Field, "Document."), "the policy"), kind.Value)
	case errors.As(err, &syntax):
		return fmt.Errorf("is not valid JSON, at byte %d", syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("is not valid JSON: it ends too early")
	}
	return err
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
	return doc, doc.wellFormed()
}

// wellFormed checks what holds for every kind of policy.
func (d Document) wellFormed() error {
	if d.Version != "" && d.Version != Version && d.Version != versionWithoutVariables {
		return fmt.Errorf("the version is %q, must be %s", d.Version, Version)
	}
	for i, s := range d.Statement {
		if err := s.wellFormed(); err != nil {
			return fmt.Errorf("statement %d: %w", i+1, err)
		}
	}
	return nil
}

func (s Statement) wellFormed() error {
	switch {
	case s.Effect != Allow && s.Effect != Deny:
		return fmt.Errorf("Effect is %q, must be Allow or Deny", s.Effect)
	case s.Action == nil && s.NotAction == nil:
		return errors.New("has no Action")
	case s.Action != nil && s.NotAction != nil:
		return errors.New("has Action and NotAction, must have one of them")
	case s.Resource != nil && s.NotResource != nil:
		return errors.New("has Resource and NotResource, must have one of them")
	case !s.Principal.none() && !s.NotPrincipal.none():
		return errors.New("has Principal and NotPrincipal, must have one of them")
	}
	return nil
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

// OnResource is [Statement.OnResource] of each statement. What it is given is left
// as it is.
func OnResource(statements []Statement, arn string) []Statement {
	own := make([]Statement, len(statements))
	for i, s := range statements {
		own[i] = s.OnResource(arn)
	}
	return own
}
