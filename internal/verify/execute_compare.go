package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// compareKeys holds the state of the second run against the changelogs.
func (x *rerun) compareKeys(ctx context.Context, t *taskCut, state *statestore.Task, clock clockPart) error {
	for _, st := range t.sub.Stores {
		if st.Kind == statestore.KindTask || st.Kind == statestore.KindTimers && clock.pending > 0 {
			continue // the one counts transactions, the other's times are those of the clock
		}
		log, err := x.changelog(ctx, t, st, func(int64) {})
		if err != nil {
			return err
		}
		end := t.meta.End(st.Changelog)
		j := &storeJoin{run: x.run, check: CheckRerunKeys, task: t, store: st, horizon: horizonIn(t.latest.Horizons, st.ID()), other: "the second run", doubt: clock.doubt}
		if err := errors.Join(j.join(log, end, state), log.close()); err != nil {
			return err
		}
	}
	return nil
}

// compare joins the outputs of both runs by topic and id.
func (x *rerun) compare() error {
	old, err := x.produced.sorted()
	if err != nil {
		return err
	}
	made, err := x.made.sorted()
	if err != nil {
		return err
	}
	moreOld, moreMade := old.next(), made.next()
	for moreOld || moreMade {
		order := -1
		switch {
		case !moreOld:
			order = 1
		case moreMade:
			order = bytes.Compare(old.key, made.key)
		}
		switch {
		case order < 0:
			x.onlyOld(old)
		case order > 0:
			x.onlyMade(made)
		default:
			x.both(old, made)
		}
		// Copies of one id are looked at elsewhere.
		key := bytes.Clone(old.key)
		if order > 0 {
			key = bytes.Clone(made.key)
		}
		for moreOld && bytes.Equal(old.key, key) {
			moreOld = old.next()
		}
		for moreMade && bytes.Equal(made.key, key) {
			moreMade = made.next()
		}
	}
	return errors.Join(old.err, made.err)
}

func (x *rerun) wasRun(entry []byte) bool {
	if binary.BigEndian.Uint16(entry) == noInput {
		return x.all
	}
	return x.done[[6]byte(entry)]
}

// differ tells a difference between the runs: a finding, unless the task of its cause is in doubt.
func (x *rerun) differ(entry []byte, code problem.Code, e evidence, format string, args ...any) {
	doubt := x.doubt
	if binary.BigEndian.Uint16(entry) != noInput {
		doubt = x.doubts[[6]byte(entry)]
	}
	if doubt != "" {
		x.skip(CheckRerun, doubt)
		return
	}
	x.check(CheckRerun).Checked++
	x.found(CheckRerun, code, e, format, args...)
}

// causeOf is the input that an entry names; false for a timer.
func (x *rerun) causeOf(entry []byte) (Spot, bool) {
	input, partition, offset := binary.BigEndian.Uint16(entry), int32(binary.BigEndian.Uint32(entry[2:])), int64(binary.BigEndian.Uint64(entry[6:]))
	if input == noInput {
		return Spot{}, false
	}
	return Spot{x.names[input], partition, offset}, true
}

// onlyOld judges an output that the second run did not make.
func (x *rerun) onlyOld(old *cursor) {
	have := readDescribed(old.value[placeBytes:])
	cause, fromInput := x.causeOf(old.value)
	switch {
	case have.old:
		x.skip(CheckRerun, beforeSince)
		return
	case !x.wasRun(old.value):
		x.skip(CheckRerun, taskNotRun)
		return
	case x.Shared:
		x.skip(CheckRerun, "not made by this application, or no longer: others write there, too")
		return
	case fromInput && cause.Offset < x.topics[cause.Topic].Starts[cause.Partition]:
		x.skip(CheckRerun, "the input no longer has the record")
		return
	}
	e := at(Spot{x.outputTopic(old), have.partition, have.offset})
	e.wants = nothing
	name := "a timer"
	if fromInput {
		name = cause.String()
		e.records = append(e.records, cause)
	}
	x.differ(old.value, problem.FindingGhost, e, "%s, run again, does not make it", name)
}

func (x *rerun) outputTopic(c *cursor) string { return x.run.outputs[binary.BigEndian.Uint16(c.key)] }

// onlyMade judges an output that only the second run made.
func (x *rerun) onlyMade(made *cursor) {
	want, name := readDescribed(made.value[placeBytes:]), x.outputTopic(made)
	topic := x.topics[name]
	switch {
	case !x.wasRun(made.value): // it ended before it was through, and nothing of it counts
		return
	case want.old:
		x.skip(CheckRerun, beforeSince)
		return
	case topic.Compacted || topic.Starts[want.partition] > 0:
		x.skip(CheckRerun, "the output topic no longer has all its records")
		return
	}
	cause, _ := x.causeOf(made.value)
	e := evidence{records: []Spot{{name, want.partition, -1}, cause}, key: want.key, has: nothing, wants: want.value}
	x.differ(made.value, problem.FindingLost, e, "%s, run again, makes the output %x, which is not there", cause, made.key[2:])
}

// both judges an output of both runs.
func (x *rerun) both(old, made *cursor) {
	have, want := readDescribed(old.value[placeBytes:]), readDescribed(made.value[placeBytes:])
	switch {
	case have.old && want.old:
		x.skip(CheckRerun, beforeSince)
		return
	case !x.wasRun(made.value):
		x.skip(CheckRerun, taskNotRun)
		return
	case have.partition == want.partition && have.hash == want.hash:
		x.check(CheckRerun).Checked++
		return
	}
	e := at(Spot{x.outputTopic(old), have.partition, have.offset})
	if cause, fromInput := x.causeOf(made.value); fromInput {
		e.records = append(e.records, cause)
	}
	e.wants = want.value
	x.differ(made.value, problem.FindingGhost, e, "its cause, run again, makes another: key %s in partition %d", want.key, want.partition)
}
