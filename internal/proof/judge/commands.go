package judge

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/record"
)

// partition is what the first stage remembers of a partition of the commands.
type partition struct {
	streamTime int64
	markerTime int64
	markers    map[int64]map[string]*marker // by bucket and id
	refused    map[int64]map[place]*marker  // by bucket: of what was refused beside its id
	loose      map[int64]bool               // offsets of messages with loose markers
	timers     []*timer                     // of stream time, in the order in which they were set
	refusals   []refusal                    // letters of refused replays behind which no letter of a command has come yet
}

const never = -1 << 62

// marker is what must be remembered of a message.
type marker struct {
	at         place
	key, value string
	outcome    string
	// loose says that it is written again when a retry ends, at a time that the logs do not know.
	loose bool
}

// timer is one of stream time.
type timer struct {
	account, name string
	due           int64
}

// account is a key of the first stage.
type account struct {
	partition       int32
	exists          bool
	seq, sum, rings int64
	events          []op            // to come, in order
	moves           map[string][]op // to come, by product, in order
	alarms          map[string]int  // rings of the wall clock to come, at any place
}

// op is an output of the first stage that must come.
type op struct {
	seq, sum, amount int64
	product, ring    string
	timestamp        int64
	from             place
}

// letter is a dead letter that must come.
type letter struct {
	key, value, id string
	bucket         int64 // of marker time when its command came
	late           bool  // it may come long after its command: there are retries before it
	came           bool
}

// bucket is half a window of marker time. A marker lives while its bucket is the current one or one of the two before it.
func (j *Judge) bucket(ms int64) int64 {
	length := max(1, (j.windowMS+1)/2)
	if ms >= 0 {
		return ms / length
	}
	return -((-ms + length - 1) / length)
}

func (j *Judge) partition(n int32) *partition {
	p := j.partitions[n]
	if p == nil {
		p = &partition{streamTime: never, markerTime: never, markers: map[int64]map[string]*marker{}, refused: map[int64]map[place]*marker{},
			loose: map[int64]bool{}}
		j.partitions[n] = p
	}
	return p
}

// live finds the marker of an id.
func (j *Judge) live(p *partition, id string) *marker {
	if p.markerTime == never {
		return nil
	}
	for b := j.bucket(p.markerTime); b >= j.bucket(p.markerTime)-2; b-- {
		if m := p.markers[b][id]; m != nil {
			return m
		}
	}
	return nil
}

// remember moves marker time on, and writes a marker.
func (j *Judge) remember(p *partition, timestamp int64, id string, m *marker) {
	p.markerTime = max(p.markerTime, timestamp)
	b := j.bucket(p.markerTime)
	if id == "" {
		if p.refused[b] == nil {
			p.refused[b] = map[place]*marker{}
		}
		p.refused[b][m.at] = m
	} else {
		if p.markers[b] == nil {
			p.markers[b] = map[string]*marker{}
		}
		p.markers[b][id] = m
	}
	for old := range p.markers {
		if old < b-2 {
			delete(p.markers, old)
		}
	}
	for old := range p.refused {
		if old < b-2 {
			delete(p.refused, old)
		}
	}
}

// Command is fed with each record of the commands.
func (j *Judge) Command(r *record.Raw) {
	j.verdict.Commands++
	p, at := j.partition(r.Partition), place{partition: r.Partition, offset: r.Offset}
	id, key, value, ms := header(r, proof.HeaderMessageID), string(r.Key), string(r.Value), r.Timestamp.UnixMilli()
	known := (*marker)(nil)
	if id != "" {
		known = j.live(p, id)
	}
	switch {
	case id == "":
		j.expectLetter(at, key, value, id)
		j.remember(p, ms, "", &marker{at: at, outcome: "dead_lettered"})
		return
	case known != nil && known.key == key && known.value == value:
		return // a copy: nothing but its position
	case known != nil:
		j.expectLetter(at, key, value, id)
		j.remember(p, ms, "", &marker{at: at, outcome: "dead_lettered"})
		return
	}
	j.verdict.Admitted++
	if first, found := j.admitted[id]; found {
		j.again[j.cause(first)], j.again[j.cause(at)] = true, true
	} else {
		j.admitted[id] = at
	}
	p.loose[r.Offset] = key[0] == 'r' || key[0] == 'd'
	m := &marker{at: at, key: key, value: value, outcome: "applied", loose: p.loose[r.Offset]}
	if !utf8.ValidString(value) || value == "never" || value == "fail" || strings.HasPrefix(value, "mend ") {
		m.outcome = "dead_lettered"
		j.expectLetter(at, key, value, id)
		j.remember(p, ms, id, m)
		if key[0] == 'd' {
			j.expectReplay(id, key, value, j.bucket(p.markerTime))
		}
		return
	}
	j.remember(p, ms, id, m)
	j.book(p, at, key, value, ms)
	p.streamTime = max(p.streamTime, ms)
	p.markerTime = max(p.markerTime, p.streamTime)
	j.fire(p)
}

// cause is the header of the outputs of a command.
func (j *Judge) cause(at place) string {
	return record.Position{Topic: j.names.Commands, Partition: at.partition, Offset: at.offset}.String()
}

func (j *Judge) expectLetter(at place, key, value, id string) {
	j.letters[at] = &letter{key: key, value: value, id: id, bucket: j.bucket(j.partition(at.partition).markerTime), late: key[0] == 'r'}
}

func (j *Judge) account(key string, partition int32) *account {
	a := j.accounts[key]
	if a == nil {
		a = &account{partition: partition, moves: map[string][]op{}, alarms: map[string]int{}}
		j.accounts[key] = a
	} else if a.partition != partition {
		j.find(Traffic, "key %q is on the partitions %d and %d", key, a.partition, partition)
	}
	return a
}

// book applies a command to its account.
func (j *Judge) book(p *partition, at place, key, value string, ms int64) {
	a, words := j.account(key, at.partition), strings.Fields(value)
	if words[0] == "close" {
		a.exists, a.seq, a.sum, a.rings = false, 0, 0, 0
		p.timers = slices.DeleteFunc(p.timers, func(t *timer) bool { return t.account == key })
		return
	}
	o := op{timestamp: ms, from: at}
	switch words[0] {
	case "add", "mend":
		o.amount, o.product = j.number(words[1]), words[2]
	case "until":
		o.amount, o.product = j.number(words[2]), words[3]
	case "remind":
		p.timers = append(p.timers, &timer{account: key, name: words[1], due: j.number(words[2])})
	case "alarm":
		a.alarms[words[1]]++
	default:
		j.find(Traffic, "%v has the command %q", at, value)
		return
	}
	a.exists = true
	a.seq++
	a.sum += o.amount
	o.seq, o.sum = a.seq, a.sum
	a.events = append(a.events, o)
	if o.product != "" {
		a.moves[o.product] = append(a.moves[o.product], o)
	}
}

func (j *Judge) number(word string) int64 {
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		j.find(Traffic, "%v", err)
	}
	return n
}

// fire lets the timers ring that stream time has reached: by their times, then in the order in which they were set.
func (j *Judge) fire(p *partition) {
	for {
		first := -1
		for i, t := range p.timers {
			if t.due <= p.streamTime && (first < 0 || t.due < p.timers[first].due) {
				first = i
			}
		}
		if first < 0 {
			return
		}
		t := p.timers[first]
		p.timers = slices.Delete(p.timers, first, first+1)
		a := j.accounts[t.account]
		a.rings++
		a.events = append(a.events, op{ring: t.name, timestamp: t.due, from: place{offset: -1}})
	}
}
