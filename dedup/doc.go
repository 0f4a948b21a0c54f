// Package dedup decides, for every record of a source, whether its handler may run: pattern P3 of the design, with the
// expiry rules of its part 2 (the position, ids with issue time, buckets of stream time) and replays on purpose.
//
// The package is pure: it has no Kafka client, no goroutine, no lock, no clock of the machine and no log. It keeps nothing
// in memory between records; all that it remembers are the markers that it writes through [Markers], in the same
// transaction as the effects of the record. So an abort or a rollback needs no word to the Guard, and two runs over one
// log decide and evict alike.
//
// # One record
//
//	d, err := guard.Check(r, dedup.FromSource, time) // reads markers, writes nothing
//	switch d.Action {
//	case Run:           run the handler; on success, or when its failure is decided as skip, delayed retry or dead
//	                    letter: guard.Record(d, r, time', outcome, outputs). Stop and retry in place record nothing (R10).
//	case Drop:          the position moves on, nothing else
//	case Replay:        emit d.Marker.Outputs() byte for byte; the handler does not run
//	case Quarantine:    emit a dead letter with d.Reason, then guard.Record(d, r, time, DeadLettered, nil)
//	case Halt:          end the task with d.Reason
//	}
//
// The marker is never written before the handler has succeeded: a marker that came first would swallow the redelivery of
// a record whose handler failed.
//
// # Time
//
// The time that Check and Record take is the marker time of the task, in milliseconds since 1970. It never goes back. It
// is at least the stream time, and at least the (accepted) timestamp of every record that was recorded, failed ones
// included: a failed record does not advance stream time, but on a quiet topic its marker would otherwise be written
// into a bucket that the next good record evicts at once. [Guard.Horizon] and [Guard.TimeAt] turn it into what a
// checkpoint keeps and back.
//
// # What an id protects, and what not
//
// Markers live for at least Config.Window of marker time after they were written. An opaque id whose copy comes later
// than that is New again; only an id with an issue time ([IssueTime]) is then refused as TooOld. Deduplication is
// local to the partition and to (Scope, kind).
package dedup
