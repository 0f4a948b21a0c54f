package streamtest_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// soakSeeds is how many seeds a test run tries; the variable below raises it for a night.
const soakSeeds = 40

const soakVariable = "STREAMTEST_SOAK_SEEDS"

// TestSoak: S56. Kills, crashes at any step, restarts, joins, stops, lost requests and answers, moving leaders, and 10 % of the
// messages sent again, chosen by a seed; the books of the judge say what must come out.
func TestSoak(t *testing.T) {
	t.Parallel()
	seeds := soakSeeds / raceSample
	if n, err := strconv.Atoi(os.Getenv(soakVariable)); err == nil {
		seeds = n
	}
	first := uint64(1)
	if s, err := strconv.ParseUint(os.Getenv(streamtest.SeedVariable), 10, 64); err == nil {
		first, seeds = s, 1
	}
	for seed := first; seed < first+uint64(seeds); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { soak(t, seed) })
	}
}

func soak(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 56))
	l := newLedger(ledgerOptions{window: 24 * time.Hour})
	o := streamtest.ClusterOptions{Seed: seed, Partitions: 3, RebalanceOnRestart: true, Configure: configure(func(cfg *oncemill.Config) {
		cfg.Workers, cfg.CheckpointInterval = 1+int(seed%2), time.Duration(1+seed%5)*time.Second
		cfg.SessionTimeout = 10 * time.Second
	})}
	l.simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		c.Start("a")
		for i := range 60 {
			id := i
			if i > 0 && rng.IntN(10) == 0 {
				id = rng.IntN(i) // at least once
			}
			c.Produce("commands", account(fmt.Sprint("m", id), fmt.Sprint("k", id%7), "add 1"))
			if rng.IntN(4) == 0 {
				c.Pass(time.Duration(rng.IntN(400)) * time.Millisecond)
			}
			if rng.IntN(6) == 0 {
				strike(c, rng)
			}
		}
		want := len(l.judge(c).ids)
		c.Until("every message to be answered", func() bool {
			for _, p := range c.Processes() { // a crash that was planned may come only now
				if p.Dead() {
					p.Start()
				}
			}
			c.Pass(time.Second)
			return len(c.Committed("events")) >= want
		})
		l.verify(t, c, l.judge(c))
	})
}

// strike does one bad thing.
func strike(c *streamtest.Cluster, rng *rand.Rand) {
	p := c.Process([]string{"a", "b", "c"}[rng.IntN(3)])
	lost := losses[rng.IntN(len(losses))]
	switch rng.IntN(7) {
	case 0:
		if p.Running() {
			p.Kill(lost)
		}
	case 1:
		if p.Running() {
			p.Restart(lost)
		}
	case 2:
		if p.Running() {
			all := step.All()
			p.CrashAt(string(all[rng.IntN(len(all))]), 1+rng.IntN(3), lost)
		}
	case 3:
		if p.Dead() && rng.IntN(3) == 0 {
			p.LoseDisk()
		}
	case 4:
		keys := []kmsg.Key{kmsg.Produce, kmsg.TxnOffsetCommit, kmsg.EndTxn, kmsg.InitProducerID, kmsg.OffsetFetch, kmsg.Fetch, kmsg.Heartbeat}
		c.Lose(streamtest.Loss{Key: keys[rng.IntN(len(keys))], Request: rng.IntN(2) == 0, Nth: 1 + rng.IntN(3), Delay: time.Duration(rng.IntN(3)) * 7 * time.Second})
		return
	case 5:
		c.MoveLeaders() // to the same broker, with another epoch: see TestLeadersAndCoordinatorsMove for more
		return
	}
	if !p.Running() {
		p.Start()
	}
}
