package prometheus_test

import (
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/metrics/prometheus"
)

var update = flag.Bool("update", false, "rewrite the golden files")

type fixture struct {
	t   *testing.T
	reg *prom.Registry
	l   metrics.Listener
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	reg := prom.NewPedanticRegistry()
	c, err := prometheus.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t: t, reg: reg, l: c.Listener().WithDefaults()}
}

func (f *fixture) gather() []*dto.MetricFamily {
	f.t.Helper()
	families, err := f.reg.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	return families
}

// lines renders every series that is not a histogram as `name{label="value",...} value`, and a histogram by count and sum.
func (f *fixture) lines() []string {
	var out []string
	for _, family := range f.gather() {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			series := strings.TrimPrefix(family.GetName(), "oncemill_")
			if len(labels) > 0 {
				series += "{" + strings.Join(labels, ",") + "}"
			}
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				series += fmt.Sprintf(" %v", m.GetCounter().GetValue())
			case dto.MetricType_GAUGE:
				series += fmt.Sprintf(" %v", m.GetGauge().GetValue())
			default:
				series += fmt.Sprintf(" count %d sum %v", m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum())
			}
			out = append(out, series)
		}
	}
	return out
}

func (f *fixture) has(want ...string) {
	f.t.Helper()
	lines := f.lines()
	for _, w := range want {
		if !slices.Contains(lines, w) {
			f.t.Errorf("no series %q in:\n%s", w, strings.Join(lines, "\n"))
		}
	}
}

// play runs every event of an application with tasks of three stores each, two inputs and one output, on two workers.
func play(l metrics.Listener, tasks int) {
	l.AppStarted(metrics.AppStart{App: "shop", Version: "v0.1.0", Fingerprint: "a96e19443873ad5c", Guarantee: "exactly-once"})
	l.ReadyChanged(metrics.Ready{Ready: true})
	for i := range tasks {
		playTask(l, fmt.Sprintf("orders_%d", i), fmt.Sprint(i%2), int32(i))
	}
	for worker := range 2 {
		playWorker(l, fmt.Sprint(worker))
	}
	for _, node := range []string{"orders", "decide", "events"} {
		l.NodeTimed(metrics.NodeTiming{Task: "orders_0", Node: node, Duration: time.Millisecond})
	}
	for _, store := range []string{"totals", "orders-markers", "orders-task"} {
		for _, op := range []string{"get", "put", "delete"} {
			l.StoreTimed(metrics.StoreTiming{Task: "orders_0", Store: store, Op: op, Duration: time.Microsecond, StandsFor: 1000})
		}
	}
	l.Failed(metrics.Failure{Task: "orders_0", Node: "decide", Phase: "process", Policy: metrics.ActionStop, Place: "commands/0@secret-key"})
	l.MemoryMeasured(metrics.Memory{Budget: 100, Overlays: 1, Active: 2, Frozen: 3, Clean: 4, Cache: 5})
	l.EngineMeasured(metrics.Engine{DiskBytes: 7, ReadAmp: 2, CompactionDebt: 3, CacheHits: 10, CacheMisses: 4})
	l.CheckpointEnded(metrics.CheckpointEnd{Duration: time.Second})
	l.CheckpointEnded(metrics.CheckpointEnd{Err: errors.New("secret-key"), Try: 1})
}

func playTask(l metrics.Listener, task, worker string, n int32) {
	l.TaskStateChanged(metrics.TaskStateChange{Task: task, Worker: worker, To: metrics.TaskRestoring})
	for _, cause := range []metrics.RestoreCause{metrics.RestoreTail, metrics.RestoreFull} {
		l.RestoreStarted(metrics.RestoreStart{Task: task, Cause: cause, Records: 100})
		l.RestoreProgressed(metrics.RestoreProgress{Task: task, Restored: 60, Remaining: 40})
		l.RestoreEnded(metrics.RestoreEnd{Task: task, Cause: cause, Restored: 90, Duration: time.Second})
	}
	l.TaskStateChanged(metrics.TaskStateChange{Task: task, Worker: worker, From: metrics.TaskRestoring, To: metrics.TaskRunning, Unavailable: 2 * time.Second, Reason: "restore"})
	commit := metrics.TaskCommit{Task: task, N: 5, StreamTime: time.UnixMilli(1500), Processed: 9, DeadLetters: 1, Parked: 2, TimersFired: 3, TimersFailed: 1, Clamped: 1,
		Produced: []metrics.TopicCount{{Topic: "events", Records: 8, Bytes: 80}},
		Failures: []metrics.FailureCount{{Node: "decide", Phase: "process", Policy: metrics.ActionDeadLetter, Count: 1}, {Node: "orders", Phase: "decode", Policy: metrics.ActionSkip, Count: 1}},
		Dropped:  []metrics.DropCount{{Node: "orders", Reason: "skip", Count: 1}},
		Verdicts: []metrics.VerdictCount{{Scope: "orders", Verdict: "new", Count: 7}, {Scope: "orders", Verdict: "duplicate", Count: 2}},
		Evicted:  []metrics.ScopeCount{{Scope: "orders", Count: 4}}, OutputsReplayed: []metrics.ScopeCount{{Scope: "orders", Count: 6}}}
	for _, topic := range []string{"commands", "fixes"} {
		commit.Consumed = append(commit.Consumed, metrics.TopicCount{Topic: topic, Records: 10, Bytes: 100})
		commit.Ages = append(commit.Ages, metrics.TopicAges{Topic: topic, Oldest: 90 * time.Millisecond, Newest: 10 * time.Millisecond})
		l.LagMeasured(metrics.Lag{Task: task, Topic: topic, Partition: n, Records: 12, Time: 1500 * time.Millisecond, UnstableRecords: 3, UnstableTime: time.Second})
	}
	for _, store := range []string{"totals", "orders-markers", "orders-task"} {
		commit.Changelog = append(commit.Changelog, metrics.StoreCount{Store: store, Records: 3, Bytes: 30})
		l.StoreMeasured(metrics.StoreSample{Task: task, Store: store, Entries: 5, Bytes: 50})
	}
	l.TaskCommitted(commit)
	l.TaskMeasured(metrics.TaskSample{Task: task, StreamTimers: 2, WallTimers: 3, ParkedRecords: 4,
		Markers: []metrics.MarkerSample{{Scope: "orders", Markers: 11, Bytes: 275, Horizon: time.UnixMilli(250)}}})
	l.Failed(metrics.Failure{Task: task, Node: "decide", Place: "commands/0@secret-key", Err: errors.New("secret-key")})
	l.DeadLettered(metrics.DeadLetter{Task: task, Node: "decide", Place: "commands/0@secret-key", Err: errors.New("secret-key")})
}

func playWorker(l metrics.Listener, worker string) {
	phases := metrics.Phases{Changelog: time.Millisecond, Flush: 2 * time.Millisecond, Offsets: 3 * time.Millisecond, End: 4 * time.Millisecond, Apply: 5 * time.Millisecond}
	l.TransactionEnded(metrics.TransactionEnd{Worker: worker, Outcome: metrics.Committed, Duration: 100 * time.Millisecond, Records: 20, Phases: phases})
	l.TransactionEnded(metrics.TransactionEnd{Worker: worker, Outcome: metrics.Aborted, Cause: "produce", Err: errors.New("secret-key")})
	l.TransactionUnresolved(metrics.Unresolved{Worker: worker})
	l.TransactionUnresolved(metrics.Unresolved{Worker: worker, Resolved: true, Waited: time.Second})
	for _, kind := range []metrics.ActivityKind{metrics.ActivityPoll, metrics.ActivityProcess, metrics.ActivityFlush, metrics.ActivityCommit,
		metrics.ActivityApply, metrics.ActivityIdle} {
		l.WorkerActive(metrics.Activity{Worker: worker, Kind: kind, Duration: time.Second})
	}
	for _, reason := range []string{"assigned", "revoked", "lost"} {
		l.RebalanceEnded(metrics.RebalanceEnd{Worker: worker, Reason: reason, Duration: time.Second, Gained: 3, Revoked: 1})
	}
}

// The names, types and labels are a contract: boards and alerts depend on them.
func TestNamesTypesUnitsAndLabels(t *testing.T) {
	f := newFixture(t)
	play(f.l, 1)
	var b strings.Builder
	for _, family := range f.gather() {
		var labels []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		fmt.Fprintf(&b, "%s %s [%s] %s\n", family.GetName(), strings.ToLower(family.GetType().String()), family.GetUnit(), strings.Join(labels, ","))
	}
	const path = "testdata/families.txt"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the metrics differ from %s:\n%s", path, b.String())
	}
}

func TestNamesFollowTheConventions(t *testing.T) {
	f := newFixture(t)
	play(f.l, 1)
	problems, err := promlint.NewWithMetricFamilies(f.gather()).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// series counts what a scraper without native histograms stores.
func series(families []*dto.MetricFamily) (n int) {
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if h := m.GetHistogram(); h != nil {
				n += len(h.GetBucket()) + 3 // +Inf, sum, count
			} else {
				n++
			}
		}
	}
	return n
}

// budget is 35 series for each task, and 12 for each store of a task.
func budget(tasks, stores int) int { return 35*tasks + 12*tasks*stores }

func TestSeriesStayWithinTheBudget(t *testing.T) {
	for _, tasks := range []int{12, 64} {
		f := newFixture(t)
		play(f.l, tasks)
		n, limit := series(f.gather()), budget(tasks, 3)
		if n > limit {
			t.Errorf("%d tasks with 3 stores each: %d series, the budget is %d", tasks, n, limit)
		}
		if n < 20*tasks {
			t.Errorf("%d series for %d tasks: the test does not reach the metrics", n, tasks)
		}
		t.Logf("%d tasks, 3 stores each: %d series of %d", tasks, n, limit)
	}
}

func TestLabelsAreNeverKeysOrIDs(t *testing.T) {
	allowed := []string{"worker", "task", "topic", "partition", "node", "store", "scope", // of the topology
		"activity", "app", "cause", "direction", "fingerprint", "goversion", "guarantee", "kind", "op", "outcome", "part", "phase", "policy", "reason", "role", "state", "verdict", "version"}
	f := newFixture(t)
	play(f.l, 2)
	for _, family := range f.gather() {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(allowed, l.GetName()) {
					t.Errorf("%s has the label %q", family.GetName(), l.GetName())
				}
				if strings.Contains(l.GetValue(), "secret") || strings.Contains(l.GetValue(), "@") {
					t.Errorf("%s has the value %s=%q", family.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
}

func TestEventsBecomeValues(t *testing.T) {
	f := newFixture(t)
	play(f.l, 1)
	f.has(
		`topology_info{app="shop",fingerprint="a96e19443873ad5c",guarantee="exactly-once"} 1`, `ready 1`,
		`tasks{role="active",state="running"} 1`, `tasks{role="active",state="restoring"} 0`,
		`records_consumed_total{task="orders_0",topic="commands"} 10`, `bytes_consumed_total{task="orders_0",topic="fixes"} 100`,
		`records_processed_total{task="orders_0"} 9`, `records_produced_total{task="orders_0",topic="events"} 8`, `bytes_produced_total{task="orders_0",topic="events"} 80`,
		`records_dropped_total{node="orders",reason="skip",task="orders_0"} 1`, `record_e2e_latency_seconds{topic="commands"} count 2 sum 0.09999999999999999`,
		`stream_time_timestamp_seconds{task="orders_0"} 1.5`,
		`input_lag_records{partition="0",topic="commands"} 12`, `input_lag_seconds{partition="0",topic="commands"} 1.5`,
		`input_unstable_records{partition="0",topic="commands"} 3`, `input_unstable_seconds{partition="0",topic="commands"} 1`,
		`worker_activity_seconds_total{activity="flush",worker="1"} 1`,
		`transactions_total{outcome="committed",worker="0"} 1`, `transactions_total{outcome="aborted",worker="0"} 1`,
		`transaction_duration_seconds{worker="0"} count 2 sum 0.1`, `commit_phase_seconds{phase="end",worker="0"} count 1 sum 0.004`,
		`transaction_records count 2 sum 40`, `transaction_abort_cause_total{cause="produce"} 2`, `commits_unresolved{worker="0"} 0`,
		`dedup_verdicts_total{scope="orders",verdict="duplicate"} 2`, `dedup_markers{scope="orders",task="orders_0"} 11`,
		`dedup_marker_bytes{scope="orders",task="orders_0"} 275`, `dedup_horizon_timestamp_seconds{scope="orders",task="orders_0"} 0.25`,
		`dedup_evicted_total{scope="orders",task="orders_0"} 4`, `outputs_replayed_total{scope="orders"} 6`,
		`store_entries{store="totals",task="orders_0"} 5`, `store_bytes{store="totals",task="orders_0"} 50`,
		`changelog_records_total{store="totals",task="orders_0"} 3`, `changelog_bytes_total{store="totals",task="orders_0"} 30`,
		`restore_remaining_records{task="orders_0"} 0`, `restored_records_total{task="orders_0"} 180`,
		`restores_total{cause="tail"} 1`, `restore_duration_seconds{cause="full"} count 1 sum 1`,
		`checkpoints_total{outcome="written"} 1`, `checkpoints_total{outcome="failed"} 1`, `checkpoint_duration_seconds count 1 sum 1`,
		`rebalances_total{reason="lost"} 2`, `rebalance_duration_seconds count 6 sum 6`, `task_moves_total{direction="in"} 18`, `task_moves_total{direction="out"} 6`,
		`task_unavailable_seconds_total{reason="restore",task="orders_0"} 2`,
		`failures_total{node="decide",phase="process",policy="stop"} 1`, `node_process_duration_seconds{node="decide"} count 1 sum 0.001`,
		`store_operations_total{op="get",store="totals"} 1000`, `store_operation_duration_seconds{op="put",store="totals"} count 1 sum 1e-06`,
		`failures_total{node="decide",phase="process",policy="dead_letter"} 1`, `dead_letters_total 1`,
		`parked_records 4`, `records_parked_total 2`, `timestamps_clamped_total 1`,
		`timers_pending{kind="wall",task="orders_0"} 3`, `timers_fired_total{outcome="done"} 3`, `timers_fired_total{outcome="failed"} 1`,
		`memory_budget_bytes 100`, `memory_used_bytes{part="frozen"} 3`,
		`pebble_disk_bytes 7`, `pebble_read_amplification 2`, `pebble_compaction_debt_bytes 3`, `pebble_cache_hits_total 10`, `pebble_cache_misses_total 4`,
	)
}

func TestAnUnresolvedCommitIsVisible(t *testing.T) {
	f := newFixture(t)
	f.l.TransactionUnresolved(metrics.Unresolved{Worker: "0"})
	f.has(`commits_unresolved{worker="0"} 1`)
}

func TestAClosedTaskTakesItsGaugesWithIt(t *testing.T) {
	f := newFixture(t)
	play(f.l, 2)
	f.has(`parked_records 8`)
	f.l.TaskStateChanged(metrics.TaskStateChange{Task: "orders_1", To: metrics.TaskClosed})
	late := func() { // samples that were on their way
		f.l.LagMeasured(metrics.Lag{Task: "orders_1", Topic: "commands", Partition: 1})
		f.l.TaskMeasured(metrics.TaskSample{Task: "orders_1", ParkedRecords: 9})
		f.l.StoreMeasured(metrics.StoreSample{Task: "orders_1", Store: "totals"})
	}
	late()
	f.has(`parked_records 4`, `tasks{role="active",state="running"} 1`, `records_processed_total{task="orders_1"} 9`)
	for _, line := range f.lines() {
		name, _, _ := strings.Cut(line, "{")
		if strings.Contains(line, `task="orders_1"`) && !strings.HasSuffix(name, "_total") || strings.Contains(line, `partition="1"`) {
			t.Errorf("left behind: %s", line)
		}
	}
}

func TestEventsFromSeveralWorkersAtOnce(t *testing.T) {
	f := newFixture(t)
	var workers sync.WaitGroup
	for i := range 4 {
		workers.Go(func() {
			playTask(f.l, fmt.Sprintf("orders_%d", i), fmt.Sprint(i), int32(i))
			f.l.TaskStateChanged(metrics.TaskStateChange{Task: fmt.Sprintf("orders_%d", i), To: metrics.TaskClosed})
		})
	}
	f.gather()
	workers.Wait()
	f.has(`dead_letters_total 4`, `parked_records 0`, `tasks{role="active",state="running"} 0`)
}

func TestCacheTotalsThatStartAgain(t *testing.T) {
	f := newFixture(t)
	for _, hits := range []uint64{10, 25, 5} {
		f.l.EngineMeasured(metrics.Engine{CacheHits: hits})
	}
	f.has(`pebble_cache_hits_total 30`)
}

func TestTwoCollectorsOnOneRegistryAreRefused(t *testing.T) {
	reg := prom.NewRegistry()
	if _, err := prometheus.New(reg); err != nil {
		t.Fatal(err)
	}
	if _, err := prometheus.New(reg); err == nil {
		t.Error("accepted")
	}
	reg = prom.NewRegistry()
	for _, app := range []string{"shop", "mall"} {
		if _, err := prometheus.New(prom.WrapRegistererWith(prom.Labels{"application": app}, reg)); err != nil {
			t.Errorf("with a label of its own: %v", err)
		}
	}
}

func TestHandlerServesTextAndOpenMetrics(t *testing.T) {
	f := newFixture(t)
	play(f.l, 1)
	for accept, want := range map[string]string{
		"": `oncemill_dead_letters_total 1`,
		"application/openmetrics-text; version=1.0.0": `# EOF`,
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		prometheus.Handler(f.reg).ServeHTTP(w, r)
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%q: %d, no %q", accept, w.Code, want)
		}
	}
}

func ExampleNew() {
	reg := prom.NewRegistry()
	collector, err := prometheus.New(reg)
	if err != nil {
		fmt.Println(err)
		return
	}
	// collector.Listener() goes into the Config of the application, Handler(reg) into its HTTP server.
	collector.Listener().TaskCommitted(metrics.TaskCommit{Task: "orders_3", DeadLetters: 2})
	w := httptest.NewRecorder()
	prometheus.Handler(reg).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "oncemill_dead_letters_total") {
			fmt.Print(line)
		}
	}
	// Output: oncemill_dead_letters_total 2
}
