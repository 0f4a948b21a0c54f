// Package dedup decides, for every record of a source, whether its handler may run (pattern P3 of docs/guarantees.md): by its
// position, by its id within a window of marker time, by when that id was issued, and by replays on purpose.
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
// into a bucket that the next good record evicts at once. A checkpoint keeps it to the millisecond: [Guard.Horizon]
// tells it to half a window only, and whether an id is too old depends on the rest.
//
// Timestamps are held against the machine's clock by the task, before Check: the guard compares an id's issue time with
// the timestamp of its record, and a timestamp from far ahead would vouch for an id from far ahead.
//
// # What an id protects, and what not
//
// Markers live for at least Config.Window of marker time after they were written. An opaque id whose copy comes later
// than that is New again; only an id with an issue time ([IssueTime]) is then refused as TooOld. Deduplication is
// local to the partition and to (Scope, kind).
//
// # Verdicts on what is wrong
//
//   - No id: Missing. An empty id, one longer than Config.MaxIDBytes, one that cannot be parsed or was issued in the
//     future: Invalid. Such a record never runs; a hash of its content identifies its dead letter, so that its copy adds
//     none. With StopOnMissing the task halts instead.
//   - The same id with another key or value: Conflict. The first result and its marker stay as they are. Headers are not
//     compared, because a resend changes them.
//   - Each refusal has a marker of its own, by scope, kind, id, content and replay number, in a domain of its own: its
//     copies are dropped, and it can never be taken for an id.
//
// # Replays on purpose
//
// The topic by which a record came decides, never its headers alone: a replay number on the source topic means nothing. A
// dead letter runs once per number, the number being its own + 1. When its marker has expired it is refused, unless the
// operator set [HeaderForce]; force never repeats what is known to be applied. A dead letter that had no id is admitted if
// it was given one (its content finds it), otherwise only by force, under the hash of its content.
package dedup
