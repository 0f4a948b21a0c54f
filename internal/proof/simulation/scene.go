package simulation

import (
	"time"

	"github.com/oncemill/oncemill/internal/step"
)

// scenes are what a plan is drawn from, by weight. Times are since the begin of the scene.
var scenes = []struct {
	weight int
	draw   func(d *draw) []Fault
}{
	{8, func(d *draw) []Fault {
		return one(Fault{Kind: Kill, Process: d.process(), Lost: d.lost(), For: d.sometime()})
	}},
	{4, func(d *draw) []Fault { return one(Fault{Kind: Wipe, Process: d.process(), For: d.sometime()}) }},
	{3, func(d *draw) []Fault { return one(Fault{Kind: Corrupt, Process: d.process(), For: d.sometime()}) }},
	{14, func(d *draw) []Fault { return one(d.crash(d.process(), pick(d, crashSteps...))) }},
	{6, func(d *draw) []Fault { return one(Fault{Kind: Pause, Process: d.process(), For: d.outage()}) }},
	{8, func(d *draw) []Fault {
		return one(Fault{Kind: Pause, Process: d.process(), Step: d.phase(pick(d, pauseSteps...)), Nth: 1 + d.IntN(3), For: d.outage()})
	}},
	{3, func(d *draw) []Fault { return one(Fault{Kind: Isolate, Process: d.process(), For: d.sometime()}) }},
	{5, func(d *draw) []Fault { return one(Fault{Kind: Join, Process: d.process()}) }},
	{5, func(d *draw) []Fault { return one(Fault{Kind: Leave, Process: d.process(), For: d.sometime()}) }},
	{1, func(d *draw) []Fault { return one(Fault{Kind: Rolling, For: d.shortly()}) }},
	{4, func(d *draw) []Fault { return one(Fault{Kind: Broker, Node: d.IntN(brokers), For: d.sometime()}) }},
	{3, func(*draw) []Fault { return one(Fault{Kind: Leaders}) }},
	{3, func(*draw) []Fault { return one(Fault{Kind: Coordinators}) }},
	{8, func(d *draw) []Fault { return one(d.onTheWire(Lose)) }},
	{5, func(d *draw) []Fault {
		f := d.onTheWire(Late)
		f.Delay = d.sometime()
		return one(f)
	}},
	{6, func(d *draw) []Fault { return one(d.refuse()) }},
	{3, func(d *draw) []Fault { return one(Fault{Kind: Full, Process: d.process(), For: d.sometime()}) }},
	{3, func(d *draw) []Fault {
		return one(Fault{Kind: Slow, Process: d.process(), Delay: d.between(5*time.Millisecond, 200*time.Millisecond), For: d.outage()})
	}},
	{1, func(d *draw) []Fault { return one(Fault{Kind: Jump, For: d.outage()}) }},
	{3, func(d *draw) []Fault { return one(Fault{Kind: Replay, Times: 1 + d.IntN(2)}) }},

	// A commit of which nobody knows whether it was executed.
	{3, func(d *draw) []Fault {
		return one(Fault{Kind: Lose, Process: d.process(), API: "EndTxn", Request: d.IntN(2) == 0, Nth: 1 + d.IntN(5), For: d.between(15*time.Second, 30*time.Second)})
	}},
	{4, func(d *draw) []Fault {
		return one(Fault{Kind: Lose, Process: d.process(), API: "EndTxn", Nth: 1 + d.IntN(5), Times: 1,
			Err: pick(d, "UNKNOWN_SERVER_ERROR", "REQUEST_TIMED_OUT", "INVALID_TXN_STATE", "INVALID_PRODUCER_EPOCH")})
	}},
	{3, func(d *draw) []Fault {
		return one(Fault{Kind: Refuse, API: "EndTxn", Err: pick(d, "UNKNOWN_SERVER_ERROR", "REQUEST_TIMED_OUT", "INVALID_TXN_STATE", "INVALID_PRODUCER_EPOCH"), Times: 1})
	}},
	// Want of memory, while tasks come and go.
	{2, func(d *draw) []Fault {
		p := d.process()
		return []Fault{{Kind: Full, Process: p, For: d.between(8*time.Second, 15*time.Second)}, {At: d.between(0, 8*time.Second), Kind: Leave, Process: d.process(), For: d.sometime()},
			{At: d.between(0, 8*time.Second), Kind: Leave, Process: d.process(), For: d.sometime()}}
	}},

	// A restore that is killed, and continued.
	{3, func(d *draw) []Fault {
		p := d.process()
		return []Fault{{Kind: Wipe, Process: p, For: d.shortly()}, d.crash(p, pick(d, restoreSteps...)), d.crash(p, pick(d, restoreSteps...))}
	}},
	// A rebalance while another one restores.
	{3, func(d *draw) []Fault {
		p := d.process()
		return []Fault{{Kind: Wipe, Process: p, For: d.shortly()}, {Kind: Pause, Process: p, Step: pick(d, restoreSteps...), Nth: 1, For: d.shortly()},
			{At: d.shortly(), Kind: Leave, Process: d.process(), For: d.sometime()}}
	}},
	{2, func(*draw) []Fault { return one(Fault{Kind: Trim}) }},
	// A checkpoint that takes long, of tasks that move away and come back.
	{4, func(d *draw) []Fault {
		p, away := d.process(), d.outage()
		return []Fault{{Kind: Slow, Process: p, Delay: d.between(500*time.Millisecond, 3*time.Second), For: 2 * away},
			{At: time.Second, Kind: Isolate, Process: p, For: away}, {At: away, Kind: Trim}}
	}},
}

func one(f Fault) []Fault { return []Fault{f} }

// The steps at which something happens on purpose.
var (
	commitSteps = []string{string(step.Seal), string(step.Flush), string(step.Reserve), string(step.CommitOffsets), string(step.EndTxn),
		string(step.Confirmed), string(step.Applied)}
	checkpointSteps = []string{string(step.Freeze), string(step.Ingest), string(step.Renew), string(step.Excise)}
	restoreSteps    = []string{string(step.FetchOffsets), string(step.ListEnds), string(step.ReadLogs), string(step.RestoreChunk), string(step.RestoreDone),
		string(step.CheckInputs), string(step.Start)}
	otherSteps = []string{string(step.Poll), string(step.Process), string(step.ProduceOutputs), string(step.Aborting), string(step.AbortTxn),
		string(step.Resolve), string(step.Decide), string(step.Resolved), string(step.DeleteRecords), string(step.Revoke), string(step.FinalCommit),
		string(step.FinalCheckpoint), string(step.CloseStore), string(step.Fence), string(step.Join), string(step.Assign), string(step.Drop), string(step.Lost)}
	crashSteps = concat(commitSteps, commitSteps, checkpointSteps, restoreSteps, otherSteps)
	pauseSteps = concat(commitSteps, commitSteps, restoreSteps, []string{string(step.Process), string(step.Ingest), string(step.Revoke), string(step.Aborting)})
)

func concat(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// phase is before the step or after it.
func (d *draw) phase(name string) string {
	if d.IntN(2) == 0 {
		return string(step.Step(name).After())
	}
	return name
}

func (d *draw) crash(process, at string) Fault {
	return Fault{Kind: Crash, Process: process, Step: d.phase(at), Nth: 1 + d.IntN(4), Lost: d.lost(), For: d.shortly()}
}

// wireAPIs are those of which a request or an answer gets lost; the more often named, the more often.
var wireAPIs = []string{"EndTxn", "EndTxn", "EndTxn", "EndTxn", "TxnOffsetCommit", "TxnOffsetCommit", "Produce", "Produce", "InitProducerID", "OffsetFetch",
	"ListOffsets", "Fetch", "JoinGroup", "SyncGroup", "Heartbeat", "FindCoordinator", "Metadata", "DeleteRecords", "OffsetForLeaderEpoch"}

func (d *draw) onTheWire(kind Kind) Fault {
	f := Fault{Kind: kind, API: pick(d, wireAPIs...), Request: d.IntN(2) == 0, Nth: 1 + d.IntN(3), Times: 1 + d.IntN(2)}
	if d.IntN(2) == 0 {
		f.Process = d.process()
	}
	return f
}

// refusals are errors that a broker may answer with, by API.
var refusals = []struct {
	api  string
	errs []string
}{
	{"Produce", []string{"NOT_LEADER_FOR_PARTITION", "NOT_ENOUGH_REPLICAS", "REQUEST_TIMED_OUT", "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "KAFKA_STORAGE_ERROR", "INVALID_PRODUCER_EPOCH"}},
	{"EndTxn", []string{"COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "CONCURRENT_TRANSACTIONS", "UNKNOWN_SERVER_ERROR", "INVALID_PRODUCER_EPOCH", "COORDINATOR_LOAD_IN_PROGRESS"}},
	{"TxnOffsetCommit", []string{"UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS", "COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "REQUEST_TIMED_OUT"}},
	{"InitProducerID", []string{"CONCURRENT_TRANSACTIONS", "NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE"}},
	{"OffsetFetch", []string{"UNSTABLE_OFFSET_COMMIT", "COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR"}},
	{"Fetch", []string{"NOT_LEADER_FOR_PARTITION", "FENCED_LEADER_EPOCH", "KAFKA_STORAGE_ERROR", "UNKNOWN_SERVER_ERROR"}},
	{"ListOffsets", []string{"NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE"}},
	{"JoinGroup", []string{"COORDINATOR_NOT_AVAILABLE", "UNKNOWN_MEMBER_ID"}},
	{"SyncGroup", []string{"REBALANCE_IN_PROGRESS", "NOT_COORDINATOR"}},
	{"Heartbeat", []string{"UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS"}},
	{"DeleteRecords", []string{"NOT_LEADER_FOR_PARTITION", "REQUEST_TIMED_OUT"}},
	{"FindCoordinator", []string{"COORDINATOR_NOT_AVAILABLE"}},
}

func (d *draw) refuse() Fault {
	r := refusals[d.IntN(len(refusals))]
	return Fault{Kind: Refuse, API: r.api, Err: pick(d, r.errs...), Times: pick(d, 1, 1, 3, 10)}
}
