package prometheus

import (
	prom "github.com/prometheus/client_golang/prometheus"

	"github.com/oncemill/oncemill/metrics"
)

// taskStateChanged counts the tasks by state. When a task is closed its gauges go with it, so that nobody reads the values
// of a task that is somewhere else; its counters stay, because what they counted happened here.
func (c *Collector) taskStateChanged(e metrics.TaskStateChange) {
	if e.Unavailable > 0 {
		c.f.unavailable.WithLabelValues(e.Task, e.Reason).Add(e.Unavailable.Seconds())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if from, known := c.mu.states[e.Task]; known {
		c.f.tasks.WithLabelValues("active", string(from)).Dec()
	}
	if e.To != metrics.TaskClosed {
		c.mu.states[e.Task] = e.To
		c.f.tasks.WithLabelValues("active", string(e.To)).Inc()
		return
	}
	for _, v := range c.ofTask {
		v.DeletePartialMatch(prom.Labels{"task": e.Task})
	}
	for p := range c.mu.lags[e.Task] {
		for _, v := range []*prom.GaugeVec{c.f.lagRecords, c.f.lagSeconds, c.f.unstableRecords, c.f.unstableSeconds} {
			v.DeleteLabelValues(p.topic, label(p.n))
		}
	}
	c.f.parkedRecords.Sub(float64(c.mu.parked[e.Task]))
	delete(c.mu.states, e.Task)
	delete(c.mu.lags, e.Task)
	delete(c.mu.parked, e.Task)
	delete(c.mu.restored, e.Task)
}

// goneLocked reports that a task is not one of ours: a sample that comes late must not bring its gauges back.
func (c *Collector) goneLocked(task string) bool {
	_, known := c.mu.states[task]
	return !known
}

func (c *Collector) lagMeasured(e metrics.Lag) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goneLocked(e.Task) {
		return
	}
	if c.mu.lags[e.Task] == nil {
		c.mu.lags[e.Task] = map[partition]bool{}
	}
	c.mu.lags[e.Task][partition{e.Topic, e.Partition}] = true
	n := label(e.Partition)
	c.f.lagRecords.WithLabelValues(e.Topic, n).Set(float64(e.Records))
	c.f.lagSeconds.WithLabelValues(e.Topic, n).Set(e.Time.Seconds())
	c.f.unstableRecords.WithLabelValues(e.Topic, n).Set(float64(e.UnstableRecords))
	c.f.unstableSeconds.WithLabelValues(e.Topic, n).Set(e.UnstableTime.Seconds())
}

func (c *Collector) taskMeasured(e metrics.TaskSample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goneLocked(e.Task) {
		return
	}
	c.f.timersPending.WithLabelValues(e.Task, "stream").Set(float64(e.StreamTimers))
	c.f.timersPending.WithLabelValues(e.Task, "wall").Set(float64(e.WallTimers))
	c.f.parkedRecords.Add(float64(e.ParkedRecords - c.mu.parked[e.Task]))
	c.mu.parked[e.Task] = e.ParkedRecords
	for _, m := range e.Markers {
		c.f.markers.WithLabelValues(e.Task, m.Scope).Set(float64(m.Markers))
		c.f.markerBytes.WithLabelValues(e.Task, m.Scope).Set(float64(m.Bytes))
		if !m.Horizon.IsZero() {
			c.f.horizon.WithLabelValues(e.Task, m.Scope).Set(timestamp(m.Horizon))
		}
	}
}

func (c *Collector) storeMeasured(e metrics.StoreSample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goneLocked(e.Task) {
		return
	}
	c.f.storeEntries.WithLabelValues(e.Task, e.Store).Set(float64(e.Entries))
	c.f.storeBytes.WithLabelValues(e.Task, e.Store).Set(float64(e.Bytes))
}

func (c *Collector) restoreStarted(e metrics.RestoreStart) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.restored[e.Task] = 0
	c.f.restoreRemaining.WithLabelValues(e.Task).Set(float64(e.Records))
}

func (c *Collector) restoreProgressed(e metrics.RestoreProgress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.restored[e.Task] += e.Restored
	c.f.restoredRecords.WithLabelValues(e.Task).Add(float64(e.Restored))
	c.f.restoreRemaining.WithLabelValues(e.Task).Set(float64(e.Remaining))
}

// restoreEnded counts what came after the last progress.
func (c *Collector) restoreEnded(e metrics.RestoreEnd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if counted := c.mu.restored[e.Task]; e.Restored > counted {
		c.f.restoredRecords.WithLabelValues(e.Task).Add(float64(e.Restored - counted))
	}
	delete(c.mu.restored, e.Task)
	if e.Err == nil {
		c.f.restoreRemaining.WithLabelValues(e.Task).Set(0)
	}
	c.f.restores.WithLabelValues(string(e.Cause)).Inc()
	c.f.restoreDuration.WithLabelValues(string(e.Cause)).Observe(e.Duration.Seconds())
}
