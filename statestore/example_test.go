package statestore_test

import (
	"context"
	"fmt"
	"time"

	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/memory"
)

// A transaction of one task: writes are seen by the transaction itself at once, by nobody else before Apply, and are on the
// disk after a checkpoint, together with the position that they belong to.
func Example() {
	names := statestore.KeyValue("names", number{}, text{})
	db, err := statestore.Open(statestore.Config{Engine: memory.New()})
	if err != nil {
		fmt.Println(err)
		return
	}
	task, err := db.Acquire(statestore.TaskID{SubTopology: "people", Partition: 0}, []*statestore.Declaration{names.Declaration()})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := &scope{task: task} // in a processor: its context
	_ = names.Put(ctx, 2, "Grace")
	_ = names.Put(ctx, 1, "Ada")
	task.Mark()
	_ = names.Delete(ctx, 1)
	task.Rollback() // the record failed

	if err := task.Reserve(); err != nil { // before the commit
		fmt.Println(err)
		return
	}
	task.Apply(statestore.Position{Checkpoint: statestore.Checkpoint{N: 1}, WrittenAt: time.Now()}) // it is confirmed
	ticket := db.Checkpoint(task)
	<-ticket.Done()
	for e, err := range names.All(ctx) {
		fmt.Println(e.Key, e.Value, err)
	}
	fmt.Println(ticket.Tasks(), ticket.Err(), task.Tick())
	task.Release()
	fmt.Println(db.Close(context.Background()))
	// Output:
	// 1 Ada <nil>
	// 2 Grace <nil>
	// [people_0] <nil> <nil>
	// <nil>
}
