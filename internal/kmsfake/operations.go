package kmsfake

import (
	"bytes"
	"slices"
	"time"
)

const (
	maxPlaintext         = 4096
	maxDataKey           = 1024
	maxOnDemandRotations = 25
	algorithm            = "SYMMETRIC_DEFAULT"
)

type (
	cryptoAnswer struct {
		KeyID               string `json:"KeyId"`
		EncryptionAlgorithm string `json:"EncryptionAlgorithm,omitempty"`
		KeyMaterialID       string `json:"KeyMaterialId,omitempty"`
		CiphertextBlob      []byte `json:"CiphertextBlob,omitempty"`
		Plaintext           []byte `json:"Plaintext,omitempty"`
	}

	keyAnswer struct {
		KeyID               string   `json:"KeyId"`
		KeyState            string   `json:"KeyState,omitempty"`
		DeletionDate        *float64 `json:"DeletionDate,omitempty"`
		PendingWindowInDays int      `json:"PendingWindowInDays,omitempty"`
	}

	metadata struct {
		AWSAccountID                string                    `json:"AWSAccountId"`
		Arn                         string                    `json:"Arn"`
		CreationDate                *float64                  `json:"CreationDate"`
		CurrentKeyMaterialID        string                    `json:"CurrentKeyMaterialId,omitempty"`
		CustomerMasterKeySpec       string                    `json:"CustomerMasterKeySpec"`
		DeletionDate                *float64                  `json:"DeletionDate,omitempty"`
		Description                 string                    `json:"Description"`
		Enabled                     bool                      `json:"Enabled"`
		EncryptionAlgorithms        []string                  `json:"EncryptionAlgorithms"`
		KeyID                       string                    `json:"KeyId"`
		KeyManager                  string                    `json:"KeyManager"`
		KeySpec                     string                    `json:"KeySpec"`
		KeyState                    string                    `json:"KeyState"`
		KeyUsage                    string                    `json:"KeyUsage"`
		MultiRegion                 bool                      `json:"MultiRegion"`
		MultiRegionConfiguration    *multiRegionConfiguration `json:"MultiRegionConfiguration,omitempty"`
		Origin                      string                    `json:"Origin"`
		PendingDeletionWindowInDays int                       `json:"PendingDeletionWindowInDays,omitempty"`
	}

	multiRegionConfiguration struct {
		MultiRegionKeyType string
		PrimaryKey         multiRegionKey
		ReplicaKeys        []multiRegionKey
	}

	multiRegionKey struct{ Arn, Region string }
)

// operation is one that works on an existing key which KeyId names.
type operation struct {
	do      func(*Server, string, *Key, *request) (any, *Error)
	aliases bool // whether KeyId may be an alias
}

var operations = map[string]operation{
	"DescribeKey":         {(*Server).describeKey, true},
	"Encrypt":             {(*Server).encrypt, true},
	"Decrypt":             {(*Server).decrypt, true},
	"GenerateDataKey":     {(*Server).generateDataKey, true},
	"RotateKeyOnDemand":   {(*Server).rotateKeyOnDemand, false},
	"EnableKey":           {switchTo(Enabled), false},
	"DisableKey":          {switchTo(Disabled), false},
	"ScheduleKeyDeletion": {(*Server).scheduleKeyDeletion, false},
	"CancelKeyDeletion":   {(*Server).cancelKeyDeletion, false},
	"ReplicateKey":        {(*Server).replicateKey, false},
	"CreateGrant":         {(*Server).createGrant, false},
	"ListGrants":          {(*Server).listGrants, false},
	"RevokeGrant":         {(*Server).revokeGrant, false},
}

func (s *Server) operate(op string, req *request) (any, *Error) {
	switch op {
	case "CreateKey":
		return s.createKey(op, req)
	case "CreateAlias", "UpdateAlias", "DeleteAlias":
		return nil, s.changeAlias(op, req)
	}
	o, ok := operations[op]
	if !ok {
		return nil, failure("UnknownOperationException", "%s", op)
	}
	if op == "Decrypt" && req.KeyID == "" {
		// A caller that relies on this would decrypt under any key that its role
		// may use.
		if req.KeyID = s.sealer(req.CiphertextBlob); req.KeyID == "" {
			return nil, failure("ValidationException", "kmsfake wants KeyId to be pinned")
		}
	}
	k, fault := s.key(req.KeyID, o.aliases)
	if fault != nil {
		return nil, fault
	}
	if fault := s.permitted(op, k); fault != nil {
		return nil, fault
	}
	return o.do(s, op, k, req)
}

// materials are what a cryptographic operation may use, if it may.
func (s *Server) materials(op string, k *Key, req *request) ([]*material, *Error) {
	k.family.mu.RLock()
	known, required, fault := k.known(), k.context, k.usable()
	k.family.mu.RUnlock()
	// KMS asks the policies first, and an unauthorized caller does not learn
	// the key's state.
	if denied := s.contextAllowed(op, k, required, req.EncryptionContext); denied != nil {
		return nil, denied
	}
	return known, fault
}

func (s *Server) encrypt(op string, k *Key, req *request) (any, *Error) {
	if n := len(req.Plaintext); n == 0 || n > maxPlaintext {
		return nil, failure("ValidationException", "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: "+
			"Member must have length between 1 and %d", maxPlaintext)
	}
	known, fault := s.materials(op, k, req)
	if fault != nil {
		return nil, fault
	}
	return cryptoAnswer{
		KeyID: k.ARN, EncryptionAlgorithm: algorithm,
		CiphertextBlob: s.visible(op, known).seal(req.Plaintext, req.EncryptionContext),
	}, nil
}

func (s *Server) decrypt(op string, k *Key, req *request) (any, *Error) {
	known, fault := s.materials(op, k, req)
	if fault != nil {
		return nil, fault
	}
	plaintext, m, ok := open(known, req.CiphertextBlob, req.EncryptionContext)
	if !ok {
		return nil, s.undecryptable(k, req)
	}
	answer := cryptoAnswer{KeyID: k.ARN, EncryptionAlgorithm: algorithm, Plaintext: plaintext}
	if !s.hides(op) {
		answer.KeyMaterialID = m.id
	}
	return answer, nil
}

// sealer is the ID of the key that made a ciphertext, "" where that is not to be
// looked for or not to be found.
func (s *Server) sealer(blob []byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.faults.unpinned {
		return ""
	}
	for id, k := range s.keys {
		k.family.mu.RLock()
		known := k.known()
		k.family.mu.RUnlock()
		if slices.ContainsFunc(known, func(m *material) bool { return bytes.HasPrefix(blob, m.raw[:]) }) {
			return id
		}
	}
	return ""
}

// undecryptable tells ciphertext of another key from ciphertext of none.
func (s *Server) undecryptable(k *Key, req *request) *Error {
	s.mu.Lock()
	var others [][]*material
	for _, other := range s.keys {
		if other != k {
			other.family.mu.RLock()
			others = append(others, other.known())
			other.family.mu.RUnlock()
		}
	}
	s.mu.Unlock()
	for _, known := range others {
		if _, _, ok := open(known, req.CiphertextBlob, req.EncryptionContext); ok {
			return failure("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
		}
	}
	return &Error{Code: "InvalidCiphertextException"}
}

func (s *Server) generateDataKey(op string, k *Key, req *request) (any, *Error) {
	var size int
	switch {
	case (req.NumberOfBytes == nil) == (req.KeySpec == ""):
		return nil, failure("ValidationException", "Please specify either number of bytes or key spec.")
	case req.KeySpec == "AES_256":
		size = 32
	case req.KeySpec == "AES_128":
		size = 16
	case req.KeySpec != "":
		return nil, failure("ValidationException", "1 validation error detected: Value '%s' at 'keySpec' failed to satisfy constraint: "+
			"Member must satisfy enum value set: [AES_256, AES_128]", req.KeySpec)
	case *req.NumberOfBytes < 1 || *req.NumberOfBytes > maxDataKey:
		return nil, failure("ValidationException", "1 validation error detected: Value '%d' at 'numberOfBytes' failed to satisfy constraint: "+
			"Member must have value between 1 and %d", *req.NumberOfBytes, maxDataKey)
	default:
		size = *req.NumberOfBytes
	}
	known, fault := s.materials(op, k, req)
	if fault != nil {
		return nil, fault
	}
	m := s.visible(op, known)
	plaintext := randomBytes(size)
	answer := cryptoAnswer{KeyID: k.ARN, Plaintext: plaintext, CiphertextBlob: m.seal(plaintext, req.EncryptionContext)}
	if !s.hides(op) {
		answer.KeyMaterialID = m.id
	}
	return answer, nil
}

func (s *Server) createKey(op string, req *request) (any, *Error) {
	if fault := s.permitted(op); fault != nil {
		return nil, fault
	}
	if !slices.Contains([]string{"", algorithm}, req.KeySpec) ||
		!slices.Contains([]string{"", "ENCRYPT_DECRYPT"}, req.KeyUsage) ||
		!slices.Contains([]string{"", "AWS_KMS"}, req.Origin) {
		return nil, failure("UnsupportedOperationException", "kmsfake has symmetric encryption keys with key material from KMS only")
	}
	k := s.newKey(req.MultiRegion, req.Description)
	return map[string]any{"KeyMetadata": s.metadata(op, k)}, nil
}

func (s *Server) describeKey(op string, k *Key, _ *request) (any, *Error) {
	return map[string]any{"KeyMetadata": s.metadata(op, k)}, nil
}

func (s *Server) metadata(op string, k *Key) metadata {
	k.family.mu.RLock()
	state := k.keyState()
	m := metadata{
		AWSAccountID: account, Arn: k.ARN, CreationDate: seconds(k.created), CustomerMasterKeySpec: algorithm,
		Description: k.description, Enabled: state == Enabled, EncryptionAlgorithms: []string{algorithm},
		KeyID: k.id, KeyManager: "CUSTOMER", KeySpec: algorithm, KeyState: state, KeyUsage: "ENCRYPT_DECRYPT",
		MultiRegion: k.family.multiRegion, Origin: "AWS_KMS", DeletionDate: seconds(k.deletion()),
	}
	if state == PendingReplicaDeletion {
		m.PendingDeletionWindowInDays = k.window
	}
	if k.family.multiRegion {
		m.MultiRegionConfiguration = k.relatives()
	}
	known := k.known()
	k.family.mu.RUnlock()
	if !s.hides(op) {
		m.CurrentKeyMaterialID = s.visible(op, known).id
	}
	return m
}

// relatives wants the family's lock.
func (k *Key) relatives() *multiRegionConfiguration {
	c := &multiRegionConfiguration{MultiRegionKeyType: "PRIMARY", ReplicaKeys: []multiRegionKey{}}
	if k.replica() {
		c.MultiRegionKeyType = "REPLICA"
	}
	for i, each := range k.family.keys {
		entry := multiRegionKey{Arn: each.ARN, Region: each.srv.region}
		switch {
		case i == 0:
			c.PrimaryKey = entry
		case !each.gone():
			c.ReplicaKeys = append(c.ReplicaKeys, entry)
		}
	}
	return c
}

func (s *Server) rotateKeyOnDemand(_ string, k *Key, _ *request) (any, *Error) {
	k.family.mu.Lock()
	defer k.family.mu.Unlock()
	if fault := k.usable(); fault != nil {
		return nil, fault
	}
	if k.replica() {
		return nil, failure("UnsupportedOperationException", "%s is a multi-Region replica key: rotate its primary key.", k.ARN)
	}
	if k.family.onDemand == maxOnDemandRotations {
		return nil, failure("LimitExceededException", "%s has had its %d on-demand rotations.", k.ARN, maxOnDemandRotations)
	}
	k.family.onDemand++
	k.rotate()
	return keyAnswer{KeyID: k.ARN}, nil
}

// switchTo is EnableKey or DisableKey.
func switchTo(state string) func(*Server, string, *Key, *request) (any, *Error) {
	return func(_ *Server, _ string, k *Key, _ *request) (any, *Error) {
		k.family.mu.Lock()
		defer k.family.mu.Unlock()
		if now := k.keyState(); now != Enabled && now != Disabled {
			return nil, k.invalidState(now)
		}
		k.setState(state)
		return nil, nil
	}
}

func (s *Server) scheduleKeyDeletion(_ string, k *Key, req *request) (any, *Error) {
	days := 30
	if req.PendingWindowInDays != nil {
		days = *req.PendingWindowInDays
	}
	if days < 7 || days > 30 {
		return nil, failure("ValidationException", "1 validation error detected: Value '%d' at 'pendingWindowInDays' failed to satisfy constraint: "+
			"Member must have value between 7 and 30", days)
	}
	k.family.mu.Lock()
	defer k.family.mu.Unlock()
	if fault := k.manageable(); fault != nil {
		return nil, fault
	}
	k.setState(PendingDeletion)
	k.window = days
	if !k.replica() && slices.ContainsFunc(k.family.keys[1:], func(r *Key) bool { return !r.gone() }) {
		k.state = PendingReplicaDeletion
	} else {
		k.deleteAt = s.now().Add(time.Duration(days) * day)
	}
	return keyAnswer{KeyID: k.ARN, KeyState: k.state, DeletionDate: seconds(k.deleteAt), PendingWindowInDays: days}, nil
}

func (s *Server) cancelKeyDeletion(_ string, k *Key, _ *request) (any, *Error) {
	k.family.mu.Lock()
	defer k.family.mu.Unlock()
	if k.manageable() == nil {
		return nil, failure("KMSInvalidStateException", "%s is not pending deletion.", k.ARN)
	}
	k.setState(Disabled) // and not Enabled: that takes a decision of its own
	return keyAnswer{KeyID: k.ARN}, nil
}

func (s *Server) replicateKey(op string, k *Key, req *request) (any, *Error) {
	s.mu.Lock()
	to := s.regions[req.ReplicaRegion]
	s.mu.Unlock()
	if to == nil {
		return nil, failure("ValidationException", "kmsfake has no region %s: see Connect", req.ReplicaRegion)
	}
	r, fault := k.replicate(to, req.Description)
	if fault != nil {
		return nil, fault
	}
	return map[string]any{"ReplicaKeyMetadata": to.metadata(op, r)}, nil
}

func (s *Server) changeAlias(op string, req *request) *Error {
	if fault := checkAlias(req.AliasName); fault != nil {
		return fault
	}
	old, missing := s.aliased(req.AliasName)
	if op != "CreateAlias" && missing != nil {
		return missing
	}
	var concerned []*Key
	if old != nil {
		concerned = append(concerned, old)
	}
	var target *Key
	if op != "DeleteAlias" {
		k, fault := s.key(req.TargetKeyID, false)
		if fault != nil {
			return fault
		}
		target, concerned = k, append(concerned, k)
	}
	if fault := s.permitted(op, concerned...); fault != nil {
		return fault
	}
	if target != nil {
		target.family.mu.RLock()
		fault := target.manageable()
		target.family.mu.RUnlock()
		if fault != nil {
			return fault
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	switch op {
	case "DeleteAlias":
		delete(s.aliases, req.AliasName)
		return nil
	case "CreateAlias":
		if k := s.aliases[req.AliasName]; k != nil && !k.deleted() {
			return failure("AlreadyExistsException", "An alias with the name %s already exists", s.arn(req.AliasName))
		}
	}
	s.aliases[req.AliasName] = target
	return nil
}

// seconds is how the protocol writes a time. It leaves out the zero one.
func seconds(t time.Time) *float64 {
	if t.IsZero() {
		return nil
	}
	f := float64(t.UnixMilli()) / 1000
	return &f
}
