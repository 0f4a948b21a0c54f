package streamtest

import (
	"fmt"

	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
)

// ReplayDeadLetter sends the n-th committed dead letter, counted from 0, to the replay topic of its source, as it is
// replayed by hand (docs/guarantees.md), and processes it. force is the operator's word that it must run although its marker has expired.
func (d *Driver) ReplayDeadLetter(n int, force bool) {
	if d.tb != nil {
		d.tb.Helper()
	}
	letters := d.DeadLetters()
	if d.err != nil {
		return
	}
	if n >= len(letters) {
		d.failf("there are %d dead letters, none with the number %d", len(letters), n)
		return
	}
	replay, err := task.ReplayOf(d.plan, &letters[n], force)
	if err != nil {
		d.fail(err)
		return
	}
	d.Pipe(replay.Topic, Copy(replay).On(replay.Partition))
}

// Redeliver hands the records of a partition of a topic, from an offset on, to its task once more, as after a reset of the
// committed offsets.
func (d *Driver) Redeliver(topic string, partition int32, from int64) {
	if d.tb != nil {
		d.tb.Helper()
	}
	if d.err == nil {
		d.fail(d.redeliver(topic, partition, from))
	}
}

func (d *Driver) redeliver(name string, partition int32, from int64) error {
	s, input := d.reader(name, partition)
	if s == nil {
		return fmt.Errorf("no task reads partition %d of topic %q", partition, name)
	}
	log := d.topics.byName[name].partitions[partition]
	until := s.task.Next(input)
	for e := log.from(from); e != nil && e.raw.Offset < until; e = log.from(e.raw.Offset + 1) {
		raw := cloneRaw(&e.raw)
		if err := d.guard(s, func() error { return s.task.Step(input, &raw, d.Now()) }); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) reader(name string, partition int32) (*slot, int) {
	for _, s := range d.slots {
		for i, in := range s.task.Inputs() {
			if in.Topic == name && s.partition == partition {
				return s, i
			}
		}
	}
	return nil, 0
}

// Header returns the value of the last header of a record with that key, as text; empty when there is none.
func Header(r record.Raw, key string) string {
	v, _ := r.Header(key)
	return string(v)
}
