//go:build kafka

package kafkatest

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/proof/judge"
	"github.com/oncemill/oncemill/internal/proof/soak"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
	"github.com/oncemill/oncemill/kafkatest/soakproc"
)

// Of the long form: go test -tags kafka -timeout 2h -run 'TestSoak' ./kafkatest -soak 20m
var (
	soakLength   = flag.Duration("soak", 0, "length of the soaks; 0: about a minute each")
	soakRecords  = flag.Int64("soak.records", 0, "messages of each soak; 0: 2 million in 20 minutes, 600 a second in the short form")
	soakSeed     = flag.Uint64("soak.seed", 1, "decides traffic and faults of the soaks")
	soakTimeline = flag.String("soak.timeline", "", "directory for the timelines, the logs of the workers and, if something is wrong, their state and the logs of the brokers")
)

// soakProgram is the worker's, built once for all tests.
var soakProgram = sync.OnceValues(func() (string, error) {
	return soakproc.Build(context.Background(), scratch)
})

// The short form.
const (
	shortSoak              = 75 * time.Second
	shortSoakOfOldProtocol = 45 * time.Second
	shortRate              = 600 // messages a second
	longRate               = 2_000_000.0 / (20 * 60)
)

// soakConfig is a soak on a cluster.
func soakConfig(t *testing.T, cluster *kafkaproc.Cluster, length time.Duration, cheat ...string) soak.Config {
	t.Helper()
	path, err := soakProgram()
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := json.Marshal(cluster.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	c := soak.Config{
		App: unique(t), Seed: *soakSeed, Length: length, Records: int64(length.Seconds() * shortRate), Workers: 3, Partitions: 8,
		Seeds: cluster.Addrs(), Connection: addrs, Dir: t.TempDir(),
		Worker: func() *exec.Cmd { return exec.Command(path, cheat...) },
		Reader: soakproc.Reader{Cluster: cluster},
		Watch: soak.Watch{
			Stage:  func(text string) { t.Logf("%s: %s", time.Now().Format(time.TimeOnly), text) },
			Struck: func(s soak.Struck) { t.Logf("%d..%d ms %s %s%s: %s", s.From, s.To, s.Kind, s.Worker, s.Broker, s.Text) },
		},
	}
	if *soakLength > 0 && len(cheat) == 0 {
		c.Length, c.Records = *soakLength, int64(math.Ceil(soakLength.Seconds()*longRate))
	}
	if *soakRecords > 0 && len(cheat) == 0 {
		c.Records = *soakRecords
	}
	return c
}

// runSoak runs a soak that must be clean, and leaves its timeline.
func runSoak(t *testing.T, cluster *kafkaproc.Cluster, c soak.Config) {
	t.Helper()
	dir := *soakTimeline
	if dir == "" {
		dir = t.TempDir()
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	} else {
		c.KeepTopics = true
		t.Cleanup(func() { keepEvidence(t, filepath.Join(dir, c.App), cluster, c.Dir) })
	}
	log, err := os.Create(filepath.Join(dir, c.App+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.Log = log
	result, err := soak.Run(t.Context(), c)
	if result != nil {
		leavePage(t, filepath.Join(dir, c.App+".html"), result)
		fmt.Printf("proof: soak: %s: seed %d, %d messages, %v, transaction.version %d, faults %v, restores %v\n", t.Name(), c.Seed,
			result.Messages, c.Length, result.Transactions, result.Done, result.Timeline.Restores())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Log(result.Verdict)
	t.Logf("starts refused while brokers were away: %d, and soon after they were back: %d", result.Refused, result.Late)
	if !result.Verdict.Clean() {
		t.Error("the judge has found violations")
	}
	if missing := result.Missing(); len(missing) > 0 {
		t.Errorf("too few of the faults %v: %v of %v", missing, result.Done, result.Wanted)
	}
	for _, ended := range result.Ended {
		t.Error(ended)
	}
}

// keepEvidence keeps, of a soak that failed, the state of the workers, and what the brokers wrote: their own logs, and those of all topics,
// also of __transaction_state and __consumer_offsets. The brokers are killed, so that all of it is of one moment.
func keepEvidence(t *testing.T, to string, cluster *kafkaproc.Cluster, state string) {
	if !t.Failed() {
		return
	}
	for i := range cluster.Brokers() {
		if err := cluster.Broker(i).Kill(); err != nil {
			t.Log(err) // it may be down already
		}
	}
	errs := []error{os.CopyFS(to+".state", os.DirFS(state))}
	brokers := os.DirFS(cluster.Dir())
	errs = append(errs, fs.WalkDir(brokers, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".log" { // an index is full of holes
			return err
		}
		kept := filepath.Join(to+".brokers", path)
		data, err := fs.ReadFile(brokers, path)
		return errors.Join(err, os.MkdirAll(filepath.Dir(kept), 0o755), os.WriteFile(kept, data, 0o600))
	}))
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

func leavePage(t *testing.T, path string, result *soak.Result) {
	t.Helper()
	page, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	if err := soak.WritePage(page, result, "of this source"); err != nil {
		t.Fatal(err)
	}
}

// TestSoakOnThreeBrokers is the soak on three brokers with every kind of fault, also of brokers.
func TestSoakOnThreeBrokers(t *testing.T) {
	cluster := ownCluster(t, kafkaproc.Config{Brokers: 3, HeapMB: 384, Extra: shortSessions})
	c := soakConfig(t, cluster, shortSoak)
	c.Brokers = soakproc.Brokers{Cluster: cluster}
	runSoak(t, cluster, c)
}

// TestSoakOnTransactionVersion1 is the soak with the older transaction protocol. It has three brokers as well: one alone that is restarted
// loses parts of transactions by itself (docs/adr/0009).
func TestSoakOnTransactionVersion1(t *testing.T) {
	cluster := ownCluster(t, kafkaproc.Config{Brokers: 3, HeapMB: 384, TransactionVersion: 1, Extra: shortSessions})
	c := soakConfig(t, cluster, shortSoakOfOldProtocol)
	c.Brokers = soakproc.Brokers{Cluster: cluster}
	runSoak(t, cluster, c)
}

// TestSoakOnOneBroker is the soak with the older transaction protocol on one broker, which is left alone: all other faults there are.
func TestSoakOnOneBroker(t *testing.T) {
	cluster := ownCluster(t, kafkaproc.Config{HeapMB: 512, TransactionVersion: 1, Extra: shortSessions})
	runSoak(t, cluster, soakConfig(t, cluster, shortSoakOfOldProtocol))
}

// sawABrokenTransaction says that the engine refused to go on because of what an aborted transaction had: what the store of parked records, or
// the end of a changelog, said. The workers then never come to the end, and the judge has no word.
func sawABrokenTransaction(err error) bool {
	return problem.CodeOf(err) == problem.ChildEnded &&
		(strings.Contains(err.Error(), string(problem.InvariantBroken)) || strings.Contains(err.Error(), string(problem.StateBehind)))
}

// TestSoakFindsCheats runs workers that cheat. The judge must find each, as what it is; with the one that breaks transactions the engine may be
// quicker, and stop.
func TestSoakFindsCheats(t *testing.T) {
	want := map[string][]judge.Kind{
		soakproc.Forgetful:  {judge.Doubled, judge.Wrong},
		soakproc.Dirty:      {judge.Wrong, judge.State},
		soakproc.Breaking:   {judge.Lost, judge.State},
		soakproc.Scribbling: {judge.State},
	}
	for _, cheat := range soakproc.Cheats() {
		t.Run(cheat, func(t *testing.T) {
			t.Parallel()
			c := soakConfig(t, shared, 20*time.Second, cheat)
			c.Workers, c.Records, c.Counts, c.Log = 2, 4_000, soak.Counts{soak.Kill: 4, soak.Restart: 2}, io.Discard
			result, err := soak.Run(t.Context(), c)
			if cheat == soakproc.Breaking && sawABrokenTransaction(err) {
				fmt.Printf("proof: soak: cheat %s: the engine stopped: %v\n", cheat, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			fmt.Printf("proof: soak: cheat %s: the judge found %v\n", cheat, result.Verdict.Counts)
			found := []judge.Kind{}
			for kind := range result.Verdict.Counts {
				found = append(found, kind)
			}
			if result.Clean() || !slices.ContainsFunc(want[cheat], func(k judge.Kind) bool { return slices.Contains(found, k) }) {
				t.Errorf("found %v, want one of %v", found, want[cheat])
			}
		})
	}
}
