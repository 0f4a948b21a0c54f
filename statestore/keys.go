package statestore

import "encoding/binary"

// Keys in the engine are
//
//	NameID(sub-topology) 4 | partition 4 | NameID(store) 4 | user key
//
// big-endian, so that everything of one task lies under one prefix, and everything of one store of it. The store id 0 is
// the task's own: under it lies the task record, which holds the position.
const (
	taskPrefixLen  = 8
	storePrefixLen = 12
	taskStoreID    = 0
)

// endOfKeys is above every key: no partition is negative, so no task's prefix has a fifth byte of 0xff.
var endOfKeys = []byte{0xff, 0xff, 0xff, 0xff, 0xff}

func taskPrefix(id TaskID) [taskPrefixLen]byte {
	var p [taskPrefixLen]byte
	binary.BigEndian.PutUint32(p[:], NameID(id.SubTopology))
	binary.BigEndian.PutUint32(p[4:], uint32(id.Partition))
	return p
}

func storePrefix(task [taskPrefixLen]byte, store uint32) [storePrefixLen]byte {
	var p [storePrefixLen]byte
	copy(p[:], task[:])
	binary.BigEndian.PutUint32(p[taskPrefixLen:], store)
	return p
}

// taskSpan is the span of everything of a task.
func taskSpan(task [taskPrefixLen]byte) Span {
	return Span{Lower: append([]byte(nil), task[:]...), Upper: prefixEnd(task[:])}
}

// bucketKey is the least engine key of a bucket of a KindMarkers store.
func bucketKey(task [taskPrefixLen]byte, store uint32, bucket uint64) []byte {
	p := storePrefix(task, store)
	return binary.BigEndian.AppendUint64(p[:], bucket)
}

// prefixEnd is the least key above all keys that begin with prefix, or nil if there is none.
func prefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := append([]byte(nil), prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}
