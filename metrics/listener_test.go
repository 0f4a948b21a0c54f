package metrics_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/metrics"
)

// recording returns a listener with every function set: each appends tag and the type of its event.
func recording(tag string, calls *[]string) metrics.Listener {
	var l metrics.Listener
	v := reflect.ValueOf(&l).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		v.Field(i).Set(reflect.MakeFunc(v.Field(i).Type(), func([]reflect.Value) []reflect.Value {
			*calls = append(*calls, tag+" "+name)
			return nil
		}))
	}
	return l
}

// callAll calls every function of a listener with a zero event.
func callAll(l metrics.Listener) {
	v := reflect.ValueOf(l)
	for i := range v.NumField() {
		v.Field(i).Call([]reflect.Value{reflect.Zero(v.Field(i).Type().In(0))})
	}
}

func TestTeeCallsEveryListenerInOrder(t *testing.T) {
	var calls []string
	callAll(recording("a", &calls).Tee(metrics.Listener{}, recording("b", &calls)))
	fields := reflect.TypeFor[metrics.Listener]()
	if len(calls) != 2*fields.NumField() {
		t.Fatalf("%d calls for %d fields", len(calls), fields.NumField())
	}
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		if calls[2*i] != "a "+name || calls[2*i+1] != "b "+name {
			t.Errorf("%s: %v", name, calls[2*i:2*i+2])
		}
	}
}

func TestWithDefaultsLeavesNoFunctionNil(t *testing.T) {
	callAll(metrics.Listener{}.WithDefaults()) // a nil one panics
	var calls []string
	callAll(recording("a", &calls).WithDefaults())
	if len(calls) != reflect.TypeFor[metrics.Listener]().NumField() {
		t.Errorf("%d calls", len(calls))
	}
}

func TestTeeWithoutListenersDoesNotAllocatePerEvent(t *testing.T) {
	l := metrics.Listener{}.WithDefaults()
	commit := metrics.TaskCommit{Task: "t_0", Processed: 7}
	if n := testing.AllocsPerRun(100, func() { l.TaskCommitted(commit) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestLogIsSilentAboutCommitsAndLoudAboutFailures(t *testing.T) {
	var out bytes.Buffer
	l := metrics.Log(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))).WithDefaults()
	l.TransactionEnded(metrics.TransactionEnd{Worker: "0", Outcome: metrics.Committed})
	l.TaskCommitted(metrics.TaskCommit{Task: "t_0"})
	l.LagMeasured(metrics.Lag{Task: "t_0"})
	l.RestoreProgressed(metrics.RestoreProgress{Task: "t_0"})
	if out.Len() > 0 {
		t.Fatalf("logged: %s", out.String())
	}
	broken := errors.New("it broke")
	for _, c := range []struct {
		call func()
		want string
	}{
		{func() {
			l.TransactionEnded(metrics.TransactionEnd{Outcome: metrics.Aborted, Cause: "produce", Err: broken})
		}, `level=WARN msg="transaction aborted"`},
		{func() { l.TransactionEnded(metrics.TransactionEnd{Outcome: metrics.Fenced, Err: broken}) }, `level=WARN msg=fenced`},
		{func() { l.TransactionEnded(metrics.TransactionEnd{Outcome: metrics.ResolvedCommitted}) }, `outcome=resolved_committed`},
		{func() { l.TransactionUnresolved(metrics.Unresolved{Worker: "0"}) }, `level=WARN msg="commit unresolved`},
		{func() { l.TransactionUnresolved(metrics.Unresolved{Resolved: true, Waited: time.Second}) }, `msg="commit resolved"`},
		{func() { l.TaskStateChanged(metrics.TaskStateChange{Task: "t_0", To: metrics.TaskRunning}) }, `msg="task running"`},
		{func() { l.RestoreStarted(metrics.RestoreStart{Task: "t_0", Cause: metrics.RestoreTail}) }, `msg=restoring task=t_0 cause=tail`},
		{func() { l.RestoreEnded(metrics.RestoreEnd{Task: "t_0", Err: broken}) }, `level=ERROR msg="restore failed"`},
		{func() { l.RestoreEnded(metrics.RestoreEnd{Task: "t_0", Restored: 9}) }, `msg=restored task=t_0`},
		{func() { l.CheckpointEnded(metrics.CheckpointEnd{Try: 2, Err: broken}) }, `level=WARN msg="checkpoint failed`},
		{func() { l.CheckpointEnded(metrics.CheckpointEnd{Records: 5}) }, `msg=checkpoint tasks=0 records=5`},
		{func() { l.Failed(metrics.Failure{Node: "decide", Place: "in/0@7", Err: broken}) }, `at=in/0@7`},
		{func() { l.DeadLettered(metrics.DeadLetter{Node: "decide", Err: broken}) }, `msg="dead letter"`},
		{func() { l.RebalanceEnded(metrics.RebalanceEnd{Reason: "assigned", Gained: 3}) }, `gained=3`},
		{func() { l.ReadyChanged(metrics.Ready{Ready: true}) }, `ready=true`},
		{func() { l.AppStarted(metrics.AppStart{App: "shop"}) }, `app=shop`},
	} {
		out.Reset()
		c.call()
		if !strings.Contains(out.String(), c.want) {
			t.Errorf("want %q in %q", c.want, out.String())
		}
	}
}

func ExampleListener() {
	l := metrics.Listener{
		RestoreEnded: func(e metrics.RestoreEnd) {
			fmt.Printf("%s caught up with %d records (%s)\n", e.Task, e.Restored, e.Cause)
		},
	}
	l.WithDefaults().RestoreEnded(metrics.RestoreEnd{Task: "commands_3", Cause: metrics.RestoreTail, Restored: 1204})
	// Output: commands_3 caught up with 1204 records (tail)
}

func ExampleListener_Tee() {
	count := 0
	counting := metrics.Listener{DeadLettered: func(metrics.DeadLetter) { count++ }}
	printing := metrics.Listener{DeadLettered: func(e metrics.DeadLetter) { fmt.Println("dead letter at", e.Place) }}
	counting.Tee(printing).DeadLettered(metrics.DeadLetter{Place: "orders/2@88121"})
	fmt.Println(count)
	// Output:
	// dead letter at orders/2@88121
	// 1
}
