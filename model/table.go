package main

import "fmt"

// sizes are how often each fault may strike in one behaviour, and how often an owner checkpoints by itself.
type sizes struct {
	crashes, disks, pauses, moves, unknowns, resets, damages, refusals, shortenings, checkpoints int
}

// run is one search of spin.
type run struct {
	name string
	// wrong is the switch that makes the protocol wrong; empty for the right one.
	wrong string
	// progress searches for behaviours without an end, too: if there is none, each behaviour ends, and the end is checked to be the one
	// with everything committed.
	progress bool
	// stateless is a task without stores: it begins where the offset says.
	stateless bool
	// old are brokers before transaction.version 2.
	old bool
	sizes
}

// defines are the switches for spin's preprocessor.
func (r *run) defines() []string {
	var d []string
	for name, n := range r.sizes.byName() {
		d = append(d, fmt.Sprintf("-D%s=%d", name, n))
	}
	if r.stateless {
		d = append(d, "-DSTATELESS")
	}
	if r.old {
		d = append(d, "-DOLD_TRANSACTIONS")
	}
	if r.wrong == "" {
		return append(d, "-DLEMMAS")
	}
	return append(d, "-D"+r.wrong)
}

func (s *sizes) byName() map[string]int {
	return map[string]int{"CRASHES": s.crashes, "DISKS": s.disks, "PAUSES": s.pauses, "MOVES": s.moves, "UNKNOWNS": s.unknowns, "RESETS": s.resets,
		"DAMAGES": s.damages, "REFUSALS": s.refusals, "SHORTENINGS": s.shortenings, "CHECKPOINTS": s.checkpoints}
}

// hashBits is the size of spin's table of states, which costs memory before the first state.
func (r *run) hashBits() int {
	if r.wrong != "" {
		return 20
	}
	return 24
}

// runs are those of the gate or of the full check.
func runs(short bool) []run {
	if short {
		return append(append([]run(nil), shortRuns...), wrongRuns...)
	}
	return append(append([]run(nil), fullRuns...), wrongRuns...)
}

// shortRuns are the right protocol in the sizes of the gate.
var shortRuns = []run{
	{name: "right, crash and move", sizes: sizes{crashes: 1, disks: 1, moves: 1, checkpoints: 1}},
	{name: "right, pause", sizes: sizes{pauses: 1}},
	{name: "right, pause, stateless", stateless: true, sizes: sizes{pauses: 1}},
	{name: "right, unknown outcome", sizes: sizes{crashes: 1, unknowns: 1, refusals: 1}, progress: true},
	{name: "right, transaction.version 1", old: true, sizes: sizes{unknowns: 1, refusals: 1}, progress: true},
	{name: "right, offset moved", sizes: sizes{crashes: 1, resets: 1, unknowns: 1}, progress: true},
	{name: "right, damage and shortened logs", sizes: sizes{crashes: 1, damages: 1, shortenings: 1}, progress: true},
}

// fullRuns are the right protocol in the full sizes.
var fullRuns = []run{
	{name: "right, crashes, move, unknown", sizes: sizes{crashes: 2, disks: 1, moves: 1, unknowns: 1, checkpoints: 1}},
	{name: "right, crash, pause, move", sizes: sizes{crashes: 1, disks: 1, pauses: 1, moves: 1}},
	{name: "right, crash, pause, move, stateless", stateless: true, sizes: sizes{crashes: 1, pauses: 1, moves: 1}},
	{name: "right, pause, move, unknown", sizes: sizes{pauses: 1, moves: 1, unknowns: 1}},
	{name: "right, crash, pause, disk, checkpoint", sizes: sizes{crashes: 1, disks: 1, pauses: 1, checkpoints: 1}},
	{name: "right, transaction.version 1", old: true, sizes: sizes{crashes: 1, moves: 1, unknowns: 2, refusals: 1}},
	{name: "right, transaction.version 1, pause", old: true, sizes: sizes{pauses: 1, moves: 1, unknowns: 1}},
	{name: "right, offset moved", sizes: sizes{crashes: 2, disks: 1, moves: 1, unknowns: 1, resets: 1}},
	{name: "right, damage", sizes: sizes{crashes: 1, moves: 1, damages: 1, refusals: 1, checkpoints: 2}},
	{name: "right, shortened logs", sizes: sizes{crashes: 2, disks: 1, moves: 1, shortenings: 1, checkpoints: 1}},
	{name: "progress, crashes, move, unknown", sizes: sizes{crashes: 2, moves: 1, unknowns: 1}, progress: true},
	{name: "progress, crash, pause, move", sizes: sizes{crashes: 1, pauses: 1, moves: 1}, progress: true},
}

// wrongRuns are the wrong protocols, each with what it takes to show it.
var wrongRuns = []run{
	{name: "store first", wrong: "STORE_FIRST", sizes: sizes{crashes: 1, moves: 1}},
	{name: "marker not in the changelog", wrong: "MARKER_NOT_IN_CHANGELOG", sizes: sizes{crashes: 1}},
	{name: "restore to the last stable offset", wrong: "RESTORE_TO_LSO", sizes: sizes{crashes: 1}},
	{name: "restore of uncommitted records", wrong: "RESTORE_UNCOMMITTED", sizes: sizes{crashes: 1}},
	{name: "ends listed before the offsets", wrong: "LIST_BEFORE_FETCH", sizes: sizes{pauses: 1}},
	{name: "offset fetch not stable", wrong: "UNSTABLE_FETCH", stateless: true, sizes: sizes{pauses: 1}},
	{name: "no comparison after a restore", wrong: "NO_COMPARE", sizes: sizes{crashes: 1, disks: 1, shortenings: 1}},
	{name: "served before caught up", wrong: "SERVE_EARLY", sizes: sizes{crashes: 1}},
	{name: "unknown means abort", wrong: "UNKNOWN_MEANS_ABORT", sizes: sizes{unknowns: 1}},
	{name: "unknown means commit", wrong: "UNKNOWN_MEANS_COMMIT", sizes: sizes{unknowns: 1}},
	{name: "outcome by offset", wrong: "OUTCOME_BY_OFFSET", sizes: sizes{unknowns: 1}},
	{name: "outcome without the attempt", wrong: "OUTCOME_WITHOUT_ATTEMPT", sizes: sizes{crashes: 1, pauses: 1, unknowns: 1}},
	{name: "overlay kept after an abort", wrong: "KEEP_OVERLAY", sizes: sizes{unknowns: 1}},
	{name: "failed promise ignored", wrong: "IGNORE_PROMISES", sizes: sizes{crashes: 1, refusals: 1}},
	{name: "no fence", wrong: "NO_FENCE", sizes: sizes{crashes: 1}},
	{name: "offset commit without generation", wrong: "NO_GENERATION", sizes: sizes{pauses: 1}},
	{name: "the client's membership", wrong: "CLIENTS_MEMBERSHIP", sizes: sizes{crashes: 1, pauses: 1}},
	{name: "position not consulted", wrong: "NO_POSITION", sizes: sizes{crashes: 1, resets: 1}},
	{name: "checkpoint apart from its position", wrong: "CHECKPOINT_APART", sizes: sizes{crashes: 1, checkpoints: 1}},
	{name: "drop before the checkpoint", wrong: "DROP_OVERTAKES", sizes: sizes{crashes: 1, moves: 1, damages: 1, checkpoints: 1}},
	{name: "stale delta ingested", wrong: "STALE_INGEST", sizes: sizes{crashes: 1, moves: 1, checkpoints: 1}},
	{name: "late requests of old brokers not heeded", wrong: "NO_RENEWAL", sizes: sizes{unknowns: 1}},
	{name: "false alarms", wrong: "REPORT_FAULTS", sizes: sizes{pauses: 1}},
}

// optimised is the level of the C compiler: what is refuted within some thousand states is not worth the time.
func (r *run) optimised() string {
	if r.wrong != "" {
		return "0"
	}
	return "1"
}
