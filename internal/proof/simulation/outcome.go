package simulation

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/streamtest"
)

// Outcome is what a run committed, by key, without what may differ between two right runs of the same traffic: in which order records of
// several partitions meet in the repartition, where a timer of the wall clock rings among the records of its key, and the running number
// of a timer in its task, which is in the ids of its outputs: retries and replays, which come with the clock, set timers too. Lines are
// compared as they are.
type Outcome struct {
	// Events are the outputs of the first stage, by key in order, with the ids that those of messages carry; rings of keys with w are
	// sorted behind.
	Events map[string][]string
	// Moves are what the second stage had to do, and did, by product and account in order.
	Moves, Totals map[string][]string
	// State is each account and stock, pending timer, and the marker of each message.
	State map[string]string
	// Letters are the places of what was refused.
	Letters []string
}

func outcomeOf(names proof.Names, logs map[string][]record.Raw, cells []streamtest.Cell) (*Outcome, error) {
	o := &Outcome{Events: map[string][]string{}, Moves: map[string][]string{}, Totals: map[string][]string{}, State: map[string]string{}}
	rings := map[string][]string{}
	for _, r := range logs[names.Events] {
		key, value := string(r.Key), string(r.Value)
		switch ring := strings.Contains(value, `"ring"`); {
		case ring && strings.HasPrefix(key, "w"):
			rings[key] = append(rings[key], value)
		case ring:
			o.Events[key] = append(o.Events[key], fmt.Sprintf("%s at %d", value, r.Timestamp.UnixMilli()))
		default:
			o.Events[key] = append(o.Events[key], fmt.Sprintf("%s at %d id %s", value, r.Timestamp.UnixMilli(), streamtest.Header(r, record.HeaderID)))
		}
	}
	for key, lines := range rings {
		slices.Sort(lines)
		o.Events[key] = append(o.Events[key], lines...)
	}
	for topic, into := range map[string]map[string][]string{names.ByProduct: o.Moves, names.Totals: o.Totals} {
		for _, r := range logs[topic] {
			var m proof.Move
			if err := json.Unmarshal(r.Value, &m); err != nil {
				return nil, err
			}
			key := fmt.Sprintf("%s by %s", r.Key, m.Account)
			into[key] = append(into[key], fmt.Sprintf("%d: %d at %d", m.Seq, m.Amount, r.Timestamp.UnixMilli()))
		}
	}
	for _, r := range logs[names.Letters] {
		place := placeOf(r)
		if streamtest.Header(r, headerTopic) == names.Replays { // where a replay lies depends on when it was sent
			place = "replay of " + streamtest.Header(r, proof.HeaderMessageID)
		}
		o.Letters = append(o.Letters, fmt.Sprintf("%s %s", place, streamtest.Header(r, "__streams.errors.exception")))
	}
	slices.Sort(o.Letters)
	for _, c := range cells {
		if err := o.keep(&c); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// keep adds a cell of the state. The retries of a marker, and the bucket in which it lies, depend on when it was retried.
func (o *Outcome) keep(c *streamtest.Cell) error {
	switch c.Store {
	case "accounts", "stocks":
		o.State[c.Store+" "+string(c.Key)] = string(c.Value)
	case "commands-timers":
		if c.Key[0] == 'd' {
			o.State[fmt.Sprintf("%s timer due %x", c.Task, c.Key[1:10])] += string(c.Value)
		}
	case "commands-markers":
		m, err := dedup.DecodeMarker(c.Value)
		if err != nil {
			return err
		}
		o.State[fmt.Sprintf("%s marker %x", c.Task, c.Key[8:])] = fmt.Sprintf("%v, body %x", m.Outcome, m.Body)
	}
	return nil
}

// Differences lists, in a bounded number of lines, where two outcomes part.
func (o *Outcome) Differences(other *Outcome) (lines []string) {
	differ := func(format string, args ...any) {
		const enough = 10
		if len(lines) < enough {
			lines = append(lines, fmt.Sprintf(format, args...))
		}
	}
	for what, pair := range map[string][2]map[string][]string{"events of": {o.Events, other.Events}, "moves of": {o.Moves, other.Moves}, "totals of": {o.Totals, other.Totals}} {
		for _, key := range keysOf(pair[0], pair[1]) {
			if a, b := pair[0][key], pair[1][key]; !slices.Equal(a, b) {
				differ("%s %s:\n  %q\n  %q", what, key, a, b)
			}
		}
	}
	for _, key := range keysOf(o.State, other.State) {
		if a, b := o.State[key], other.State[key]; a != b {
			differ("state %s: %q, and %q", key, a, b)
		}
	}
	if !slices.Equal(o.Letters, other.Letters) {
		differ("dead letters:\n  %q\n  %q", o.Letters, other.Letters)
	}
	return lines
}

func keysOf[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}
