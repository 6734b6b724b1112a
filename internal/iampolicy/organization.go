package iampolicy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ofResources tells that a policy of an organization is a resource control policy: its
// statements have a Principal, which those of a service control policy do not have.
func (d Document) ofResources() bool {
	return slices.ContainsFunc(d.Statement, func(s Statement) bool { return !s.Principal.none() || !s.NotPrincipal.none() })
}

// OfOrganization finds what AWS Organizations would not take in a service control policy
// or a resource control policy, or what is not understood.
//
// Source: AWS Organizations User Guide, "SCP syntax" and "RCP syntax".
func (d NamedDocument) OfOrganization() (NamedDocument, error) {
	for i, s := range d.Statement {
		var err error
		switch everything := s.Effect == Allow && slices.Equal(s.Action, Values{"*"}) && slices.Equal(s.Resource, Values{"*"}) && s.Condition == nil; {
		case !d.ofResources():
		case !slices.Equal(s.Principal.AWS, Values{"*"}) || s.Principal.Service != nil || s.Principal.Federated != nil:
			err = errors.New(`must have the Principal "*", as all statements of a resource control policy`)
		case s.Effect == Allow && !everything:
			err = errors.New("has the Effect Allow, which only the resource control policy RCPFullAWSAccess has")
		}
		if err != nil {
			return d, fmt.Errorf("%s: statement %d: %w", d.Name, i+1, err)
		}
	}
	return d.Checked(d.ofResources())
}

// underRCP are services whose resources RCPs limit, of those that are asked about.
//
// Source: AWS Organizations User Guide, "Resource control policies", list of services.
var underRCP = []string{"kms", "s3", "sts"}

// limits finds what the organization of the key's account denies, and, if it has a list of
// what is allowed to the caller, those of the list that are about the request.
//
// An SCP limits the account's own principals, its root too; an RCP everybody who comes to
// the account's resources, AWS services too. Neither limits service-linked roles, nor an
// RCP kms:RetireGrant. Sources: AWS Organizations User Guide, "Service control policies"
// and "Resource control policies".
func (j *judge) limits() (denies, allows []match, listed bool, err error) {
	if j.caller.serviceLinked() {
		return nil, nil, false, nil
	}
	of, _, _ := strings.Cut(j.action.Name, ":")
	for _, d := range j.policies.Organization {
		rcp := d.ofResources()
		if rcp && (j.action.Name == retireGrant || !slices.Contains(underRCP, of)) || !rcp && (!j.sameAccount() || j.caller.kind == service) {
			continue
		}
		found, err := j.matches(d, Deny)
		if err != nil {
			return nil, nil, false, err
		}
		denies = append(denies, found...)
		if rcp {
			continue
		}
		listed = listed || slices.ContainsFunc(d.Statement, func(s Statement) bool { return s.Effect == Allow })
		if found, err = j.matches(d, Allow); err != nil {
			return nil, nil, false, err
		}
		allows = append(allows, found...)
	}
	return denies, allows, listed, nil
}

// serviceLinked tells whether the caller is a service-linked role, whose path nobody else
// may give. Of a session whose role's path is not known, its name tells.
func (w who) serviceLinked() bool {
	if w.kind != role && w.kind != session {
		return false
	}
	return strings.Contains(w.role, ":role/aws-service-role/") || strings.HasSuffix(w.role, ":role/"+w.name) && strings.HasPrefix(w.name, "AWSServiceRoleFor")
}
