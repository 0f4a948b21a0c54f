package judge

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/record"
)

// stock is a product of the second stage.
type stock struct {
	partition  int32
	moves, sum int64
	totals     []total
}

// total is an output of the second stage that must come.
type total struct {
	text      string
	timestamp int64
	from      record.Position
}

// once demands an id that no other record of the topic has. A message that runs again because its marker has expired has the ids that
// it had.
func (j *Judge) once(r *record.Raw) {
	text := header(r, record.HeaderID)
	var id [16]byte
	if n, err := hex.Decode(id[:], []byte(text)); err != nil || n != len(id) {
		j.find(Wrong, "%s has the output id %q, which is none", r.Position, text)
		return
	}
	if j.ids[r.Topic] == nil {
		j.ids[r.Topic] = map[[16]byte]bool{}
	}
	if j.ids[r.Topic][id] && !j.again[header(r, record.HeaderCause)] {
		j.find(Doubled, "%s has the output id %s, which was seen before", r.Position, text)
	}
	j.ids[r.Topic][id] = true
}

// Letter is fed with each dead letter, after all commands and replays.
func (j *Judge) Letter(r *record.Raw) {
	j.verdict.Letters++
	topic := header(r, "__streams.errors.topic")
	partition, err := strconv.ParseInt(header(r, "__streams.errors.partition"), 10, 32)
	offset, err2 := strconv.ParseInt(header(r, "__streams.errors.offset"), 10, 64)
	if err != nil || err2 != nil {
		j.find(Wrong, "dead letter %s does not say where its record was", r.Position)
		return
	}
	at := place{replay: topic == j.names.Replays, partition: int32(partition), offset: offset}
	if at.replay {
		j.replayLetter(r, at)
		return
	}
	l := j.letters[at]
	switch {
	case l == nil || topic != j.names.Commands:
		j.find(Ghost, "dead letter %s of %s/%d@%d, which is none", r.Position, topic, partition, offset)
	case l.came:
		j.find(Doubled, "dead letter %s of %v, which has one", r.Position, at)
	case l.id != header(r, proof.HeaderMessageID) || !isLetterOf(r, l.key, l.value, 1):
		j.wrongLetter(r, at)
	}
	if l != nil {
		l.came = true
		if !l.late {
			j.closeRefusals(j.partition(at.partition), l.bucket)
		}
	}
}

// isLetterOf says that a dead letter has the key and the value of its record, and the number of its next replay.
func isLetterOf(r *record.Raw, key, value string, next int) bool {
	return string(r.Key) == key && string(r.Value) == value && header(r, record.HeaderDeadLetterReplay) == strconv.Itoa(next)
}

func (j *Judge) wrongLetter(r *record.Raw, at place) {
	j.find(Wrong, "dead letter %s of %v is %q=%q, message %q, next replay %q", r.Position, at, r.Key, r.Value,
		header(r, proof.HeaderMessageID), header(r, record.HeaderDeadLetterReplay))
}

// Event is fed with each record of the events.
func (j *Judge) Event(r *record.Raw) {
	j.verdict.Events++
	j.once(r)
	key := string(r.Key)
	if key != "" && key[0] == 'd' {
		j.mended(r, func(w *replay) { w.applied++ }, func(w *replay) string {
			amount, product := w.mended()
			return op{seq: 1, sum: amount, amount: amount, product: product}.event()
		}, key)
		return
	}
	a := j.accounts[key]
	if a == nil {
		j.find(Ghost, "event %s of %q, which has no commands", r.Position, r.Key)
		return
	}
	if r.Partition != a.partition {
		j.find(Wrong, "event %s of %q, whose commands are on partition %d", r.Position, key, a.partition)
	}
	if name, is := ringOf(string(r.Value)); is && a.alarms[name] > 0 {
		a.alarms[name]--
		a.rings++
		return
	}
	if len(a.events) == 0 {
		j.find(Doubled, "event %s of %q is %s, no more was to come", r.Position, key, r.Value)
		return
	}
	want := a.events[0]
	a.events = a.events[1:]
	j.compare(r, want.event(), want, "event")
}

// mended judges an output of a key with d: of a message that ran as a replay.
func (j *Judge) mended(r *record.Raw, count func(*replay), text func(*replay) string, account string) {
	w := j.replays[messageOf(account)]
	switch {
	case w == nil || w.key != account:
		j.find(Ghost, "%s of %q, which has no replay", r.Position, account)
	case text(w) != string(r.Value):
		j.find(Wrong, "%s is %s, want %s", r.Position, r.Value, text(w))
	default:
		count(w)
	}
}

// messageOf is the id of the only message of a key with d.
func messageOf(key string) string { return "m" + key[1:] }

// ringOf is the name in the event of a timer.
func ringOf(value string) (name string, is bool) {
	const before, after = `{"ring":"`, `"}`
	if len(value) < len(before)+len(after) || value[:len(before)] != before {
		return "", false
	}
	return value[len(before) : len(value)-len(after)], true
}

// compare demands value, time and cause of an output.
func (j *Judge) compare(r *record.Raw, value string, want op, what string) {
	if string(r.Value) != value {
		j.find(Wrong, "%s %s of %q is %s, want %s of %v", what, r.Position, r.Key, r.Value, value, want.from)
		return
	}
	if r.Timestamp.UnixMilli() != want.timestamp {
		j.find(Wrong, "%s %s has the timestamp %d, want %d of %v", what, r.Position, r.Timestamp.UnixMilli(), want.timestamp, want.from)
	}
	if want.from.offset >= 0 {
		if got, cause := header(r, record.HeaderCause), j.cause(want.from); got != cause {
			j.find(Wrong, "%s %s has the cause %q, want %q", what, r.Position, got, cause)
		}
	}
}

// event renders the value of an event.
func (o op) event() string {
	if o.ring != "" {
		return fmt.Sprintf(`{"ring":%q}`, o.ring)
	}
	if o.product == "" {
		return fmt.Sprintf(`{"seq":%d%s}`, o.seq, field("sum", o.sum))
	}
	return fmt.Sprintf(`{"seq":%d%s,"amount":%d,"product":%q}`, o.seq, field("sum", o.sum), o.amount, o.product)
}

func field(name string, n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(`,%q:%d`, name, n)
}

// Moved is fed with each record of the repartition topic, also of what was deleted since: an output of the first stage, and an input
// of the second.
func (j *Judge) Moved(r *record.Raw) {
	j.verdict.Moves++
	j.once(r)
	product := string(r.Key)
	account, seq, amount, ok := takeApart(string(r.Value))
	switch {
	case !ok:
		j.find(Wrong, "move %s of %q is %s", r.Position, product, r.Value)
		return
	case account[0] == 'd':
		j.mended(r, func(w *replay) { w.moved++ }, func(w *replay) string {
			amount, _ := w.mended()
			return moveText(account, 1, amount)
		}, account)
	default:
		j.moved(r, account, product)
	}
	j.stocked(r, account, product, seq, amount)
}

func (j *Judge) moved(r *record.Raw, account, product string) {
	a := j.accounts[account]
	if a == nil {
		j.find(Ghost, "move %s of the account %q, which has no commands", r.Position, account)
		return
	}
	ops := a.moves[product]
	if len(ops) == 0 {
		j.find(Doubled, "move %s of %q is %s, no more was to come", r.Position, product, r.Value)
		return
	}
	a.moves[product] = ops[1:]
	j.compare(r, moveText(account, ops[0].seq, ops[0].amount), ops[0], "move")
}

// stocked recomputes the second stage.
func (j *Judge) stocked(r *record.Raw, account, product string, seq, amount int64) {
	s := j.stocks[product]
	if s == nil {
		s = &stock{partition: r.Partition}
		j.stocks[product] = s
	} else if s.partition != r.Partition {
		j.find(Wrong, "move %s of %q, which is on partition %d", r.Position, product, s.partition)
	}
	s.moves++
	s.sum += amount
	s.totals = append(s.totals, total{
		text:      fmt.Sprintf(`{"account":%q,"seq":%d,"amount":%d,"moves":%d,"sum":%d}`, account, seq, amount, s.moves, s.sum),
		timestamp: r.Timestamp.UnixMilli(), from: r.Position,
	})
}

// Total is fed with each record of the totals, after all moves.
func (j *Judge) Total(r *record.Raw) {
	j.verdict.Totals++
	j.once(r)
	s := j.stocks[string(r.Key)]
	switch {
	case s == nil:
		j.find(Ghost, "total %s of %q, which has no moves", r.Position, r.Key)
		return
	case len(s.totals) == 0:
		j.find(Doubled, "total %s of %q is %s, no more was to come", r.Position, r.Key, r.Value)
		return
	}
	want := s.totals[0]
	s.totals = s.totals[1:]
	switch cause := header(r, record.HeaderCause); {
	case string(r.Value) != want.text:
		j.find(Wrong, "total %s of %q is %s, want %s of %s", r.Position, r.Key, r.Value, want.text, want.from)
	case r.Partition != s.partition || r.Timestamp.UnixMilli() != want.timestamp || cause != want.from.String():
		j.find(Wrong, "total %s of %q: timestamp %d, cause %q, want partition %d, timestamp %d, cause %s", r.Position, r.Key,
			r.Timestamp.UnixMilli(), cause, s.partition, want.timestamp, want.from)
	}
}

func moveText(account string, seq, amount int64) string {
	return fmt.Sprintf(`{"account":%q,"seq":%d,"amount":%d}`, account, seq, amount)
}

// takeApart reads what moveText renders.
func takeApart(text string) (account string, seq, amount int64, ok bool) {
	if n, err := fmt.Sscanf(text, `{"account":%q,"seq":%d,"amount":%d}`, &account, &seq, &amount); err != nil || n != 3 || account == "" {
		return "", 0, 0, false
	}
	return account, seq, amount, moveText(account, seq, amount) == text
}
