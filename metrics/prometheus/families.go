package prometheus

import (
	"errors"
	"strings"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
)

// namespace is the prefix of every metric.
const namespace = "oncemill"

// families are the metrics. Labels are worker, task, topic, partition, node, store, dedup scope, and words from fixed lists;
// never a key, an id or an offset.
type families struct {
	buildInfo, topologyInfo *prom.GaugeVec
	ready                   prom.Gauge
	tasks                   *prom.GaugeVec

	recordsConsumed, bytesConsumed *prom.CounterVec
	recordsProcessed               *prom.CounterVec
	recordsProduced, bytesProduced *prom.CounterVec
	recordsDropped                 *prom.CounterVec
	recordsParked                  prom.Counter
	timestampsClamped              prom.Counter
	latency                        *prom.HistogramVec
	streamTime                     *prom.GaugeVec

	lagRecords, lagSeconds           *prom.GaugeVec
	unstableRecords, unstableSeconds *prom.GaugeVec

	activity            *prom.CounterVec
	transactions        *prom.CounterVec
	transactionDuration *prom.HistogramVec
	commitPhase         *prom.HistogramVec
	transactionRecords  prom.Histogram
	abortCause          *prom.CounterVec
	unresolved          *prom.GaugeVec

	verdicts             *prom.CounterVec
	markers, markerBytes *prom.GaugeVec
	horizon              *prom.GaugeVec
	evicted              *prom.CounterVec
	replayed             *prom.CounterVec

	nodeDuration                     *prom.HistogramVec
	storeOperations                  *prom.CounterVec
	storeDuration                    *prom.HistogramVec
	storeEntries, storeBytes         *prom.GaugeVec
	changelogRecords, changelogBytes *prom.CounterVec
	restoreRemaining                 *prom.GaugeVec
	restoredRecords                  *prom.CounterVec
	restoreDuration                  *prom.HistogramVec
	restores                         *prom.CounterVec
	checkpoints                      *prom.CounterVec
	checkpointDuration               prom.Histogram

	rebalances        *prom.CounterVec
	rebalanceDuration prom.Histogram
	taskMoves         *prom.CounterVec
	unavailable       *prom.CounterVec

	failures      *prom.CounterVec
	deadLetters   prom.Counter
	parkedRecords prom.Gauge
	timersPending *prom.GaugeVec
	timersFired   *prom.CounterVec

	memoryBudget                     prom.Gauge
	memoryUsed                       *prom.GaugeVec
	diskBytes, readAmp               prom.Gauge
	compactionDebt                   prom.Gauge
	engineCacheHits, engineCacheMiss prom.Counter
}

// register makes the families and registers them; the first mistakes of the registerer are returned, joined.
type register struct {
	to   prom.Registerer
	errs []error
	// ofTask are the gauges with a task label: their series go with the task.
	ofTask []*prom.GaugeVec
}

// opts derives the unit from the name, which has to end in it.
func opts(name, help string) prom.Opts {
	o := prom.Opts{Namespace: namespace, Name: name, Help: help}
	for _, unit := range []string{"seconds", "bytes", "records"} {
		if strings.HasSuffix(strings.TrimSuffix(name, "_total"), "_"+unit) {
			o.Unit = unit
		}
	}
	return o
}

func (r *register) add(c prom.Collector) {
	if err := r.to.Register(c); err != nil {
		r.errs = append(r.errs, err)
	}
}

func (r *register) counter(name, help string, labels ...string) *prom.CounterVec {
	v := prom.NewCounterVec(prom.CounterOpts(opts(name, help)), labels)
	r.add(v)
	return v
}

func (r *register) gauge(name, help string, labels ...string) *prom.GaugeVec {
	v := prom.NewGaugeVec(prom.GaugeOpts(opts(name, help)), labels)
	r.add(v)
	if len(labels) > 0 && labels[0] == "task" {
		r.ofTask = append(r.ofTask, v)
	}
	return v
}

// durations has few classic buckets, for scrapers that know no native histograms; the native ones are exact to a tenth.
func (r *register) durations(name, help string, labels ...string) *prom.HistogramVec {
	return r.histogram(name, help, []float64{.005, .02, .1, .5, 2, 10, 60}, labels...)
}

func (r *register) histogram(name, help string, buckets []float64, labels ...string) *prom.HistogramVec {
	o := opts(name, help)
	v := prom.NewHistogramVec(prom.HistogramOpts{Namespace: o.Namespace, Name: o.Name, Help: o.Help, Unit: o.Unit, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour}, labels)
	r.add(v)
	return v
}

func newFamilies(reg prom.Registerer) (*families, []*prom.GaugeVec, error) {
	r := &register{to: reg}
	f := &families{}
	f.records(r)
	f.commits(r)
	f.state(r)
	f.process(r)
	return f, r.ofTask, errors.Join(r.errs...)
}

func (f *families) records(r *register) {
	f.recordsConsumed = r.counter("records_consumed_total", "Records read from an input, redeliveries included, counted when committed.", "task", "topic")
	f.bytesConsumed = r.counter("bytes_consumed_total", "Bytes of keys and values read from an input.", "task", "topic")
	f.recordsProcessed = r.counter("records_processed_total", "Records whose effects were committed.", "task")
	f.recordsProduced = r.counter("records_produced_total", "Records written to an output, counted when committed.", "task", "topic")
	f.bytesProduced = r.counter("bytes_produced_total", "Bytes of keys and values written to an output.", "task", "topic")
	f.recordsDropped = r.counter("records_dropped_total", "Records dropped on purpose, by reason.", "task", "node", "reason")
	f.recordsParked = r.counter("records_parked_total", "Records put aside for a delayed retry.").WithLabelValues()
	f.timestampsClamped = r.counter("timestamps_clamped_total", "Records whose timestamp lay too far in the future and was set back.").WithLabelValues()
	f.nodeDuration = r.histogram("node_process_duration_seconds", "Time of a node for one record, without the nodes after it (sampled).",
		[]float64{1e-5, 1e-4, 1e-3, .01, .1, 1, 10}, "node")
	f.latency = r.durations("record_e2e_latency_seconds", "Record timestamp to confirmed commit: of the oldest and the newest record of each transaction.", "topic")
	f.streamTime = r.gauge("stream_time_timestamp_seconds", "Stream time of the task.", "task")
	f.lagRecords = r.gauge("input_lag_records", "Records up to the last stable offset that are not processed.", "topic", "partition")
	f.lagSeconds = r.gauge("input_lag_seconds", "Age of the first record that is not processed.", "topic", "partition")
	f.unstableRecords = r.gauge("input_unstable_records", "Records beyond the last stable offset, held by an open transaction of their producer.", "topic", "partition")
	f.unstableSeconds = r.gauge("input_unstable_seconds", "How long the last stable offset has not moved while records wait behind it.", "topic", "partition")
	f.verdicts = r.counter("dedup_verdicts_total", "Verdicts of deduplication.", "scope", "verdict")
	f.markers = r.gauge("dedup_markers", "Remembered ids (estimate).", "task", "scope")
	f.markerBytes = r.gauge("dedup_marker_bytes", "Bytes of remembered ids (estimate).", "task", "scope")
	f.horizon = r.gauge("dedup_horizon_timestamp_seconds", "Stream time from which on ids are remembered.", "task", "scope")
	f.evicted = r.counter("dedup_evicted_total", "Buckets of remembered ids that expired.", "task", "scope")
	f.replayed = r.counter("outputs_replayed_total", "Recorded outputs sent again for a duplicate.", "scope")
	f.failures = r.counter("failures_total", "Failures of records and timers, by what became of them.", "node", "phase", "policy")
	f.deadLetters = r.counter("dead_letters_total", "Dead letters, counted when committed.").WithLabelValues()
	f.parkedRecords = r.gauge("parked_records", "Records that wait for a delayed retry.").WithLabelValues()
	f.timersPending = r.gauge("timers_pending", "Timers that are set, by clock, those of parked records included. Rises for a while after a start, until all are counted.", "task", "kind")
	f.timersFired = r.counter("timers_fired_total", "Timers that fired, by outcome.", "outcome")
}

func (f *families) commits(r *register) {
	f.activity = r.counter("worker_activity_seconds_total", "What the worker spends its time on.", "worker", "activity")
	f.transactions = r.counter("transactions_total", "Transactions by outcome.", "worker", "outcome")
	f.transactionDuration = r.durations("transaction_duration_seconds", "First record to the end of the transaction.", "worker")
	f.commitPhase = r.durations("commit_phase_seconds", "Parts of a commit.", "worker", "phase")
	f.transactionRecords = r.histogram("transaction_records", "Records of a transaction.", []float64{1, 10, 100, 1e3, 1e4, 1e5}).WithLabelValues().(prom.Histogram)
	f.abortCause = r.counter("transaction_abort_cause_total", "Aborted transactions by cause.", "cause")
	f.unresolved = r.gauge("commits_unresolved", "Commits whose outcome is not known yet; must be 0.", "worker")
	f.rebalances = r.counter("rebalances_total", "Rebalances that reached this process.", "reason")
	f.rebalanceDuration = r.durations("rebalance_duration_seconds", "How long a rebalance took here.").WithLabelValues().(prom.Histogram)
	f.taskMoves = r.counter("task_moves_total", "Tasks that came and went.", "direction")
	f.unavailable = r.counter("task_unavailable_seconds_total", "Time in which a task did not process although it was ours.", "task", "reason")
}

func (f *families) state(r *register) {
	f.storeOperations = r.counter("store_operations_total", "Operations of processors on a store (estimated from samples).", "store", "op")
	f.storeDuration = r.histogram("store_operation_duration_seconds", "Operations on a store (sampled).", []float64{1e-6, 1e-5, 1e-4, 1e-3, .01, .1}, "store", "op")
	f.storeEntries = r.gauge("store_entries", "Entries of a store (estimate).", "task", "store")
	f.storeBytes = r.gauge("store_bytes", "Bytes of a store (estimate).", "task", "store")
	f.changelogRecords = r.counter("changelog_records_total", "Changelog records, counted when committed.", "task", "store")
	f.changelogBytes = r.counter("changelog_bytes_total", "Bytes of changelog keys and values.", "task", "store")
	f.restoreRemaining = r.gauge("restore_remaining_records", "Offsets still to read in a restore.", "task")
	f.restoredRecords = r.counter("restored_records_total", "Records read in restores.", "task")
	f.restoreDuration = r.durations("restore_duration_seconds", "Duration of restores.", "cause")
	f.restores = r.counter("restores_total", "Restores that ended, failed ones included.", "cause")
	f.checkpoints = r.counter("checkpoints_total", "Tries to write a checkpoint.", "outcome")
	f.checkpointDuration = r.durations("checkpoint_duration_seconds", "Duration of written checkpoints.").WithLabelValues().(prom.Histogram)
}

func (f *families) process(r *register) {
	f.buildInfo = r.gauge("build_info", "Always 1; the version of the program is a label.", "version", "goversion")
	f.topologyInfo = r.gauge("topology_info", "Always 1; two fingerprints at once are a rollout under way.", "app", "fingerprint", "guarantee")
	f.ready = r.gauge("ready", "1 when every assigned task runs.").WithLabelValues()
	f.tasks = r.gauge("tasks", "Tasks of this process by role and state.", "role", "state")
	f.memoryBudget = r.gauge("memory_budget_bytes", "Memory that state may take before it is checkpointed.").WithLabelValues()
	f.memoryUsed = r.gauge("memory_used_bytes", "Memory that state takes; the cache of the engine is apart from the budget.", "part")
	f.diskBytes = r.gauge("pebble_disk_bytes", "Bytes of the store on disk.").WithLabelValues()
	f.readAmp = r.gauge("pebble_read_amplification", "Levels that a read may have to look at.").WithLabelValues()
	f.compactionDebt = r.gauge("pebble_compaction_debt_bytes", "Bytes that wait for compaction.").WithLabelValues()
	f.engineCacheHits = r.counter("pebble_cache_hits_total", "Block cache hits.").WithLabelValues()
	f.engineCacheMiss = r.counter("pebble_cache_misses_total", "Block cache misses.").WithLabelValues()
}
