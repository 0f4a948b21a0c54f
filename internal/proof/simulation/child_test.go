package simulation

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Seeds run in processes of their own: a panic or a bubble that stands still takes one seed with it, is reported with that seed, and is
// repeated and shrunk like any other failure. The process is the test binary once more, with -child; it writes a line before and after
// each run.
const (
	beginMark = "@begin "
	endMark   = "@end "
)

// attempt is one run of a plan in a child.
type attempt struct {
	Seed   uint64
	Failed bool
	Result *Result
	Again  bool // it says nothing, and is done again; see stood
	output []string
}

// runChild is the child: it runs seeds, each as often as it is told.
func runChild(t *testing.T) {
	for seed := *seedFlag; seed < *seedFlag+uint64(*seedsFlag); seed++ {
		plan := planOf(t, seed)
		for range *repeatFlag {
			fmt.Printf("%s%d\n", beginMark, seed)
			// One thread more or less: the one repeats better, the other meets more orders.
			runtime.GOMAXPROCS(1 + int(seed%2))
			var result *Result
			ok := t.Run(fmt.Sprint(seed), func(t *testing.T) { result = Run(t, plan) })
			text, err := json.Marshal(attempt{Seed: seed, Failed: !ok, Result: result})
			if err != nil {
				t.Fatal(err)
			}
			fmt.Printf("%s%s\n", endMark, text)
		}
	}
}

// planOf is the plan of a seed, with other faults if some were given.
func planOf(t *testing.T, seed uint64) *Plan {
	plan := Draw(seed)
	if *faultsFlag != noFaults {
		var err error
		if plan.Faults, err = ParseFaults(*faultsFlag); err != nil {
			t.Fatal(err)
		}
	}
	return plan
}

// patience is how long a run may take in real time before it is taken for one that stands still. Some take seconds where the race
// detector is on and the machine is busy.
const patience = 2 * time.Minute

// stood reports that a run had no end because the clock of its bubble stood: the Kafka client (a poll, what follows new metadata, a
// partition that has moved) waits for its own consumer lock, which is held until a request is answered or times out. To wait for a lock is no
// durable wait, so virtual time stands, and with it the time at which the request would end. Anywhere else time goes on. Such a run says
// nothing; it is done again, and counted. Where no request is under way that time would end, it is a deadlock, and a failure.
func (a *attempt) stood() bool {
	if a.Result != nil {
		return false
	}
	locked, ending, request := false, false, false
	for stack := range strings.SplitSeq(strings.Join(a.output, "\n"), "\n\n") {
		head, _, _ := strings.Cut(stack, "\n")
		durable := strings.Contains(head, "(durable)")
		switch {
		case !strings.HasPrefix(head, "goroutine ") || !strings.Contains(head, "synctest bubble"):
		case strings.Contains(head, "[sync.Mutex.Lock"):
			if !strings.HasPrefix(locker(stack), "github.com/twmb/franz-go/pkg/kgo.") {
				return false
			}
			locked = true
		case !durable && !strings.Contains(head, "[synctest.Run"):
			return false // somebody is at work
		default:
			ending = ending || strings.Contains(stack, "kgo.(*consumer).assignPartitions") && strings.Contains(stack, "sync.(*Cond).Wait")
			request = request || strings.Contains(stack, "kgo.(*broker).waitResp")
		}
	}
	return locked && ending && request
}

// locker is the function that waits for a lock, in the stack of its goroutine.
func locker(stack string) string {
	for line := range strings.SplitSeq(stack, "\n") {
		line = strings.TrimSpace(line)
		runtimes := strings.HasPrefix(line, "runtime.") || strings.HasPrefix(line, "sync.") || strings.HasPrefix(line, "internal/sync.")
		if !runtimes && !strings.HasPrefix(line, "goroutine ") && !strings.HasPrefix(line, "/") {
			return line
		}
	}
	return ""
}

// inChild runs seeds in a child and yields its attempts, until yield returns false. What the child said beside them is in the error.
func inChild(t *testing.T, seed uint64, seeds, repeat int, faults string, yield func(*attempt) bool) error {
	timeout := time.Duration(0)
	if deadline, has := t.Deadline(); has { // nobody would end a child that outlives this process
		timeout = max(time.Until(deadline)-time.Second, time.Second)
	}
	args := []string{"-test.run=^TestSimulation$", "-test.v", "-test.timeout", timeout.String(), "-child", "-seed", strconv.FormatUint(seed, 10),
		"-seeds", strconv.Itoa(seeds), "-repeat", strconv.Itoa(repeat), "-faults", faults}
	cmd := exec.Command(os.Args[0], args...)
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	cmd.Stdout, cmd.Stderr = w, w
	cmd.Env = append(os.Environ(), "GOTRACEBACK=all")
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = w.Close()
	watchdog := time.AfterFunc(patience, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) })
	defer watchdog.Stop()
	c := childOutput{yield: yield}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() && !c.stopped {
		if c.line(lines.Text()) {
			watchdog.Reset(patience)
		}
	}
	if c.stopped {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil
	}
	err = cmd.Wait()
	if c.running { // it died, or was stopped, in the middle of a run
		yield(&attempt{Seed: c.seed, Failed: true, output: append(c.output, fmt.Sprintf("the process ended in this run: %v", err))})
		return nil
	}
	if err != nil && !c.failed {
		return fmt.Errorf("%w\n%s", err, strings.Join(c.output, "\n"))
	}
	return nil
}

// childOutput takes apart what a child writes.
type childOutput struct {
	yield   func(*attempt) bool
	seed    uint64
	running bool
	failed  bool // some run has failed, so the child will
	stopped bool
	output  []string
}

// line takes a line; it reports whether a run begins or ends with it.
func (c *childOutput) line(line string) bool {
	if text, found := strings.CutPrefix(line, beginMark); found {
		c.seed, _ = strconv.ParseUint(text, 10, 64)
		c.running, c.output = true, nil
		return true
	}
	text, found := strings.CutPrefix(line, endMark)
	if !found {
		c.output = append(c.output, line)
		return false
	}
	a := &attempt{output: c.output}
	if err := json.Unmarshal([]byte(text), a); err != nil {
		a = &attempt{Seed: c.seed, Failed: true, output: append(c.output, err.Error())}
	}
	c.running, c.output = false, nil
	c.failed = c.failed || a.Failed
	c.stopped = !c.yield(a)
	return true
}

// mostAgain is how often a seed is done again.
const mostAgain = 2

// chunk is how many seeds a child runs: the next one begins with an empty heap.
const chunk = 25

// eachSeed runs seeds in as many children at once as there are processors, until next returns none.
func eachSeed(t *testing.T, next func() (seed uint64, seeds int), yield func(*attempt)) []error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for range max(runtime.NumCPU(), 1) {
		wg.Go(func() {
			for {
				mu.Lock()
				seed, n := next()
				mu.Unlock()
				if n == 0 {
					return
				}
				again := map[uint64]int{}
				for end := seed + uint64(n); seed < end; {
					err := inChild(t, seed, int(end-seed), 1, noFaults, func(a *attempt) bool {
						mu.Lock()
						defer mu.Unlock()
						if again[a.Seed] < mostAgain && a.stood() {
							again[a.Seed]++
							seed, a.Again = a.Seed, true
						} else {
							seed = a.Seed + 1
						}
						yield(a)
						return true
					})
					if err != nil {
						mu.Lock()
						errs = append(errs, err)
						mu.Unlock()
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return errs
}
