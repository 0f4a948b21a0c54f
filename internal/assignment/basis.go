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

// Encode returns the user data of an assignment: magic and version as in a member's user data, then the basis, 8 bytes
// big-endian. Later fields follow it, and readers of this version ignore them.
func (b Basis) Encode() []byte {
	return binary.BigEndian.AppendUint64(append([]byte(userDataMagic), userDataVersion), uint64(b))
}

// DecodeBasis reads the user data of an assignment, and reports false if it is not ours.
func DecodeBasis(b []byte) (Basis, bool) {
	header := append([]byte(userDataMagic), userDataVersion)
	if !bytes.HasPrefix(b, header) || len(b) < len(header)+8 {
		return 0, false
	}
	return Basis(binary.BigEndian.Uint64(b[len(header):])), true
}
