package judge_test

import (
	"slices"
	"strconv"
	"testing"

	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/internal/proof/judge"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/streamtest"
)

// plantedReplays are mistakes of an engine with replays of dead letters.
var plantedReplays = []struct {
	name  string
	plant func(e *evidence)
	kind  judge.Kind
}{
	{"a dead letter with another key", func(e *evidence) {
		e.change(e.names.Letters, e.replayLetter(), func(r *record.Raw) { r.Key = []byte("other") })
	}, judge.Wrong},
	{"a dead letter with another value", func(e *evidence) {
		e.change(e.names.Letters, e.replayLetter(), func(r *record.Raw) { r.Value = []byte("garbage") })
	}, judge.Wrong},
	{"a dead letter of another message", func(e *evidence) {
		e.change(e.names.Letters, e.replayLetter(), func(r *record.Raw) { setHeader(r, proof.HeaderMessageID, "m999999") })
	}, judge.Ghost},
	{"a dead letter that may be replayed under a used number", func(e *evidence) {
		e.change(e.names.Letters, e.replayLetter(), func(r *record.Raw) { setHeader(r, record.HeaderDeadLetterReplay, "1") })
	}, judge.Wrong},
	{"a dead letter lost", func(e *evidence) { e.drop(e.names.Letters, e.replayLetter()) }, judge.Lost},
	{"a dead letter twice", func(e *evidence) { e.again(e.names.Letters, e.replayLetter()) }, judge.Doubled},
	{"a second run that fails", func(e *evidence) {
		i := e.replayLetter()
		e.again(e.names.Letters, i)
		e.change(e.names.Letters, i+1, nextPlace)
	}, judge.Doubled},
	{"a refusal beside the dead letter", func(e *evidence) {
		i := e.replayLetter()
		e.again(e.names.Letters, i)
		e.change(e.names.Letters, i+1, refused)
	}, judge.Doubled},
	{"all that would fail refused", func(e *evidence) {
		for i := range e.logs[e.names.Letters] {
			if e.isOfReplay(i) {
				e.change(e.names.Letters, i, refused)
			}
		}
	}, judge.Wrong},
	{"a copy refused while the marker lived", func(e *evidence) {
		i := e.replayLetter()
		e.again(e.names.Letters, i)
		e.change(e.names.Letters, i+1, func(r *record.Raw) { nextPlace(r); refused(r) })
	}, judge.Wrong},
	// At the end of the log, where nothing but the run says that the refusal is wrong.
	{"a run after a refusal", func(e *evidence) { e.refuseAtTheEnd(0) }, judge.Wrong},
	{"a run lost", func(e *evidence) {
		key := e.logs[e.names.Replays][e.mended(0)].Key
		e.logs[e.names.Events] = slices.DeleteFunc(e.logs[e.names.Events], func(r record.Raw) bool { return string(r.Key) == string(key) })
	}, judge.Lost},
}

func TestPlantedMistakesWithReplaysAreFound(t *testing.T) {
	for _, p := range plantedReplays {
		t.Run(p.name, func(t *testing.T) {
			e := run(t, 5, 400)
			p.plant(e)
			if v := e.judge(); v.Counts[p.kind] == 0 {
				t.Fatalf("not found as %s: %v", p.kind, v)
			}
		})
	}
}

// A copy of a replay that comes when the marker has expired is refused, and that is right.
func TestARefusalOfACopyAfterTheMarkerHasExpiredIsRight(t *testing.T) {
	e := run(t, 5, 400)
	e.refuseAtTheEnd(1)
	if v := e.judge(); !v.Clean() {
		t.Fatal(v)
	}
}

const headerOffset = "__streams.errors.offset"

func (e *evidence) isOfReplay(i int) bool {
	return streamtest.Header(e.logs[e.names.Letters][i], "__streams.errors.topic") == e.names.Replays
}

// replayLetter finds a letter of a replay: the first of two copies, as the test sends them.
func (e *evidence) replayLetter() int {
	for i := range e.logs[e.names.Letters] {
		if e.isOfReplay(i) {
			return i
		}
	}
	panic("no dead letter of a replay")
}

// nextPlace makes a letter that of the next record of the replay topic.
func nextPlace(r *record.Raw) {
	offset, err := strconv.ParseInt(streamtest.Header(*r, headerOffset), 10, 64)
	if err != nil {
		panic(err)
	}
	setHeader(r, headerOffset, strconv.FormatInt(offset+1, 10))
}

func refused(r *record.Raw) { setHeader(r, "__streams.errors.exception", "OM212") }

// mended finds a copy of the first replay of the log that goes well. Its marker expires before the end.
func (e *evidence) mended(copy int) int {
	for i, r := range e.logs[e.names.Replays] {
		if r.Value[0] == 'm' {
			return i + copy
		}
	}
	panic("no replay goes well")
}

// refuseAtTheEnd adds a refusal of such a copy behind all other letters.
func (e *evidence) refuseAtTheEnd(copy int) {
	replay := e.logs[e.names.Replays][e.mended(copy)]
	letter := e.logs[e.names.Letters][e.replayLetter()]
	letter.Key, letter.Value = replay.Key, replay.Value
	setHeader(&letter, proof.HeaderMessageID, streamtest.Header(replay, proof.HeaderMessageID))
	setHeader(&letter, "__streams.errors.partition", strconv.Itoa(int(replay.Partition)))
	setHeader(&letter, headerOffset, strconv.FormatInt(replay.Offset, 10))
	refused(&letter)
	e.logs[e.names.Letters] = append(e.logs[e.names.Letters], letter)
}
