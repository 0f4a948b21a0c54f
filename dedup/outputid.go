package dedup

import "crypto/sha256"

// Cause is the identity of what made outputs: a message, a record without an id, or a timer. It is computed once per
// record; output ids, NewID and seeds are hashes of it. Hashes are SHA-256 over length-framed fields with a domain in
// front: an id from outside cannot be chosen to collide with another's output and so drop it downstream (rule R12).
type Cause [sha256.Size]byte

// causeBytes is how much of a cause is gathered without allocation; ids of usual length fit.
const causeBytes = 256

// CauseOfMessage is the cause of the outputs of a message: all its copies, wherever they lie, have the same one. The kind
// is a part of the scope: Start and End of one game with equal ids are two causes.
func CauseOfMessage(app, scope, kind string, id []byte) Cause {
	var array [causeBytes]byte
	f := fields(array[:0]).domain(domainMessage).string(app).string(scope).string(kind).bytes(id)
	return sha256.Sum256(f)
}

// CauseOfPosition is the cause of the outputs of a record that has no id.
func CauseOfPosition(app, scope string, topicID [16]byte, partition int32, offset int64) Cause {
	var array [causeBytes]byte
	f := fields(array[:0]).domain(domainPosition).string(app).string(scope)
	f = append(f, topicID[:]...)
	return sha256.Sum256(f.number(uint64(uint32(partition))).number(uint64(offset)))
}

// CauseOfTimer is the cause of the outputs of one firing of a timer, by its number among the task's timers.
func CauseOfTimer(app, store string, key []byte, name string, number uint64) Cause {
	var array [causeBytes]byte
	f := fields(array[:0]).domain(domainTimer).string(app).string(store).bytes(key).string(name)
	return sha256.Sum256(f.number(number))
}

func (c *Cause) derive(domain byte, node string, n uint32) [sha256.Size]byte {
	var array [causeBytes]byte
	f := append(fields(array[:0]).domain(domain), c[:]...)
	return sha256.Sum256(f.string(node).number(uint64(n)))
}

// OutputID is the id of the n-th output of a node, counted from 0 within the cause.
func (c Cause) OutputID(node string, n uint32) [16]byte {
	sum := c.derive(domainOutput, node, n)
	return [16]byte(sum[:16])
}

// NewID is the n-th id that a node mints while it handles the cause: a UUID of version 8 (RFC 9562), so that it reads
// as one; a re-run mints the same ones.
func (c Cause) NewID(node string, n uint32) [16]byte {
	sum := c.derive(domainNewID, node, n)
	id := [16]byte(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Seed seeds the randomness of a node while it handles the cause, as math/rand/v2's NewChaCha8 wants it; a re-run draws
// the same numbers.
func (c Cause) Seed(node string) [32]byte { return c.derive(domainSeed, node, 0) }
