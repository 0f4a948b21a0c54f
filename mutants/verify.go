package main

// verifyMutants blind one line of the checks of verify each.
var verifyMutants = []mutant{
	blind("a timer of no store as a cause", "internal/verify/outputs.go", `!r.hasTimerStore(timer) {`, `false {`, verifyPlanted),
	blind("a timer without state", "internal/verify/timers.go", `there && have.present {`, `true {`, verifyPlanted),
	blind("a timer with its due key only", "internal/verify/timers.go", `		w.broken(alone.value[8:], alone.value[:8], 1)`, ``, verifyPlanted+".*/timer_with"),
	blind("a timer with its identity key only", "internal/verify/timers.go", `		w.broken(order, values[0][1:9], len(values))`, ``, verifyPlanted+".*/timer_with"),
	blind("a parked record without a way back", "internal/verify/timers.go", `record && (timer || behind) {`, `true {`, verifyPlanted),
	blind("a parked record with another marker", "internal/verify/markers.go", `if g.markers == 0 || g.newest.Outcome != dedup.Parked || g.newest.Offset != offset {`, `if offset < 0 {`, verifyPlanted),
	blind("the stream time of a checkpoint", "internal/verify/tasks.go", `if c.StreamTime != t.meta.StreamTime {`, `if false {`, verifyPlanted),
	blind("state beyond the end of a changelog", "internal/verify/tasks.go", `l.Next > end {`, `l.Next > end && false {`, verifyPlanted),
	blind("state ahead of the committed offsets", "internal/verify/tasks.go", `case t.position.N > t.meta.N:`, `case false:`, verifyPlanted),
	blind("keys without a position", "internal/verify/stores.go", "	if it.Next() {\n		r.check", "	if it.Next() && false {\n		r.check", verifyPlanted),
	blind("an offset behind the end", "internal/verify/cut.go", `until < c.Offset {`, `until < c.Offset && false {`, verifyPlanted),
	blind("a changelog that ends too early", "internal/verify/cut.go", `if until < committed {`, `if false {`, verifyPlanted),
	blind("state without an offset", "internal/verify/tasks.go", `case !t.ours && (t.latest.N > 0 || t.hasState && t.position.N > 0):`, `case false:`, "TestOffsetsThat"),
	blind("an offset that is not ours", "internal/verify/cut.go", `case c.Offset >= 0 && !ours:`, `case false:`, "TestOffsetsThat"),
	blind("an offset of one input only", "internal/verify/cut.go", `case (c.Offset < 0) != (first.Offset < 0):`, `case false:`, "TestPositionsThatDisagree"),
	blind("the body of a conflict", "internal/verify/markers.go", `case g.markers > 0 && !(n.compared && g.newest.HasBody && n.body != g.newest.Body):`, `case g.markers > 0:`, "TestRefusalWithout"),
	blind("the partition of an output", "internal/verify/execute_compare.go", `have.partition == want.partition && have.hash == want.hash:`, `have.hash == want.hash:`, "TestExecuteFindsAnOutput"),
	blind("a timestamp ahead of the clock", "internal/verify/execute_clock.go", `t.clamped || t.ours && again.StreamTimeMillis() > t.meta.StreamTime {`, `false {`, "TestExecuteDoesNotJudge"),
	blind("a timer that may have fired", "internal/verify/execute_clock.go", `same && !x.removed {`, `same {`, "TestExecuteCompares"),
	blind("timers that differ", "internal/verify/execute_clock.go", `same = same && len(runs) == 2`, `same = true`, "TestExecuteCompares"),
	blind("state that is gone", "internal/verify/stores.go", `	if t.ours {
		r.skip`, `	if false {
		r.skip`, "TestStateThatIsGone"),
	unseen("doubled", "internal/verify/outputs.go", `!copied || again && this.hash == first.hash {`, `true {`, "doubled"),
	unseen("ghost", "internal/verify/inputs.go", `if offset := s.causes.offset(); !gone(offset, CheckCauses) {`, `if offset := s.causes.offset(); !gone(offset, CheckCauses) && offset < 0 {`, "ghost"),
	unseen("lost", "internal/verify/execute_compare.go", `case !x.wasRun(made.value): // it`, `case true: // it`, "lost"),
	unseen("an output that is not made again", "internal/verify/execute_compare.go", `	case !x.wasRun(old.value):`, `	case true:`, "ghost_of_a_record_that_was_not_there"),
	unseen("wrong version", "internal/verify/execute_compare.go", `have.partition == want.partition && have.hash == want.hash:`, `have.partition == want.partition:`, "wrong_version"),
	unseen("marker without state", "internal/verify/stores.go", `equal := has && offset >= 0 && bytes.Equal(logged, stored)`, `equal := offset < 0 || bytes.Equal(logged, stored)`, "marker_without_state"),
	unseen("state without marker", "internal/verify/markers.go", `		if bucket > most {`, `		if true {`, "state_without_marker"),
	unseen("marker without its input", "internal/verify/inputs.go", `case trace.ID, trace.Refusal:`, `case m.hash:`, "marker_without_its_input"),
	unseen("position behind", "internal/verify/tasks.go", `case c.Inputs[j].Next != t.next[i]:`, `case false:`, "position_behind"),
	unseen("counter behind", "internal/verify/tasks.go", `case t.ours && t.latest.N != t.meta.N:`, `case false:`, "counter_behind"),
	unseen("store unequal to its changelog", "internal/verify/stores.go", `equal := has && offset >= 0 && bytes.Equal(logged, stored)`, `equal := has`, "store_unequal_to_its_changelog"),
	unseen("what --since leaves out", "internal/verify/scope.go", `return !r.Since.IsZero() && at.Before(r.Since)`, `return false`, "(doubled|ghost)"),
	unseen("what a sample leaves out", "internal/verify/scope.go", `return (x^x>>33)%s.Of < s.Take`, `return true`, "(doubled|store_unequal_to_its_changelog)"),
	unseen("what a sample has", "internal/verify/scope.go", `return (x^x>>33)%s.Of < s.Take`, `return x == 0`, "(doubled|store_unequal_to_its_changelog)"),
	misled("records that were removed meanwhile", "internal/verify/read.go", `if r.topics[topic].Starts[partition] = start; start >= to {`, `if start >= to {`, besideBusy),
	misled("a start that moves", "internal/verify/read.go", `		if start <= next {`, `		if start <= next || true {`, besideBusy),
	misled("markers that expire meanwhile", "internal/verify/tasks.go", `d.task.cut[d.store.ID()], d.known = bucket, start`, `_, d.known = bucket, start`, "TestMarkersThatExpired"),
	misled("the marker of a parked record that expires meanwhile", "internal/verify/markers.go", `if g.markers == 0 && g.window.deleted {`, `if false {`, "TestMarkersThatExpired"),
	misled("what compaction removes meanwhile", "internal/verify/tasks.go", `	if err == nil && topic.Compacted {`, `	if false {`, besideBusy),
	misled("an owner that is written again", "internal/verify/timers.go", `if there && !have.present && have.later {`, `if false {`, writtenAgain),
	misled("a due key that is written again", "internal/verify/timers.go", `return w.orders.add(key, []byte{laterEntry})`, `return nil`, writtenAgain),
	misled("an identity key that is written again", "internal/verify/timers.go", `if more && bytes.Equal(again.key, alone.key) {`, `if false {`, writtenAgain),
	misled("a parked record that is written again", "internal/verify/timers.go", `	if has('l') {`, `	if false {`, writtenAgain),
	misled("a checkpoint record that is written again", "internal/verify/tasks.go", `			t.replaced = true`, ``, writtenAgain),
	misled("the head of a queue that is written again", "internal/verify/timers.go", `errors.Join(w.queues.add(key, nil), w.numbers.add(key[17:], []byte{'l'}))`, `w.numbers.add(key[17:], []byte{'l'})`, writtenAgain),
	misled("an expired marker of a timestamp ahead of the clock", "internal/verify/markers.go", `		if bucket > most {`, `		if false {`, "TestTimestampAhead"),
	misled("a timestamp ahead of the clock, run again", "internal/verify/markers.go", `			r.noteClamped(here)`, ``, "TestTimestampAhead"),
	misled("a live marker of a timestamp ahead of the clock", "internal/verify/inputs.go", `s.task.clamped || m.bucket < bucket`, `s.task.clamped`, "TestTimestampAhead"),
	misled("an input without its beginning", "internal/verify/execute_compare.go", `case fromInput && cause.Offset < x.topics[cause.Topic].Starts[cause.Partition]:`, `case false:`, "TestExecuteBegins"),
	{
		name: "verify leaves its files", file: "internal/verify/verify.go",
		old: `errors.Join(err, r.close(), os.RemoveAll(r.dir))`, new: `errors.Join(err, r.close())`,
		packages: "./internal/verify", run: "TestInterruptLeaves",
	},
	{
		name: "verify sorts in memory", file: "internal/verify/sorter.go",
		old: `if len(s.data)+len(s.entries)*24 < s.limit {`, new: `if true {`,
		packages: "./internal/verify", run: "TestSorterAgainst",
	},
	{
		name: "verify takes a silence for the end", file: "internal/verify/kafkalog/log.go",
		old:      "	if err == nil {\n		return true, nil\n	}\n	silent",
		new:      "	if true {\n		return true, nil\n	}\n	silent",
		packages: "./internal/verify", run: "TestWhatCannotBeRead|TestWhatIsReadLate",
	},
	{
		name: "the original key is no part of the body", file: "internal/dedupstage/stage.go",
		old:      `after.BodyHeader = headerKey`,
		new:      `after.BodyHeader = ""`,
		packages: "./internal/dedupstage", run: "TestConflict",
	},
	{
		name: "counts are checked by their sum", file: "benchmarks/workloads/check.go",
		old:      `if n != k.last+1 && !k.wrong {`,
		new:      `if n > c.in.Records && !k.wrong {`,
		packages: "./benchmarks/workloads", run: "TestCheck",
	},
}

const (
	verifyPlanted = "TestVerifyFindsWhatIsPlanted"
	besideBusy    = "TestVerifyBesideABusy"
	writtenAgain  = "TestWhatWasWrittenAgain"
)

// unseen makes a check that never fires.
func unseen(kind, file, old, new, subtest string) mutant {
	return mutant{name: "verify does not see: " + kind, file: file, old: old, new: new, packages: "./internal/verify", run: "TestEachKindOfViolation/^" + subtest + "$"}
}

// misled makes a check that fires where nothing is wrong.
func misled(by, file, old, new, run string) mutant {
	return mutant{name: "verify is misled by " + by, file: file, old: old, new: new, packages: "./internal/verify", run: run}
}

// blind takes one line out of verify.
func blind(line, file, old, new, run string) mutant {
	return mutant{name: "verify is blind for " + line, file: file, old: old, new: new, packages: "./internal/verify", run: run}
}
