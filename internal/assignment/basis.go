package assignment

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
)

// Basis is a hash of what a member may run: its subscription and the sub-topologies it published. The leader puts the one
// that it planned with into each assignment. A static member that restarts within its session is handed its old
// assignment without a rebalance, even if it now subscribes to something else (a limit of KIP-345 and KIP-814); it
// finds the difference by comparing the assignment's basis with its own.
type Basis uint64

// BasisOf hashes a subscription, in any order, and the user data that goes with it, or nil.
func BasisOf(topics []string, d *UserData) Basis {
	var b []byte
	for _, t := range sortedSet(topics) {
		b = appendString(b, t)
	}
	if d != nil && d.Groups != nil {
		b = append(b, 0) // no topic has an empty name
		b = append(b, encodeGroups(d.Groups)...)
	}
	h := fnv.New64a()
	_, _ = h.Write(b)
	return Basis(h.Sum64())
}

// Note is the user data of an assignment: what its member needs to know of the plan.
type Note struct {
	Basis Basis
	// Rejoin says that a task waits for the member to join again: the plan withholds it from its next owner, because the
	// member claimed it. A member that still has it revokes it, and joins again. A static member that restarts at that
	// moment is handed this assignment without a rebalance (KIP-345), has nothing to revoke, and must join again all the
	// same: else nobody runs the task.
	Rejoin bool
}

// rejoinFlag is the bit of Note.Rejoin. The other bits of its byte are zero, and ignored.
const rejoinFlag = 1

// Encode returns magic and version as in a member's user data, then the basis, 8 bytes big-endian, then a byte of flags.
// Later fields follow it, and readers of this version ignore them.
func (n Note) Encode() []byte {
	b := binary.BigEndian.AppendUint64(append([]byte(userDataMagic), userDataVersion), uint64(n.Basis))
	if n.Rejoin {
		return append(b, rejoinFlag)
	}
	return append(b, 0)
}

// DecodeNote reads the user data of an assignment, and reports false if it is not ours. The first builds ended it with the
// basis.
func DecodeNote(b []byte) (Note, bool) {
	header := append([]byte(userDataMagic), userDataVersion)
	if !bytes.HasPrefix(b, header) || len(b) < len(header)+8 {
		return Note{}, false
	}
	b = b[len(header):]
	return Note{Basis: Basis(binary.BigEndian.Uint64(b)), Rejoin: len(b) > 8 && b[8]&rejoinFlag != 0}, true
}
