//go:build kafka

package kafkatest

import (
	"os"
	"syscall"
	"testing"

	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/kafkatest/workerproc"
)

// crashes are the steps before which a worker kills itself, one process each. The last one has committed what its state
// does not have.
var crashes = []workerproc.SelfSignal{
	{Step: step.ProduceOutputs, Occurrence: 3, Signal: syscall.SIGKILL},
	{Step: step.Flush, Occurrence: 5, Signal: syscall.SIGKILL},
	{Step: step.EndTxn, Occurrence: 4, Signal: syscall.SIGKILL},
	{Step: step.Confirmed, Occurrence: 6, Signal: syscall.SIGKILL},
}

// TestRetailJobSurvivesSIGKILL kills the worker at four steps of the commit path and twice from outside, then takes its disk
// away.
func TestRetailJobSurvivesSIGKILL(t *testing.T) {
	killRetailJob(newRetailRun(t, shared, retailLines))
}

// killRetailJob runs the job to its end through all crashes, and judges it. It returns the last process.
func killRetailJob(r *retailRun) *workerproc.Process {
	t := r.t
	t.Helper()
	spec := r.spec(t.TempDir(), "one")
	r.send(r.feed.Counts().Messages() / 4)
	p := r.start(spec)
	worked(r, p, tasks)
	r.stop(p) // a checkpoint: from now on only the tail is read
	r.send(0)

	for _, crash := range crashes {
		crashing := spec
		crashing.Self = []workerproc.SelfSignal{crash}
		p = r.start(crashing)
		if _, err := p.Wait(r.ctx, is(workerproc.SelfSignalled)); err != nil {
			t.Fatal(err)
		}
		p.Kill() // it is dead or about to be
	}
	p = r.start(spec)
	running(r, p, tasks)
	restored(t, p, "tail")
	for _, share := range []int{2, 3} {
		r.await(r.topics.Accepted, len(r.lines)*share/4)
		p.Kill()
		p = r.start(spec)
	}
	running(r, p, tasks)
	p.Kill()

	if err := os.RemoveAll(spec.StateDir); err != nil {
		t.Fatal(err)
	}
	p = r.start(spec)
	running(r, p, tasks)
	restored(t, p, "full")
	r.awaitEnd()
	r.stop(p)
	r.judge()
	sameAsChangelogs(r, spec.StateDir)
	return p
}

// is matches the events of one message.
func is(message string) func(workerproc.Event) bool {
	return func(e workerproc.Event) bool { return e.Message == message }
}

// running waits until that many tasks run.
func running(r *retailRun, p *workerproc.Process, tasks int) {
	r.t.Helper()
	eachTask(r, p, tasks, "running", func(e workerproc.Event) bool {
		return e.Message == workerproc.TaskChanged && e.State == "running"
	})
}

// worked waits until that many tasks have committed a transaction.
func worked(r *retailRun, p *workerproc.Process, tasks int) {
	r.t.Helper()
	eachTask(r, p, tasks, "with a commit", is(workerproc.TaskCommitted))
}

// eachTask waits until an event that matches has come for that many tasks.
func eachTask(r *retailRun, p *workerproc.Process, tasks int, what string, match func(workerproc.Event) bool) {
	r.t.Helper()
	seen := map[string]bool{}
	if _, err := p.Wait(r.ctx, func(e workerproc.Event) bool {
		if match(e) {
			seen[e.Task] = true
		}
		return len(seen) >= tasks
	}); err != nil {
		r.t.Fatalf("%d of %d tasks %s: %v", len(seen), tasks, what, err)
	}
}

// restored checks that changelogs were read, for that reason and no other.
func restored(t *testing.T, p *workerproc.Process, cause string) {
	t.Helper()
	records := int64(0)
	for _, e := range p.Events() {
		if e.Message != workerproc.RestoreEnded {
			continue
		}
		if e.Cause != cause || e.Err != "" {
			t.Errorf("a restore of cause %q, want %q: %s", e.Cause, cause, e.Text)
		}
		records += e.Records
	}
	if records == 0 {
		t.Errorf("no changelog record was restored; the log:\n%s", p.Tail())
	}
}
