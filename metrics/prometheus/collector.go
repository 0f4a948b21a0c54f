// Package prometheus turns the events of metrics.Listener into Prometheus metrics with the prefix oncemill_. Units are base
// units, counters end in _total, and the number of series is bounded by the topology and the partitions: about 35 for each
// task and 12 for each store of a task.
package prometheus

import (
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/oncemill/oncemill/metrics"
)

// Collector holds the metrics of one application. Its Listener feeds them.
type Collector struct {
	f      *families
	ofTask []*prom.GaugeVec

	mu struct {
		sync.Mutex
		states map[string]metrics.TaskState // by task
		// lags are the partitions for which a task has reported a lag: their series have no task label.
		lags     map[string]map[partition]bool
		parked   map[string]int64
		restored map[string]uint64 // records of the restore under way that were counted already
		hits     uint64
		misses   uint64
	}
}

type partition struct {
	topic string
	n     int32
}

// New makes a collector and registers its metrics. Two collectors cannot share a registerer, unless each is wrapped with
// labels of its own.
func New(reg prom.Registerer) (*Collector, error) {
	f, ofTask, err := newFamilies(reg)
	if err != nil {
		return nil, err
	}
	c := &Collector{f: f, ofTask: ofTask}
	c.mu.states = map[string]metrics.TaskState{}
	c.mu.lags = map[string]map[partition]bool{}
	c.mu.parked = map[string]int64{}
	c.mu.restored = map[string]uint64{}
	return c, nil
}

// Handler serves what g has gathered, in the format that the scraper asks for.
func Handler(g prom.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Listener feeds the collector. Give it to the application's Config.Listener, joined with others by Tee.
func (c *Collector) Listener() metrics.Listener {
	return metrics.Listener{
		AppStarted:            c.appStarted,
		ReadyChanged:          func(e metrics.Ready) { c.f.ready.Set(boolean(e.Ready)) },
		TransactionEnded:      c.transactionEnded,
		TransactionUnresolved: c.transactionUnresolved,
		TaskCommitted:         c.taskCommitted,
		WorkerActive: func(e metrics.Activity) {
			c.f.activity.WithLabelValues(e.Worker, string(e.Kind)).Add(e.Duration.Seconds())
		},
		TaskStateChanged:  c.taskStateChanged,
		RebalanceEnded:    c.rebalanceEnded,
		RestoreStarted:    c.restoreStarted,
		RestoreProgressed: c.restoreProgressed,
		RestoreEnded:      c.restoreEnded,
		CheckpointEnded:   c.checkpointEnded,
		Failed:            c.failed,
		NodeTimed:         func(e metrics.NodeTiming) { c.f.nodeDuration.WithLabelValues(e.Node).Observe(e.Duration.Seconds()) },
		StoreTimed:        c.storeTimed,
		LagMeasured:       c.lagMeasured,
		TaskMeasured:      c.taskMeasured,
		StoreMeasured:     c.storeMeasured,
		MemoryMeasured:    c.memoryMeasured,
		EngineMeasured:    c.engineMeasured,
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// timestamp is seconds since 1970; milliseconds are kept.
func timestamp(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func (c *Collector) appStarted(e metrics.AppStart) {
	c.f.buildInfo.Reset()
	c.f.buildInfo.WithLabelValues(e.Version, runtime.Version()).Set(1)
	c.f.topologyInfo.Reset()
	c.f.topologyInfo.WithLabelValues(e.App, e.Fingerprint, e.Guarantee).Set(1)
}

func (c *Collector) transactionEnded(e metrics.TransactionEnd) {
	c.f.transactions.WithLabelValues(e.Worker, string(e.Outcome)).Inc()
	if e.Cause != "" {
		c.f.abortCause.WithLabelValues(e.Cause).Inc()
	}
	c.f.transactionDuration.WithLabelValues(e.Worker).Observe(e.Duration.Seconds())
	if e.Outcome != metrics.Committed && e.Outcome != metrics.ResolvedCommitted {
		return
	}
	c.f.transactionRecords.Observe(float64(e.Records))
	for _, p := range []struct {
		name string
		took time.Duration
	}{
		{"changelog", e.Phases.Changelog}, {"flush", e.Phases.Flush}, {"offsets", e.Phases.Offsets}, {"end", e.Phases.End}, {"apply", e.Phases.Apply},
	} {
		if p.took > 0 {
			c.f.commitPhase.WithLabelValues(e.Worker, p.name).Observe(p.took.Seconds())
		}
	}
}

func (c *Collector) transactionUnresolved(e metrics.Unresolved) {
	c.f.unresolved.WithLabelValues(e.Worker).Set(boolean(!e.Resolved))
}

func (c *Collector) taskCommitted(e metrics.TaskCommit) {
	f := c.f
	for _, t := range e.Consumed {
		f.recordsConsumed.WithLabelValues(e.Task, t.Topic).Add(float64(t.Records))
		f.bytesConsumed.WithLabelValues(e.Task, t.Topic).Add(float64(t.Bytes))
	}
	for _, t := range e.Produced {
		f.recordsProduced.WithLabelValues(e.Task, t.Topic).Add(float64(t.Records))
		f.bytesProduced.WithLabelValues(e.Task, t.Topic).Add(float64(t.Bytes))
	}
	for _, a := range e.Ages {
		f.latency.WithLabelValues(a.Topic).Observe(a.Oldest.Seconds())
		f.latency.WithLabelValues(a.Topic).Observe(a.Newest.Seconds())
	}
	f.recordsProcessed.WithLabelValues(e.Task).Add(float64(e.Processed))
	if !e.StreamTime.IsZero() {
		f.streamTime.WithLabelValues(e.Task).Set(timestamp(e.StreamTime))
	}
	for _, d := range e.Dropped {
		f.recordsDropped.WithLabelValues(e.Task, d.Node, d.Reason).Add(float64(d.Count))
	}
	for _, s := range e.Changelog {
		f.changelogRecords.WithLabelValues(e.Task, s.Store).Add(float64(s.Records))
		f.changelogBytes.WithLabelValues(e.Task, s.Store).Add(float64(s.Bytes))
	}
	for _, v := range e.Failures {
		f.failures.WithLabelValues(v.Node, v.Phase, string(v.Policy)).Add(float64(v.Count))
	}
	for _, v := range e.Verdicts {
		f.verdicts.WithLabelValues(v.Scope, v.Verdict).Add(float64(v.Count))
	}
	for _, s := range e.Evicted {
		f.evicted.WithLabelValues(e.Task, s.Scope).Add(float64(s.Count))
	}
	for _, s := range e.OutputsReplayed {
		f.replayed.WithLabelValues(s.Scope).Add(float64(s.Count))
	}
	f.deadLetters.Add(float64(e.DeadLetters))
	f.recordsParked.Add(float64(e.Parked))
	f.timestampsClamped.Add(float64(e.Clamped))
	f.timersFired.WithLabelValues("done").Add(float64(e.TimersFired))
	f.timersFired.WithLabelValues("failed").Add(float64(e.TimersFailed))
}

// failed counts what stops the application: its transaction never commits, with which the others are counted.
func (c *Collector) failed(e metrics.Failure) {
	if e.Policy == metrics.ActionStop {
		c.f.failures.WithLabelValues(e.Node, e.Phase, string(e.Policy)).Inc()
	}
}

func (c *Collector) storeTimed(e metrics.StoreTiming) {
	c.f.storeOperations.WithLabelValues(e.Store, e.Op).Add(float64(e.StandsFor))
	c.f.storeDuration.WithLabelValues(e.Store, e.Op).Observe(e.Duration.Seconds())
}

func (c *Collector) rebalanceEnded(e metrics.RebalanceEnd) {
	c.f.rebalances.WithLabelValues(e.Reason).Inc()
	c.f.rebalanceDuration.Observe(e.Duration.Seconds())
	c.f.taskMoves.WithLabelValues("in").Add(float64(e.Gained))
	c.f.taskMoves.WithLabelValues("out").Add(float64(e.Revoked))
}

func (c *Collector) checkpointEnded(e metrics.CheckpointEnd) {
	if e.Err != nil {
		c.f.checkpoints.WithLabelValues("failed").Inc()
		return
	}
	c.f.checkpoints.WithLabelValues("written").Inc()
	c.f.checkpointDuration.Observe(e.Duration.Seconds())
}

func (c *Collector) memoryMeasured(e metrics.Memory) {
	c.f.memoryBudget.Set(float64(e.Budget))
	c.f.memoryUsed.WithLabelValues("overlay").Set(float64(e.Overlays))
	c.f.memoryUsed.WithLabelValues("active").Set(float64(e.Active))
	c.f.memoryUsed.WithLabelValues("frozen").Set(float64(e.Frozen))
	c.f.memoryUsed.WithLabelValues("clean").Set(float64(e.Clean))
	c.f.memoryUsed.WithLabelValues("cache").Set(float64(e.Cache))
}

func (c *Collector) engineMeasured(e metrics.Engine) {
	c.f.diskBytes.Set(float64(e.DiskBytes))
	c.f.readAmp.Set(float64(e.ReadAmp))
	c.f.compactionDebt.Set(float64(e.CompactionDebt))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.f.engineCacheHits.Add(grown(&c.mu.hits, e.CacheHits))
	c.f.engineCacheMiss.Add(grown(&c.mu.misses, e.CacheMisses))
}

// grown is how much a total has grown; a smaller one was reset and counts from zero.
func grown(last *uint64, now uint64) float64 {
	before := *last
	*last = now
	if now < before {
		before = 0
	}
	return float64(now - before)
}

func label(n int32) string { return strconv.Itoa(int(n)) }
