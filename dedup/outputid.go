package dedup

import (
	"crypto/sha256"
	"encoding/binary"
)

// Cause is the identity of what made outputs: a message, a record without an id, or a timer. It is computed once per
// record; output ids, NewID and seeds come from it. It is a SHA-256 hash over length-framed fields with a domain in front: an id
// from outside cannot be chosen to collide with another's output and so drop it downstream (rule R12).
//
// It is the hash, and a number of 8 bytes that counts too: the offset of a record without an id, else 0. So such a record, the
// usual one, costs no hash at all.
type Cause [sha256.Size + 8]byte

func causeOf(sum [sha256.Size]byte, number uint64) (c Cause) {
	copy(c[:], sum[:])
	binary.BigEndian.PutUint64(c[sha256.Size:], number)
	return c
}

// causeBytes is how much of a cause is gathered without allocation; ids of usual length fit.
const causeBytes = 256

// CauseOfMessage is the cause of the outputs of a message: all its copies, wherever they lie, have the same one. The kind
// is a part of the scope: Start and End of one game with equal ids are two causes.
func CauseOfMessage(app, scope, kind string, id []byte) Cause {
	var array [causeBytes]byte
	return causeOf(sha256.Sum256(messageFields(array[:0], app, scope, kind, id)), 0)
}

func messageFields(dst fields, app, scope, kind string, id []byte) fields {
	return dst.domain(domainMessage).string(app).string(scope).string(kind).bytes(id)
}

// Place is what the causes of all records of one partition have in common.
type Place [sha256.Size]byte

// PlaceOf is the place of a partition.
func PlaceOf(app, scope string, topicID [16]byte, partition int32) Place {
	var array [causeBytes]byte
	f := fields(array[:0]).domain(domainPosition).string(app).string(scope)
	f = append(f, topicID[:]...)
	return sha256.Sum256(f.number(uint64(uint32(partition))))
}

// Cause is the cause of the outputs of the record at an offset, one that has no id.
func (p Place) Cause(offset int64) Cause { return causeOf(p, uint64(offset)) }

// CauseOfPosition is the cause of the outputs of a record that has no id.
func CauseOfPosition(app, scope string, topicID [16]byte, partition int32, offset int64) Cause {
	return PlaceOf(app, scope, topicID, partition).Cause(offset)
}

// CauseOfTimer is the cause of the outputs of one firing of a timer, by its number among the task's timers.
func CauseOfTimer(app, store string, key []byte, name string, number uint64) Cause {
	var array [causeBytes]byte
	f := fields(array[:0]).domain(domainTimer).string(app).string(store).bytes(key).string(name)
	return causeOf(sha256.Sum256(f.number(number)), 0)
}

func (c *Cause) derive(domain byte, node string, n uint32) [sha256.Size]byte {
	var array [causeBytes]byte
	f := append(fields(array[:0]).domain(domain), c[:]...)
	return sha256.Sum256(binary.AppendUvarint(f.string(node), uint64(n)))
}

// Slot is what tells the outputs of one cause apart: a hash of the node and of the output's number, counted from 0 within the
// cause. A topology has few of them, so they can be kept.
type Slot [16]byte

// SlotOf is the slot of the n-th output of a cause, emitted by a node.
func SlotOf(node string, n uint32) Slot {
	var array [causeBytes]byte
	f := fields(array[:0]).domain(domainOutput).string(node)
	sum := sha256.Sum256(binary.AppendUvarint(f, uint64(n)))
	return Slot(sum[:])
}

// OutputID is the id of an output: the second half of the cause's hash, exclusive-or the slot, exclusive-or the cause's number in
// the last 8 bytes. The first half is the key of the message's marker. Two outputs with equal ids would need hashes with a
// given difference, which is as hard to find as equal ones.
func (c Cause) OutputID(slot Slot) (id [16]byte) {
	const half = sha256.Size / 2
	high := binary.BigEndian.Uint64(c[half:]) ^ binary.BigEndian.Uint64(slot[:])
	low := binary.BigEndian.Uint64(c[half+8:]) ^ binary.BigEndian.Uint64(slot[8:]) ^ binary.BigEndian.Uint64(c[sha256.Size:])
	binary.BigEndian.PutUint64(id[:], high)
	binary.BigEndian.PutUint64(id[8:], low)
	return id
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
