package judge

import (
	"strconv"
	"strings"

	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/record"
)

// replay is what a dead letter may come to when it is sent again. Whether its marker has expired until then depends on how the
// replay topic and the commands were read, so a replay may be refused (OM212), but only instead of its run.
type replay struct {
	key, value string
	timestamp  int64
	sent       map[place]bool // the records of the replay topic with number 1
	first      place
	refused    int // letters that say so
	failed     int // letters of a run that failed again
	applied    int // events
	moved      int
	more       bool // higher numbers were sent
}

const replayRefused = "OM212"

func (j *Judge) expectReplay(id, key, value string, ms int64) {
	if j.replays[id] != nil {
		j.find(Traffic, "message %s has a key of one message only, and ran twice", id)
	}
	j.replays[id] = &replay{key: key, value: value, timestamp: ms, sent: map[place]bool{}}
}

// Replay is fed with each record of the replay topic, after all commands.
func (j *Judge) Replay(r *record.Raw) {
	j.verdict.Replays++
	id := header(r, proof.HeaderMessageID)
	w, at := j.replays[id], place{replay: true, partition: r.Partition, offset: r.Offset}
	switch {
	case w == nil || w.key != string(r.Key) || w.value != string(r.Value):
		j.find(Traffic, "%v replays message %q, which cannot be judged", at, id)
	case header(r, record.HeaderReplay) != "1":
		w.more = true
	default:
		if len(w.sent) == 0 {
			w.first = at
		}
		w.sent[at] = true
	}
}

// replayLetter judges a dead letter of a replay.
func (j *Judge) replayLetter(r *record.Raw, at place) {
	w := j.replays[header(r, proof.HeaderMessageID)]
	switch {
	case w == nil || w.more && !w.sent[at]:
		if w == nil {
			j.find(Ghost, "dead letter %s of %v, which was not replayed", r.Position, at)
		}
	case !w.sent[at]:
		j.find(Ghost, "dead letter %s of %v, which is not there", r.Position, at)
	case header(r, "__streams.errors.exception") == replayRefused:
		w.refused++
	case w.value != "fail" || w.failed > 0:
		j.find(Doubled, "dead letter %s of %v: message %s was not to fail (again)", r.Position, at, header(r, proof.HeaderMessageID))
	default:
		w.failed++
	}
}

// closeReplays judges what became of each.
func (j *Judge) closeReplays() {
	for id, w := range j.replays {
		if len(w.sent) == 0 {
			if w.applied > 0 {
				j.find(Ghost, "message %s ran, and was not replayed", id)
			}
			continue
		}
		ended := w.failed
		if strings.HasPrefix(w.value, "mend ") {
			ended = w.applied
			if w.moved != w.applied {
				j.find(Lost, "message %s: %d events of its replay, %d moves", id, w.applied, w.moved)
			}
		}
		switch {
		case ended > 1:
			j.find(Doubled, "message %s: its replay has %d effects", id, ended)
		case ended == 0 && w.refused == 0:
			j.find(Lost, "message %s: its replay %v has neither an effect nor a dead letter", id, w.first)
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
