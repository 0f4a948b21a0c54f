// Package oncemill runs stateful stream processors on Kafka, exactly once: for every input record its state change, its dedup
// marker, its outputs, its timers and its position become durable and visible together, across crashes, rebalances,
// zombies, lost disks and replays.
//
// Start reading at worker.go; one record is internal/task/task.go; one commit is session.go; a restore is restore.go.
package oncemill
