package main

// simulationMutants are mistakes that a user would see, one of each kind that the judge tells apart. The simulation finds them end to end,
// in a few seeds.
var simulationMutants = []mutant{
	simulated("simulation, lost: after an abort the processing goes on behind what was in hand", "commit.go", "	w.refused = false\n	w.rewind()\n", "	w.refused = false\n"),
	simulated("simulation, doubled: a commit that nobody answers is taken for an abort", "resolve.go",
		`decided, err := s.decide(ctx, dirty)`, `decided, err := rolledBack, error(nil)`),
	simulated("simulation, ghost: what an aborted transaction wrote stays", "internal/task/commit.go",
		"	if t.state != nil {\n		t.state.Discard()\n	}\n	t.memory.reset()\n	t.rewind()", "	t.memory.reset()\n	t.rewind()"),
	simulated("simulation, wrong version: a failed run leaves its state", "internal/task/mark.go", "		t.state.Rollback()\n", "		_ = t.state\n"),
	simulated("simulation, marker without state: accounts are not in the changelog", "internal/task/commit.go", "		st := t.cfg.Sub.Store(d.Name)\n",
		"		if d.Name == \"accounts\" {\n			return nil\n		}\n		st := t.cfg.Sub.Store(d.Name)\n"),
	simulated("simulation, timer twice: the end of a timer is not in the changelog", "internal/task/commit.go", "		st := t.cfg.Sub.Store(d.Name)\n",
		"		if d.Kind == statestore.KindTimers && tombstone {\n			return nil\n		}\n		st := t.cfg.Sub.Store(d.Name)\n"),
	simulated("simulation, parked record lost at a move: it is not in the changelog", "internal/task/commit.go", "		st := t.cfg.Sub.Store(d.Name)\n",
		"		if d.Kind == statestore.KindParked {\n			return nil\n		}\n		st := t.cfg.Sub.Store(d.Name)\n"),
	simulated("simulation, stale store served: what others have committed since is not read", "restore.go",
		"				l.next, l.epoch = max(p.Next, l.next), p.LeaderEpoch\n",
		"				l.next, l.epoch = max(p.Next, l.next), p.LeaderEpoch\n				if l.store.Kind != statestore.KindTask {\n					l.next = l.end\n				}\n"),
	change("judge, lost: every replay of a dead letter is refused", "dedup/replay.go", "	case !found:\n		return g.judgeReplayAbsent", "	case !forced:\n		return g.judgeReplayAbsent",
		"./internal/proof/judge", "TestWhatTheEngineDoesIsRight"),
}

func simulated(name, file, old, changed string) mutant {
	return change(name, file, old, changed, "./internal/proof/simulation", "TestSimulationOfFixedSeeds")
}
