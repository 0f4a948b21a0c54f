package judge

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// cells are the state as it was found.
type cells struct {
	accounts, stocks map[string][]byte
	markers          map[int32]map[place]markerSeen // by partition: the newest of each
	timers           []timer                        // of stream time
	alarms, parked   int
}

// markerSeen is a marker as it was found.
type markerSeen struct {
	bucket  int64
	outcome string
}

// Cell is fed with each key of each store as the changelogs have it: the last value that is no tombstone. store is the name of the
// store, partition that of its changelog.
func (j *Judge) Cell(store string, partition int32, key, value []byte) {
	c := &j.cells
	switch store {
	case "accounts":
		j.only(c.accounts, key, value, "account")
	case "stocks":
		j.only(c.stocks, key, value, "stock")
	case "commands-markers":
		j.markerCell(partition, key, value)
	case "commands-timers":
		j.timerCell(key, value)
	case "commands-parked":
		if key[0] == 'p' {
			c.parked++
		}
	}
}

func (j *Judge) only(in map[string][]byte, key, value []byte, what string) {
	if _, twice := in[string(key)]; twice {
		j.find(State, "%s %q is there twice", what, key)
	}
	in[string(key)] = slices.Clone(value)
}

// markerCell takes a marker apart: the key is its bucket, in 8 bytes whose order is that of time, and a hash. A marker that was
// written again lies in several buckets, of which the newest counts; expired ones may still be in the log.
func (j *Judge) markerCell(partition int32, key, value []byte) {
	m, ok := takeMarker(value)
	if !ok || len(key) < 8 {
		j.find(Markers, "the marker %x=%x of partition %d cannot be read", key, value, partition)
		return
	}
	p, bucket := j.partition(partition), int64(binary.BigEndian.Uint64(key)^1<<63)
	at := place{m.topic != fold(j.commandsID), partition, m.offset}
	now := j.bucket(p.markerTime)
	switch {
	case p.markerTime == never || bucket > now:
		j.find(Markers, "the marker of %v lies in bucket %d, marker time is in %d", at, bucket, now)
	case bucket < now-2:
	default:
		if j.cells.markers[partition] == nil {
			j.cells.markers[partition] = map[place]markerSeen{}
		}
		if other, found := j.cells.markers[partition][at]; !found || other.bucket < bucket {
			j.cells.markers[partition][at] = markerSeen{bucket, m.outcome}
		}
	}
}

// markerValue is what the judge reads of the value of a marker.
type markerValue struct {
	outcome string
	topic   uint32
	offset  int64
}

// The bits of the second byte of a marker: the outcome, and what comes between the topic and the offset.
const (
	markerOutcome = 7
	markerBody    = 8
	markerReplay  = 16
	markerIssue   = 64
	markerOutputs = 128
)

// takeMarker reads version 1 | what 1 | topic 4 | body 8 | replay | issue | offset | outputs, where body, replay, issue and outputs are
// there if the bits of what say so, and numbers without a size are varints.
func takeMarker(value []byte) (m markerValue, ok bool) {
	outcomes := []string{1: "applied", 2: "rejected", 3: "dead_lettered", 4: "skipped", 5: "parked"}
	if len(value) < 7 || value[0] != 1 || value[1]&markerOutcome == 0 || int(value[1]&markerOutcome) >= len(outcomes) {
		return m, false
	}
	what, rest := value[1], value[6:]
	m.outcome, m.topic = outcomes[what&markerOutcome], binary.BigEndian.Uint32(value[2:])
	if what&markerBody != 0 {
		rest = rest[min(8, len(rest)):]
	}
	ok = true
	number := func() uint64 {
		n, size := binary.Uvarint(rest)
		ok = ok && size > 0
		rest = rest[max(0, size):]
		return n
	}
	if what&markerReplay != 0 {
		number()
	}
	if what&markerIssue != 0 {
		number()
	}
	m.offset = int64(number())
	return m, ok && (len(rest) > 0) == (what&markerOutputs != 0)
}

// fold is a topic id as markers have it: its four words, exclusive or.
func fold(id [16]byte) (word uint32) {
	for i := 0; i < len(id); i += 4 {
		word ^= binary.BigEndian.Uint32(id[i:])
	}
	return word
}

// timerCell takes a timer apart: 'd' | clock 1 | due 8 | number 8 -> version 1 | node | store 4 | key | name | payload, where node, key,
// name and payload have their length and one in front. The timers of parked records are called "retry".
func (j *Judge) timerCell(key, value []byte) {
	if key[0] != 'd' || len(key) != 18 || len(value) == 0 {
		return // the index
	}
	rest := value[1:]
	text := func() string {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > uint64(len(rest)-size)+1 {
			return "?"
		}
		end := size + int(max(n, 1)-1)
		s := string(rest[size:end])
		rest = rest[end:]
		return s
	}
	node := text()
	if len(rest) < 4 {
		j.find(Timers, "the timer %x cannot be read", key)
		return
	}
	rest = rest[4:]
	account, name := text(), text()
	switch due := int64(binary.BigEndian.Uint64(key[2:]) ^ 1<<63); {
	case node == "": // of a parked record
	case key[1] == 1:
		j.cells.timers = append(j.cells.timers, timer{account, name, due})
	default:
		j.cells.alarms++
	}
}

// Position is fed with the committed offset and the end of each partition of each input.
func (j *Judge) Position(topic string, partition int32, committed, end int64) {
	if committed != end {
		j.find(Position, "%s/%d: the committed offset is %d, the end %d", topic, partition, committed, end)
	}
}

// Verdict ends the judgement: what was expected and did not come is lost.
func (j *Judge) Verdict() *Verdict {
	j.closeReplays()
	j.closeOutputs()
	j.closeState()
	for n, p := range j.partitions {
		j.closeMarkers(n, p)
	}
	j.closeTimers()
	return &j.verdict
}

func (j *Judge) closeOutputs() {
	for at, l := range j.letters {
		if !l.came {
			j.find(Lost, "%v has no dead letter", at)
		}
	}
	for key, a := range j.accounts {
		if len(a.events) > 0 {
			j.find(Lost, "%d events of %q, the first is %s of %v", len(a.events), key, a.events[0].event(), a.events[0].from)
		}
		for product, ops := range a.moves {
			if len(ops) > 0 {
				j.find(Lost, "%d moves of %q by %q, the first with seq %d of %v", len(ops), product, key, ops[0].seq, ops[0].from)
			}
		}
		for name, n := range a.alarms {
			if n > 0 {
				j.find(Lost, "timer %q of %q has not rung", name, key)
			}
		}
	}
	for product, s := range j.stocks {
		if len(s.totals) > 0 {
			j.find(Lost, "%d totals of %q, the first is %s of %s", len(s.totals), product, s.totals[0].text, s.totals[0].from)
		}
	}
}

// closeState compares accounts and stocks, byte by byte.
func (j *Judge) closeState() {
	want := map[string]string{}
	for key, a := range j.accounts {
		if a.exists {
			want[key] = fmt.Sprintf(`{"seq":%d,"sum":%d,"rings":%d}`, a.seq, a.sum, a.rings)
		}
	}
	for _, w := range j.replays {
		if amount, _ := w.mended(); w.applied > 0 {
			want[w.key] = fmt.Sprintf(`{"seq":1,"sum":%d,"rings":0}`, amount)
		}
	}
	j.same("account", want, j.cells.accounts)
	want = map[string]string{}
	for product, s := range j.stocks {
		want[product] = fmt.Sprintf(`{"moves":%d,"sum":%d}`, s.moves, s.sum)
	}
	j.same("stock", want, j.cells.stocks)
}

func (j *Judge) same(what string, want map[string]string, got map[string][]byte) {
	for key, text := range want {
		if value, found := got[key]; !found {
			j.find(State, "%s %q is not there, want %s", what, key, text)
		} else if string(value) != text {
			j.find(State, "%s %q is %s, want %s", what, key, value, text)
		}
	}
	for key, value := range got {
		if _, found := want[key]; !found {
			j.find(State, "%s %q is %s, want nothing", what, key, value)
		}
	}
}

// closeMarkers demands a marker for what is within the window, in the bucket of the marker time at which it was written, and a message
// for each marker.
func (j *Judge) closeMarkers(partition int32, p *partition) {
	got, expected := j.cells.markers[partition], map[place]bool{}
	for bucket, markers := range p.markers {
		for id, m := range markers {
			expected[m.at] = true
			j.demand(id, bucket, m, got)
		}
	}
	for bucket, markers := range p.refused {
		for _, m := range markers {
			expected[m.at] = true
			j.demand("", bucket, m, got)
		}
	}
	for at, m := range got {
		if !expected[at] && !at.replay && !p.loose[at.offset] {
			j.find(Markers, "the marker of %v (%s) has no message whose marker must live", at, m.outcome)
		}
	}
}

// demand demands one marker.
func (j *Judge) demand(id string, bucket int64, want *marker, got map[place]markerSeen) {
	m, found := got[want.at]
	w := j.replays[id]
	switch {
	case w != nil && (w.applied > 0 || len(w.failed) > 0): // it lies at the replay now
	case !found:
		j.find(Markers, "message %q of %v (%s) has no marker", id, want.at, want.outcome)
	case m.outcome != want.outcome:
		j.find(Markers, "the marker of %v says %s, want %s", want.at, m.outcome, want.outcome)
	case m.bucket < bucket || m.bucket > bucket && !want.loose:
		j.find(Markers, "the marker of %v lies in bucket %d, want %d", want.at, m.bucket, bucket)
	}
}

func (j *Judge) closeTimers() {
	left := map[timer]bool{}
	for _, p := range j.partitions {
		for _, t := range p.timers {
			left[*t] = true
		}
	}
	for _, t := range j.cells.timers {
		if !left[t] {
			j.find(Timers, "timer %q of %q, due at %d, is pending and should not be", t.name, t.account, t.due)
		}
		delete(left, t)
	}
	for t := range left {
		j.find(Timers, "timer %q of %q, due at %d, is not pending", t.name, t.account, t.due)
	}
	if c := &j.cells; c.alarms > 0 || c.parked > 0 {
		j.find(Timers, "%d timers of the wall clock are pending, %d records are parked", c.alarms, c.parked)
	}
}
