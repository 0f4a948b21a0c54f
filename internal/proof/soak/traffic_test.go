package soak

import (
	"hash/fnv"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/internal/proof/judge"
	"github.com/oncemill/oncemill/record"
)

// TestTrafficCanBeJudged: whatever a partition begins with, no message that has a key of its own runs twice.
func TestTrafficCanBeJudged(t *testing.T) {
	const rate, partitions = 600, 8
	names := proof.NewJob(proof.Options{Window: window}).Names
	for seed := range uint64(100) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		traffic := newTraffic(seed, rate, now)
		j := judge.New(names, window, [16]byte{1})
		var next [partitions]int64
		copies := 0
		for range 1000 {
			now = now.Add(time.Second / rate)
			m := traffic.Next(now)
			hash := fnv.New32a()
			hash.Write([]byte(m.Key))
			p := int32(hash.Sum32() % partitions)
			r := record.Raw{Key: []byte(m.Key), Value: []byte(m.Value), Timestamp: m.Timestamp, Position: record.Position{Topic: names.Commands, Partition: p, Offset: next[p]}}
			if m.ID != "" {
				r.Headers = []record.Header{{Key: proof.HeaderMessageID, Value: []byte(m.ID)}}
			}
			if m.Copy && m.Key[0] == 'd' {
				copies++
			}
			next[p]++
			j.Command(&r)
		}
		if n := j.Verdict().Counts[judge.Traffic]; n > 0 || copies == 0 {
			t.Errorf("seed %d: %d messages that cannot be judged, of %d that were copied", seed, n, copies)
		}
	}
}
