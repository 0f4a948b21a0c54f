package assignment

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/oncemill/oncemill/statestore"
)

// UserData is what a member publishes about itself when it joins, in the user data of the consumer protocol.
type UserData struct {
	Process Process
	// Groups are the member's sub-topologies; nil if it did not publish them.
	Groups []Group
	// Held are the tasks whose state lies on the member's disk.
	Held []Held
}

// MaxUserDataBytes bounds the encoding. The coordinator keeps the metadata of all members in one record of
// __consumer_offsets, and a leader receives them in one response, so a member must not send all it likes.
const MaxUserDataBytes = 16 << 10

// The format: the two bytes of magic, a version, then sections of
//
//	tag (one byte), length (uvarint), so many bytes
//
// A reader skips the tags that it does not know, so that a new section needs no new version and members of both builds
// can be in one group. A new version is one that old readers must not read at all.
//
//	sectionProcess  the 16 bytes of the process id; left out if zero
//	sectionGroups   count, then per group: name, count of topics, topics; left out if Groups is nil
//	sectionHeld     count of sub-topologies, then per sub-topology: name, count, then per task: partition less the
//	                previous one, n
//	sectionStandby  reserved: the tasks that the member keeps as standbys, with how far behind they are, in the layout
//	                of sectionHeld; the plan will then place standbys, and count a warm one as fresher than its N says
//
// Numbers are uvarints, strings are their length and bytes.
const (
	userDataMagic   = "om"
	userDataVersion = 1

	sectionProcess = 1
	sectionGroups  = 2
	sectionHeld    = 3
	sectionStandby = 4
)

// ErrForeign is returned for user data that oncemill did not write, or a newer version did.
var ErrForeign = errors.New("user data of another format")

// errMalformed is returned for bytes that begin as ours and do not go on so.
var errMalformed = errors.New("malformed user data")

// Encode returns at most MaxUserDataBytes, the same bytes for the same content in any order: a coordinator compares
// them to find out whether a member changed. What does not fit is left out: held tasks from the end, in the order of
// sub-topology and partition (they are a preference only), and Groups if they alone fill more than half (the leader
// then goes by the subscription).
func (d UserData) Encode() []byte {
	b := append([]byte(userDataMagic), userDataVersion)
	if d.Process != (Process{}) {
		b = appendSection(b, sectionProcess, d.Process[:])
	}
	if groups := encodeGroups(d.Groups); d.Groups != nil && len(groups) <= MaxUserDataBytes/2 {
		b = appendSection(b, sectionGroups, groups)
	}
	const header = 1 + binary.MaxVarintLen32
	if held := encodeHeld(d.Held, MaxUserDataBytes-len(b)-header); len(held) > 0 {
		b = appendSection(b, sectionHeld, held)
	}
	return b
}

func appendSection(b []byte, tag byte, content []byte) []byte {
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(content)))
	return append(b, content...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func encodeGroups(groups []Group) []byte {
	sorted := slices.Clone(groups)
	for i := range sorted {
		sorted[i].Topics = sortedSet(sorted[i].Topics)
	}
	slices.SortFunc(sorted, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Topics, b.Topics))
	})
	b := binary.AppendUvarint(nil, uint64(len(sorted)))
	for _, g := range sorted {
		b = appendString(b, g.Name)
		b = binary.AppendUvarint(b, uint64(len(g.Topics)))
		for _, t := range g.Topics {
			b = appendString(b, t)
		}
	}
	return b
}

// encodeHeld keeps the newest N of a task that is listed twice, and stops at the task that would not fit.
func encodeHeld(held []Held, room int) []byte {
	held = slices.DeleteFunc(slices.Clone(held), func(h Held) bool { return h.Task.Partition < 0 })
	slices.SortFunc(held, func(a, b Held) int { return cmp.Or(compareTasks(a.Task, b.Task), cmp.Compare(b.N, a.N)) })
	held = slices.CompactFunc(held, func(a, b Held) bool { return a.Task == b.Task })
	var body []byte
	subs := 0
	for len(held) > 0 {
		name := held[0].Task.SubTopology
		var run []byte
		count, previous := 0, int32(0)
		// The three counts and lengths take at most three bytes each below the bound on the whole.
		fits := func(entry []byte) bool {
			return len(body)+len(run)+len(entry)+len(name)+3*binary.MaxVarintLen32 <= room
		}
		full := false
		for len(held) > 0 && held[0].Task.SubTopology == name && !full {
			entry := binary.AppendUvarint(nil, uint64(held[0].Task.Partition-previous))
			entry = binary.AppendUvarint(entry, held[0].N)
			if full = !fits(entry); !full {
				run, previous, held = append(run, entry...), held[0].Task.Partition, held[1:]
				count++
			}
		}
		if count > 0 {
			body = appendString(body, name)
			body = binary.AppendUvarint(body, uint64(count))
			body = append(body, run...)
			subs++
		}
		if full {
			break
		}
	}
	if subs == 0 {
		return nil
	}
	return append(binary.AppendUvarint(nil, uint64(subs)), body...)
}

func compareTasks(a, b statestore.TaskID) int {
	return cmp.Or(cmp.Compare(a.SubTopology, b.SubTopology), cmp.Compare(a.Partition, b.Partition))
}

// DecodeUserData reads what Encode wrote. It never trusts a count: memory grows with the bytes read only.
func DecodeUserData(b []byte) (*UserData, error) {
	if !bytes.HasPrefix(b, []byte(userDataMagic)) || len(b) < len(userDataMagic)+1 || b[len(userDataMagic)] != userDataVersion {
		return nil, ErrForeign
	}
	if len(b) > MaxUserDataBytes {
		return nil, fmt.Errorf("%w: %d bytes", errMalformed, len(b))
	}
	r := reader{b: b[len(userDataMagic)+1:]}
	d := &UserData{}
	for len(r.b) > 0 && !r.bad {
		tag := r.b[0]
		r.b = r.b[1:]
		section := reader{b: r.take(r.uvarint())}
		switch tag {
		case sectionProcess:
			section.bad = section.bad || copy(d.Process[:], section.take(uint64(len(d.Process)))) != len(d.Process)
		case sectionGroups:
			d.Groups = section.groups()
		case sectionHeld:
			d.Held = section.held()
		default:
			continue
		}
		r.bad = r.bad || section.bad || len(section.b) > 0
	}
	if r.bad {
		return nil, errMalformed
	}
	return d, nil
}

// reader takes values off the front of b. After the first failure bad is set and everything it returns is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() {
	r.b, r.bad = nil, true
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

// name reads a string without zero bytes, which no name of a topic or sub-topology has.
func (r *reader) name() string {
	s := string(r.take(r.uvarint()))
	if s == "" || strings.Contains(s, "\x00") {
		r.fail()
	}
	return s
}

func (r *reader) groups() []Group {
	groups := []Group{} // not nil: published, though maybe none
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		g := Group{Name: r.name()}
		for t := r.uvarint(); t > 0 && !r.bad; t-- {
			g.Topics = append(g.Topics, r.name())
		}
		groups = append(groups, g)
	}
	return groups
}

func (r *reader) held() []Held {
	var held []Held
	for subs := r.uvarint(); subs > 0 && !r.bad; subs-- {
		name := r.name()
		partition := uint64(0)
		for n := r.uvarint(); n > 0 && !r.bad; n-- {
			step := r.uvarint()
			if partition += step; step > maxPartition || partition > maxPartition {
				r.fail()
				break
			}
			held = append(held, Held{Task: statestore.TaskID{SubTopology: name, Partition: int32(partition)}, N: r.uvarint()})
		}
	}
	return held
}

const maxPartition = 1<<31 - 1
