package kmsfake

import (
	"regexp"
	"strings"

	"github.com/ekskms/ekskms/internal/place"
)

var (
	aliasCharacters = regexp.MustCompile(`^[a-zA-Z0-9/_-]+$`)
	keyIDShape      = regexp.MustCompile(`^(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)
)

// Alias points an alias, whose name begins with alias/, at a key of this
// server, and makes it if there is none. It returns the alias's ARN.
func (s *Server) Alias(name string, k *Key) string {
	if fault := checkAlias(name); fault != nil {
		panic("kmsfake: " + fault.Code + ": " + fault.Message)
	}
	if k.srv != s {
		panic("kmsfake: " + k.ARN + " is of another region than its alias")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aliases[name] = k
	return s.arn(name)
}

func checkAlias(name string) *Error {
	rest, ok := strings.CutPrefix(name, "alias/")
	switch {
	case !ok:
		return failure("ValidationException", `Alias must start with the prefix "alias/".`)
	case len(name) > 256 || !aliasCharacters.MatchString(name):
		return failure("ValidationException", "1 validation error detected: Value '%s' at 'aliasName' failed to satisfy constraint: "+
			"it has 1 to 256 letters, digits, slashes, underscores and dashes", name)
	case rest == "" || strings.HasPrefix(rest, "aws/"):
		return failure("InvalidAliasNameException", "%s is reserved or has no name", name)
	}
	return nil
}

// key finds the key that a request names by key ID or key ARN or, where the
// operation takes them, by alias name or alias ARN.
func (s *Server) key(id string, aliases bool) (*Key, *Error) {
	if id == "" {
		return nil, failure("ValidationException", "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null")
	}
	name, isAlias := id, strings.HasPrefix(id, "alias/")
	if strings.HasPrefix(id, "arn:") {
		arn, ok := place.ParseARN(id)
		if !ok || arn.Partition != "aws" || arn.Service != "kms" {
			return nil, failure("InvalidArnException", "%s is not a valid ARN", id)
		}
		if arn.Region != s.region {
			return nil, failure("NotFoundException", "Invalid arn %s", arn.Region)
		}
		if arn.AccountID != account {
			return nil, failure("NotFoundException", "%s does not exist", id)
		}
		var isKey bool
		name, isKey = strings.CutPrefix(arn.Resource, "key/")
		isAlias = !isKey && strings.HasPrefix(name, "alias/")
		if !isKey && !isAlias {
			return nil, failure("InvalidArnException", "%s is not the ARN of a key or an alias", id)
		}
	}
	if isAlias && aliases {
		return s.aliased(name)
	}
	if !keyIDShape.MatchString(name) {
		return nil, failure("NotFoundException", "Invalid keyId %s", id)
	}
	s.mu.Lock()
	k := s.keys[name]
	s.mu.Unlock()
	if k == nil || k.deleted() {
		return nil, failure("NotFoundException", "Key '%s' does not exist", s.arn("key/"+name))
	}
	return k, nil
}

// aliased finds the target of an alias by its name.
func (s *Server) aliased(name string) (*Key, *Error) {
	s.mu.Lock()
	k := s.aliases[name]
	s.mu.Unlock()
	if k == nil || k.deleted() { // AWS deletes a key's aliases with it
		return nil, failure("NotFoundException", "Alias %s is not found.", s.arn(name))
	}
	return k, nil
}

func (k *Key) deleted() bool {
	k.family.mu.RLock()
	defer k.family.mu.RUnlock()
	return k.gone()
}
