package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

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
func (x *rerun) differ(entry []byte, code problem.Code, place, format string, args ...any) {
	doubt := x.doubt
	if binary.BigEndian.Uint16(entry) != noInput {
		doubt = x.doubts[[6]byte(entry)]
	}
	if doubt != "" {
		x.skip(CheckRerun, doubt)
		return
	}
	x.found(CheckRerun, code, place, format, args...)
}

func (x *rerun) onlyOld(old *cursor) {
	if !x.wasRun(old.value) {
		return
	}
	if x.Shared {
		x.skip(CheckRerun, "not made by this application, or no longer: others write there, too")
		return
	}
	have := readDescribed(old.value[placeBytes:])
	input, partition, offset := binary.BigEndian.Uint16(old.value), int32(binary.BigEndian.Uint32(old.value[2:])), int64(binary.BigEndian.Uint64(old.value[6:]))
	cause := "a timer"
	if input != noInput {
		cause = fmt.Sprintf("%s/%d@%d", x.names[input], partition, offset)
	}
	x.differ(old.value, problem.FindingGhost, fmt.Sprintf("%s/%d@%d", x.outputTopic(old), have.partition, have.offset),
		"%s, run again, does not make it; %s", cause, have.text)
}

func (x *rerun) outputTopic(c *cursor) string { return x.run.outputs[binary.BigEndian.Uint16(c.key)] }

func (x *rerun) onlyMade(made *cursor) {
	if !x.wasRun(made.value) {
		return
	}
	want, name := readDescribed(made.value[placeBytes:]), x.outputTopic(made)
	if topic := x.topics[name]; topic.Compacted || topic.Starts[want.partition] > 0 {
		x.skip(CheckRerun, "the output topic no longer has all its records")
		return
	}
	input, partition, offset := binary.BigEndian.Uint16(made.value), int32(binary.BigEndian.Uint32(made.value[2:])), int64(binary.BigEndian.Uint64(made.value[6:]))
	x.differ(made.value, problem.FindingLost, fmt.Sprintf("%s/%d", name, want.partition), "%s/%d@%d, run again, makes the output %x, which is not there; %s",
		x.names[input], partition, offset, made.key[2:], want.text)
}

func (x *rerun) both(old, made *cursor) {
	have, want := readDescribed(old.value[placeBytes:]), readDescribed(made.value[placeBytes:])
	if !x.wasRun(made.value) {
		return
	}
	if x.check(CheckRerun).Checked++; have.partition == want.partition && have.hash == want.hash {
		return
	}
	x.differ(made.value, problem.FindingGhost, fmt.Sprintf("%s/%d@%d", x.outputTopic(old), have.partition, have.offset),
		"its cause, run again, makes other bytes: %s in partition %d, instead of %s", want.text, want.partition, have.text)
}
