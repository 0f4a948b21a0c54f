package judge

import (
	"strconv"
	"strings"

	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/record"
)

// replay is what a dead letter may come to when it is sent again: a run of each number, or its refusal (OM212) where the marker of the
// message has expired. When that was, depends on how the replay topic and the commands were read; the order of the letters of a
// partition says before which command a replay was refused.
type replay struct {
	key, value string
	bucket     int64 // of the marker that admits its first replay; later ones only make it newer
	sent       map[place]*sending
	first      map[int]*sending // by number: a topic is fed in the order in which it is processed
	failed     map[int]bool     // numbers of runs that failed again
	applied    int              // events
	moved      int
}

// sending is a record of the replay topic.
type sending struct {
	at                place
	number            int
	lettered, refused bool
}

// refusal is the letter of a replay that was refused, for a marker of that bucket.
type refusal struct {
	at     place
	bucket int64
}

const replayRefused = "OM212"

func (j *Judge) expectReplay(id, key, value string, bucket int64) {
	if j.replays[id] != nil {
		j.find(Traffic, "message %s has a key of one message only, and ran twice", id)
	}
	j.replays[id] = &replay{key: key, value: value, bucket: bucket, sent: map[place]*sending{}, first: map[int]*sending{}, failed: map[int]bool{}}
}

// Replay is fed with each record of the replay topic, after all commands.
func (j *Judge) Replay(r *record.Raw) {
	j.verdict.Replays++
	id := header(r, proof.HeaderMessageID)
	w, at := j.replays[id], place{replay: true, partition: r.Partition, offset: r.Offset}
	number, err := strconv.Atoi(header(r, record.HeaderReplay))
	if w == nil || w.key != string(r.Key) || w.value != string(r.Value) || err != nil || number < 1 {
		j.find(Traffic, "%v replays message %q, which cannot be judged", at, id)
		return
	}
	s := &sending{at: at, number: number}
	w.sent[at] = s
	if w.first[number] == nil {
		w.first[number] = s
	}
}

// replayLetter judges a dead letter of a replay.
func (j *Judge) replayLetter(r *record.Raw, at place) {
	id := header(r, proof.HeaderMessageID)
	w := j.replays[id]
	if w == nil || w.sent[at] == nil {
		j.find(Ghost, "dead letter %s of %v, which does not replay message %q", r.Position, at, id)
		return
	}
	s := w.sent[at]
	if s.lettered {
		j.find(Doubled, "dead letter %s of %v, which has one", r.Position, at)
		return
	}
	s.lettered = true
	if !isLetterOf(r, w.key, w.value, s.number+1) {
		j.wrongLetter(r, at)
	}
	switch {
	case header(r, "__streams.errors.exception") == replayRefused:
		s.refused = true
		p := j.partition(at.partition)
		p.refusals = append(p.refusals, refusal{at, w.bucket})
	case w.value != "fail" || w.failed[s.number]:
		j.find(Doubled, "dead letter %s of %v: message %s was not to fail (again)", r.Position, at, id)
	default:
		w.failed[s.number] = true
	}
}

// closeRefusals judges the refusals of a partition that came before marker time left a bucket: a marker that lived then admits a run.
func (j *Judge) closeRefusals(p *partition, bucket int64) {
	for _, r := range p.refusals {
		if r.bucket >= bucket-2 {
			j.find(Wrong, "%v was refused (%s), and its marker lived", r.at, replayRefused)
		}
	}
	p.refusals = nil
}

// closeReplays judges what became of each.
func (j *Judge) closeReplays() {
	for _, p := range j.partitions {
		j.closeRefusals(p, j.bucket(p.markerTime))
	}
	for id, w := range j.replays {
		switch {
		case w.applied > 0 && len(w.sent) == 0:
			j.find(Ghost, "message %s ran, and was not replayed", id)
		case w.applied > 1:
			j.find(Doubled, "message %s: its replay has %d effects", id, w.applied)
		}
		if w.moved != w.applied {
			j.find(Lost, "message %s: %d events of its replay, %d moves", id, w.applied, w.moved)
		}
		for number, s := range w.first {
			switch ran := w.failed[number] || number == 1 && w.applied > 0; {
			case ran && s.refused:
				j.find(Wrong, "message %s: its replay %v was refused, and ran later", id, s.at)
			case !ran && !s.lettered:
				j.find(Lost, "message %s: its replay %v has neither an effect nor a dead letter", id, s.at)
			}
		}
	}
}

// mended is the amount and the product of a message that may run as a replay.
func (w *replay) mended() (amount int64, product string) {
	words := strings.Fields(w.value)
	if len(words) != 3 {
		return 0, ""
	}
	amount, _ = strconv.ParseInt(words[1], 10, 64)
	return amount, words[2]
}
