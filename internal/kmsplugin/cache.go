package kmsplugin

import (
	"bytes"
	"crypto/sha256"
	"sync"
	"time"

	"k8s.io/utils/lru"
)

// seedCache keeps decrypted seeds in memory for a while. It spares KMS calls
// after the restart of an API server, and with each of them the record that
// CloudTrail would have, and a key that is disabled goes on decrypting from here
// until two probes have seen it. That is why it is off by default.
//
// A nil *seedCache holds nothing.
type seedCache struct {
	ttl time.Duration

	mu  sync.Mutex // the LRU has a lock of its own, but not around a purge
	lru *lru.Cache
}

// Results of a look-up, as the metric names them.
const (
	cacheHit  = "hit"
	cacheMiss = "miss"
)

type seedEntry struct {
	seed    []byte
	expires time.Time
}

func newSeedCache(size int, ttl time.Duration) *seedCache {
	return &seedCache{ttl: ttl, lru: lru.NewWithEvictionFunc(size, func(_ lru.Key, v any) {
		clear(v.(seedEntry).seed) //nolint:forcetypeassert // nothing else is put in
	})}
}

// cacheKey is a hash, so that no ciphertext stays in memory for it.
func cacheKey(id flightID) lru.Key {
	return sha256.Sum256(appendFields(nil, id.arn, id.keyID, id.ciphertext))
}

func (c *seedCache) get(id flightID) (seed []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := cacheKey(id)
	v, ok := c.lru.Get(key)
	if !ok {
		return nil, false
	}
	entry := v.(seedEntry) //nolint:forcetypeassert // nothing else is put in
	if time.Now().After(entry.expires) {
		c.lru.Remove(key)
		return nil, false
	}
	return bytes.Clone(entry.seed), true // what is evicted is wiped
}

func (c *seedCache) put(id flightID, seed []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Add(cacheKey(id), seedEntry{bytes.Clone(seed), time.Now().Add(c.ttl)})
}

func (c *seedCache) purge() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Clear()
}
