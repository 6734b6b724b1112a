package iampolicy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

type kind int

const (
	accountRoot kind = iota
	user
	role
	session
	federatedUser
	service
)

// entity is a principal that an ARN, an account ID or a name stands for.
type entity struct {
	kind               kind
	partition, account string
	arn                string
	// name of a user, of a session's role, or of a federated user.
	name string
}

var (
	principalARN = regexp.MustCompile(`^arn:(aws[a-z-]*):(iam|sts)::(\d{12}):([a-z-]+)(?:/(.+))?$`)
	accountID    = regexp.MustCompile(`^\d{12}$`)
	// IAM puts the unique ID of a user or role for its ARN when it is deleted.
	uniqueID    = regexp.MustCompile(`^A[A-Z]{3}[A-Z0-9]{12,}$`)
	serviceName = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)
)

// parseEntity reads the ARN of a principal.
//
// Source: IAM User Guide, "AWS JSON policy elements: Principal".
func parseEntity(arn string) (entity, error) {
	m := principalARN.FindStringSubmatch(arn)
	if m == nil {
		return entity{}, fmt.Errorf("%q is no ARN of a principal, such as arn:aws:iam::111122223333:role/Name", arn)
	}
	e := entity{partition: m[1], account: m[3], arn: arn}
	switch path := strings.Split(m[5], "/"); {
	case strings.ContainsAny(arn, "*?"):
		return entity{}, fmt.Errorf("principal %q has a wildcard, which IAM takes only alone", arn)
	case slices.Contains(path, "") && m[4] != "root":
		return entity{}, fmt.Errorf("principal %q has no name", arn)
	case m[2] == "iam" && m[4] == "root" && m[5] == "":
		e.kind = accountRoot
	case m[2] == "iam" && m[4] == "user":
		e.kind, e.name = user, path[len(path)-1]
	case m[2] == "iam" && m[4] == "role":
		e.kind, e.name = role, path[len(path)-1]
	case m[2] == "sts" && m[4] == "assumed-role" && len(path) == 2:
		e.kind, e.name = session, path[0]
	case m[2] == "sts" && m[4] == "federated-user" && len(path) == 1:
		e.kind, e.name = federatedUser, path[0]
	default:
		return entity{}, fmt.Errorf("%q is not the ARN of an account root, a user, a role or a session", arn)
	}
	return e, nil
}

// who is a caller that is understood.
type who struct {
	entity
	// role is the ARN of the session's role, or of the role that stands for its
	// sessions. Empty for others.
	role     string
	provider string
}

func parseCaller(c Caller) (who, error) {
	if serviceName.MatchString(c.ARN) {
		if c.RoleARN != "" || c.Provider != "" {
			return who{}, fmt.Errorf("caller %s: a service has no role and no provider", c.ARN)
		}
		return who{entity: entity{kind: service, arn: c.ARN, name: c.ARN}}, nil
	}
	e, err := parseEntity(c.ARN)
	if err != nil {
		return who{}, fmt.Errorf("caller: %w", err)
	}
	w := who{entity: e, provider: c.Provider}
	switch e.kind {
	case role:
		w.role = e.arn
	case session:
		w.role = fmt.Sprintf("arn:%s:iam::%s:role/%s", e.partition, e.account, e.name)
	}
	if c.RoleARN == "" || c.RoleARN == w.role {
		return w, nil
	}
	own, err := parseEntity(c.RoleARN)
	if err != nil {
		return who{}, fmt.Errorf("caller's role: %w", err)
	}
	if e.kind != session || own.kind != role || own.account != e.account || own.partition != e.partition || own.name != e.name {
		return who{}, fmt.Errorf("caller %s is no session of %s", c.ARN, c.RoleARN)
	}
	w.role = own.arn
	return w, nil
}

// naming is how a statement names a caller.
type naming int

const (
	unnamed naming = iota
	// byAccount leaves it to the caller's account, which says more through its IAM
	// policies.
	byAccount
	// byName is by its own ARN, its role's, or "*".
	byName
)

// named tells how one value of Principal.AWS, or a grant, names the caller.
func (w who) named(value string) naming {
	switch {
	case value == "*", value == w.arn, w.role != "" && value == w.role:
		return byName
	case w.kind == service:
		return unnamed
	case value == w.account, value == "arn:"+w.partition+":iam::"+w.account+":root":
		return byAccount
	}
	return unnamed
}

// in tells how a Principal names the caller.
func (w who) in(p Principal) naming {
	if w.kind == service && slices.Contains(p.Service, w.arn) ||
		w.provider != "" && slices.Contains(p.Federated, w.provider) {
		return byName
	}
	how := unnamed
	for _, value := range p.AWS {
		how = max(how, w.named(value))
	}
	return how
}

// exempt tells whether a NotPrincipal leaves the caller out. It must list the
// caller in all its capacities: a role with a Deny is denied unless the session,
// the role and the account are all listed. A role that stands for any session
// never is, since no list can hold all of its sessions.
//
// Source: IAM User Guide, "AWS JSON policy elements: NotPrincipal", which says so
// for Deny. That it is the same for Allow is inferred.
func (w who) exempt(p Principal) bool {
	listed := func(value string) bool { return slices.Contains(p.AWS, value) }
	if w.kind == service {
		return slices.Contains(p.Service, w.arn) || listed("*")
	}
	account := listed(w.account) || listed("arn:"+w.partition+":iam::"+w.account+":root")
	switch {
	case listed("*"):
		return true
	case w.kind == accountRoot:
		return account
	case w.kind == role:
		return false
	}
	return account && listed(w.arn) && (w.role == "" || listed(w.role))
}

// checkPrincipal finds what IAM would not take, or what is not understood.
func checkPrincipal(p Principal) error {
	for _, value := range p.AWS {
		if value == "*" || accountID.MatchString(value) || uniqueID.MatchString(value) {
			continue
		}
		if _, err := parseEntity(value); err != nil {
			return err
		}
	}
	for _, value := range p.Service {
		if !serviceName.MatchString(value) {
			return fmt.Errorf("%q is no service principal, such as eks.amazonaws.com", value)
		}
	}
	for _, value := range p.Federated {
		if value == "" || strings.ContainsAny(value, "*?") {
			return fmt.Errorf("%q is no identity provider", value)
		}
	}
	return nil
}
