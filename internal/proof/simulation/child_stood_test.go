package simulation

import (
	"strings"
	"testing"
)

// A run whose clock stood is told from one that stands still for any other reason.
func TestStoodIsNarrow(t *testing.T) {
	t.Parallel()
	const (
		lock     = "runtime.gopark(0x1)\n\t/usr/local/go/src/runtime/proc.go:462\ninternal/sync.(*Mutex).lockSlow(0x1)\n\t/mutex.go:1\nsync.(*Mutex).Lock(...)\n\t/mutex.go:2\n"
		poll     = "goroutine 7 gp=0x1 m=nil [sync.Mutex.Lock, 2 minutes, synctest bubble 2]:\n" + lock + "github.com/twmb/franz-go/pkg/kgo.(*Client).PollRecords.func3()\n"
		update   = "goroutine 7 gp=0x1 m=nil [sync.Mutex.Lock, 2 minutes, synctest bubble 2]:\n" + lock + "github.com/twmb/franz-go/pkg/kgo.(*consumer).doOnMetadataUpdate.func1()\n"
		moved    = "goroutine 7 gp=0x1 m=nil [sync.Mutex.Lock, 2 minutes, synctest bubble 2]:\n" + lock + "github.com/twmb/franz-go/pkg/kgo.(*consumer).stopSession(0x1)\n\t/consumer.go:1\ngithub.com/twmb/franz-go/pkg/kgo.(*topicPartition).migrateCursorTo(0x1)\n"
		assign   = "goroutine 8 gp=0x1 m=nil [sync.Cond.Wait (durable), 2 minutes, synctest bubble 2]:\nsync.(*Cond).Wait(0x1)\ngithub.com/twmb/franz-go/pkg/kgo.(*consumer).assignPartitions(0x1)\n"
		request  = "goroutine 9 gp=0x1 m=nil [chan receive (durable), 2 minutes, synctest bubble 2]:\ngithub.com/twmb/franz-go/pkg/kgo.(*broker).waitResp(0x1)\n"
		others   = "goroutine 1 gp=0x1 m=nil [chan receive, 2 minutes]:\ntesting.(*T).Run(0x1)\n"
		ourLock  = "goroutine 10 gp=0x1 m=nil [sync.Mutex.Lock, 2 minutes, synctest bubble 2]:\n" + lock + "github.com/oncemill/oncemill.(*mailbox).deliver(0x1)\n\t/mailbox.go:1\ngithub.com/twmb/franz-go/pkg/kgo.(*Client).PollRecords(0x1)\n"
		atWork   = "goroutine 11 gp=0x1 m=nil [runnable, synctest bubble 2]:\ngithub.com/oncemill/oncemill.(*worker).poll(0x1)\n"
		awaiting = "goroutine 12 gp=0x1 m=nil [select (durable), 2 minutes, synctest bubble 2]:\ngithub.com/oncemill/oncemill.(*worker).poll(0x1)\n"
	)
	for name, c := range map[string]struct {
		stacks []string
		result *Result
		want   bool
	}{
		"the clock stood":            {stacks: []string{others, poll, assign, request, awaiting}, want: true},
		"so does another":            {stacks: []string{others, update, assign, request, awaiting}, want: true},
		"so does a third":            {stacks: []string{others, moved, assign, request, awaiting}, want: true},
		"no request":                 {stacks: []string{others, poll, assign, awaiting}},
		"the lock is held otherwise": {stacks: []string{others, poll, request, awaiting}},
		"nobody waits for a lock":    {stacks: []string{others, assign, request, awaiting}},
		"a lock of ours":             {stacks: []string{others, poll, assign, request, ourLock}},
		"somebody works":             {stacks: []string{others, poll, assign, request, atWork}},
		"it has ended":               {stacks: []string{others, poll, assign, request}, result: &Result{}},
	} {
		a := &attempt{Failed: true, Result: c.result, output: strings.Split(strings.Join(c.stacks, "\n"), "\n")}
		if got := a.stood(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
