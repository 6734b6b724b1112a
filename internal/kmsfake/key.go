package kmsfake

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const day = 24 * time.Hour

// Key is one symmetric KMS key: a single-Region key, or the primary or a
// replica of a multi-Region key.
type Key struct {
	// ARN never changes.
	ARN string

	srv         *Server
	id          string
	family      *family
	created     time.Time
	description string

	// The family's lock guards these.
	state    string
	window   int       // days, while deletion is scheduled
	deleteAt time.Time // zero while that is unknown
	context  map[string]string
	grants   []grant // oldest first
	seen     int     // how many of the family's materials have arrived here
	lags     bool
}

// family is what related multi-Region keys share. A single-Region key is a
// family of its own.
type family struct {
	multiRegion bool

	mu        sync.RWMutex
	materials []*material // oldest first, and only ever appended to
	onDemand  int         // rotations by RotateKeyOnDemand
	keys      []*Key      // the primary first
}

// NewKey adds an enabled key with its first material.
func (s *Server) NewKey() *Key { return s.newKey(false, "") }

// NewMultiRegionKey adds an enabled multi-Region primary key.
func (s *Server) NewMultiRegionKey() *Key { return s.newKey(true, "") }

func (s *Server) newKey(multiRegion bool, description string) *Key {
	b := randomBytes(16)
	id := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	if multiRegion {
		id = fmt.Sprintf("mrk-%x", b)
	}
	f := &family{multiRegion: multiRegion, materials: []*material{newMaterial(id)}}
	k := f.add(s, id, description)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[id] = k
	return k
}

// add wants f.mu, unless nobody else knows f.
func (f *family) add(s *Server, id, description string) *Key {
	k := &Key{
		ARN: s.arn("key/" + id), srv: s, id: id, family: f, created: s.now(),
		description: description, state: Enabled, seen: len(f.materials),
	}
	f.keys = append(f.keys, k)
	return k
}

// ID is the key ID, which related multi-Region keys share.
func (k *Key) ID() string { return k.id }

// Rotate gives the key new material, as automatic rotation does: the old one
// still decrypts, and the limit of RotateKeyOnDemand does not apply. A replica
// can't be rotated: Rotate panics.
func (k *Key) Rotate() {
	k.family.mu.Lock()
	defer k.family.mu.Unlock()
	if k.replica() {
		panic("kmsfake: a replica takes its material from its primary: rotate that")
	}
	k.rotate()
}

func (k *Key) rotate() {
	f := k.family
	f.materials = append(f.materials, newMaterial(k.id))
	for _, each := range f.keys {
		if !each.lags {
			each.seen = len(f.materials)
		}
	}
}

// Replicate adds a replica of a multi-Region primary key to another region. It
// panics where ReplicateKey would answer with an error.
func (k *Key) Replicate(to *Server) *Key {
	r, fault := k.replicate(to, "")
	if fault != nil {
		panic("kmsfake: " + fault.Code + ": " + fault.Message)
	}
	return r
}

func (k *Key) replicate(to *Server, description string) (*Key, *Error) {
	r, fault := k.relate(to, description)
	if fault != nil {
		return nil, fault
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	to.keys[r.id] = r
	return r, nil
}

// relate adds a key of another region to the family.
func (k *Key) relate(to *Server, description string) (*Key, *Error) {
	k.family.mu.Lock()
	defer k.family.mu.Unlock()
	if fault := k.usable(); fault != nil {
		return nil, fault
	}
	if !k.family.multiRegion || k.replica() {
		return nil, failure("UnsupportedOperationException", "%s is not a multi-Region primary key.", k.ARN)
	}
	for i, other := range k.family.keys {
		if other.srv.region != to.region {
			continue
		}
		if !other.gone() {
			return nil, failure("AlreadyExistsException", "%s already exists in %s.", k.id, to.region)
		}
		k.family.keys = slices.Delete(k.family.keys, i, i+1)
		break
	}
	return k.family.add(to, k.id, description), nil
}

// DelayReplication keeps new key material away from a replica: until it is
// called with false, the replica neither encrypts under nor decrypts what a
// rotation of the primary brings. AWS promises better, that material is not
// used before it is everywhere.
func (k *Key) DelayReplication(on bool) {
	k.family.mu.Lock()
	defer k.family.mu.Unlock()
	if !k.replica() {
		panic("kmsfake: nothing is replicated to " + k.ARN)
	}
	k.lags = on
	if !on {
		k.seen = len(k.family.materials)
	}
}

// SetState moves the key to another state. A key that gets to PendingDeletion
// this way is never deleted, unlike after ScheduleKeyDeletion.
func (k *Key) SetState(state string) {
	k.family.mu.Lock()
	defer k.family.mu.Unlock()
	k.setState(state)
}

func (k *Key) setState(state string) {
	k.state, k.window, k.deleteAt = state, 0, time.Time{}
}

// RequireContext denies Encrypt, Decrypt and GenerateDataKey with this key
// under any other encryption context. Nil lifts it.
func (k *Key) RequireContext(c map[string]string) {
	k.family.mu.Lock()
	defer k.family.mu.Unlock()
	k.context = maps.Clone(c)
}

// MaterialID is what DescribeKey calls CurrentKeyMaterialId.
func (k *Key) MaterialID() string {
	k.family.mu.RLock()
	defer k.family.mu.RUnlock()
	return k.family.materials[k.seen-1].id
}

// The methods below want the family's lock.

func (k *Key) replica() bool { return k.family.keys[0] != k }

func (k *Key) known() []*material { return k.family.materials[:k.seen:k.seen] }

// deletion is when a scheduled deletion takes place. For a primary key, that is
// not known before its last replica is deleted.
func (k *Key) deletion() time.Time {
	if k.state != PendingReplicaDeletion {
		return k.deleteAt
	}
	var last time.Time
	for _, r := range k.family.keys[1:] {
		if !r.gone() {
			return time.Time{}
		}
		if d := r.deletion(); d.After(last) {
			last = d
		}
	}
	if last.IsZero() {
		return last
	}
	return last.Add(time.Duration(k.window) * day)
}

func (k *Key) gone() bool {
	at := k.deletion()
	return !at.IsZero() && !k.srv.now().Before(at)
}

func (k *Key) keyState() string {
	if k.state == PendingReplicaDeletion && !k.deletion().IsZero() {
		return PendingDeletion
	}
	return k.state
}

// usable is the answer to operations that want an enabled key.
func (k *Key) usable() *Error {
	switch state := k.keyState(); state {
	case Enabled:
		return nil
	case Disabled:
		return failure("DisabledException", "%s is disabled.", k.ARN)
	default:
		return k.invalidState(state)
	}
}

// manageable is the answer to operations that want a key that is not on its way
// out.
func (k *Key) manageable() *Error {
	if state := k.keyState(); state == PendingDeletion || state == PendingReplicaDeletion {
		return k.invalidState(state)
	}
	return nil
}

func (k *Key) invalidState(state string) *Error {
	if state == PendingDeletion || state == PendingReplicaDeletion {
		return failure("KMSInvalidStateException", "%s is pending deletion.", k.ARN)
	}
	return failure("KMSInvalidStateException", "%s is in key state %s.", k.ARN, state)
}
