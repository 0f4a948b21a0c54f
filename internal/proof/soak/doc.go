// Package soak runs the job of package proof on real brokers, in worker processes that meet every fault that a cluster knows, and shows
// the end to package judge. It is the program of the suite's soaks (kafkatest) and of "oncemill soak".
//
// Start reading at Run, which is the order of events:
//
//	topics; worker processes; every task runs
//	traffic at a bounded rate (feeder) | faults of the plan at their times (striker) | dead letters are replayed (replayer)
//	no fault is left: drain, until all positions are at their ends and no retry and no timer of the wall clock waits
//	the processes stop; topics, changelogs, positions and disks are shown to the judge (verdict.go)
//
// A plan (Draw) is plain data from a seed. When a fault hits is decided by the machine, so a seed repeats the traffic and the kinds,
// places and times of the faults, and not their effect.
//
// The worker processes (Work) are re-executions of a program of the caller. They get their order on standard input, report on standard
// output, and reach the brokers through package network. What they report, and what is done to them, is the Timeline, which WritePage
// draws.
package soak
