package main

// verifyMutants blind one line of the checks of verify each.
var verifyMutants = []mutant{
	blind("a timer of no store as a cause", "internal/verify/outputs.go", `!r.hasTimerStore(timer) {`, `false {`, verifyPlanted),
	blind("a timer without state", "internal/verify/timers.go", `there && have.present {`, `true {`, verifyPlanted),
	blind("a timer with one key", "internal/verify/timers.go", `		w.broken(alone.value[8:], alone.value[:8], 1)`, ``, verifyPlanted),
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

const verifyPlanted = "TestVerifyFindsWhatIsPlanted"

// blind takes one line out of verify.
func blind(line, file, old, new, run string) mutant {
	return mutant{name: "verify is blind for " + line, file: file, old: old, new: new, packages: "./internal/verify", run: run}
}
