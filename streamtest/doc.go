// Package streamtest tests topologies without a Kafka.
//
// A [Driver] pipes records through the production task: the same code that a worker runs, with the same deduplication,
// stores, timers and failure policies, on a virtual clock and over logs that the driver keeps in memory. Nothing becomes
// visible before it is committed:
//
//	d := streamtest.New(t, topology, streamtest.Options{Partitions: 4})
//	d.Pipe("orders", streamtest.Text("customer-7", `{"amount": 12}`).With("message-id", "m1"))
//	d.Commit()
//	events := streamtest.Read(d, "order-events", serde.String(), serde.JSON[Event]())
//
// Restarts, lost disks, moves and commits whose answer is lost are calls of the driver, so that a test can put a crash
// between any two steps; [Repeat] does so by itself, over all commits of a test and several batch sizes.
package streamtest
