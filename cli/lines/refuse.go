package lines

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/task"
)

// ownPlace is where the engine met a record: a place in topics of this package, which the user has not got.
var ownPlace = regexp.MustCompile(`^dedup in: (OM\d+) in ` + topicIn + `/0@\d+`)

// firstSeen is where the engine met the first record with an id, an offset of a topic of this package as well.
var firstSeen = regexp.MustCompile(`first seen at offset \d+`)

// seen says it in the user's terms. Behind a record that was not sent the number is not known.
func (r *run) seen(text string) string {
	offset, err := strconv.ParseInt(text[strings.LastIndexByte(text, ' ')+1:], 10, 64)
	switch first := r.feeder.first; {
	case err != nil || first < 0 || offset < first:
		return "first seen in an earlier run"
	case r.feeder.unsent > 0:
		return "first seen earlier in this input"
	default:
		return fmt.Sprintf("first seen with record %d", offset-first+1)
	}
}

// finish tells what was refused, and why: what the reader refused, the dead letters of this run, and what came again
// that was refused before. The engine took the last for duplicates, or refused it anew after its window.
func (r *run) finish(ctx context.Context) error {
	r.result.Refused = r.feeder.unsent
	refusals := r.feeder.refused
	again := int64(0)
	err := r.letters(ctx, r.deadStart, -1, func(letter *kgo.Record) {
		refusal := r.refusal(letter)
		if _, known := r.before.records[digestOf(letter.Value)]; known && refusal.Record > 0 {
			again++
			return
		}
		r.result.Refused++
		if len(refusals) < maxRefusals {
			refusals = append(refusals, refusal)
		}
	})
	r.result.RefusedBefore = r.before.met
	r.result.Refused += r.before.met
	r.result.Duplicates -= r.before.met - again
	r.result.Refusals = append(refusals, r.before.first[:min(len(r.before.first), maxRefusals-len(refusals))]...)
	return err
}

// letters hands the committed dead letters from an offset to an end to do; -1 is the present end.
func (r *run) letters(ctx context.Context, from, end int64, do func(*kgo.Record)) error {
	if end == from {
		return nil
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.DisableClientMetrics(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topicDead: {0: kgo.NewOffset().At(from)}}))
	if err != nil {
		return err
	}
	defer client.Close()
	committed, err := endOf(ctx, kadm.NewClient(client), topicDead, true)
	if err != nil {
		return err
	}
	if end < 0 || end > committed { // an open transaction of a killed run is nobody's
		end = committed
	}
	for next := from; next < end; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read the dead letters: %w", err)
		}
		for it := fetches.RecordIter(); !it.Done(); {
			letter := it.Next()
			next = letter.Offset + 1
			if !letter.Attrs.IsControl() && letter.Offset < end {
				do(letter)
			}
		}
	}
	return nil
}

// refusal says which record of the input a dead letter is, and why. The header of a record that is not of this run counts
// for nothing: it names a line of another input.
func (r *run) refusal(letter *kgo.Record) Refusal {
	var out Refusal
	line, record := int64(0), int64(0)
	for _, h := range letter.Headers {
		switch h.Key {
		case task.HeaderErrorMessage:
			out.Reason = firstSeen.ReplaceAllStringFunc(ownPlace.ReplaceAllString(string(h.Value), "$1"), r.seen)
		case headerLine:
			line, _ = strconv.ParseInt(string(h.Value), 10, 64)
		case headerRecord:
			record, _ = strconv.ParseInt(string(h.Value), 10, 64)
		case task.HeaderErrorOffset:
			offset, err := strconv.ParseInt(string(h.Value), 10, 64)
			if first := r.feeder.first; err == nil && first >= 0 && offset >= first {
				out.Record = offset - first + 1
			}
		}
	}
	if out.Record > 0 {
		out.Line = line
		if line == 0 {
			out.Line = out.Record + r.feeder.header
		}
		if record > 0 {
			out.Record = record
		}
	}
	return out
}
