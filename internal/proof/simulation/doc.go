// Package simulation runs the job of package proof on a streamtest.Cluster: three brokers, two to four processes and eight partitions
// in a bubble of virtual time, under twenty to sixty faults, all of it drawn from a seed. In the end every fault is healed, everything
// is drained, and package judge says whether what was committed is right.
//
//	seed --> Plan: settings, traffic, faults --> Run --> Result: violations, faults that struck, situations that were met
//
// A plan is plain data. Its faults can be printed, given back and cut, so a failure is repeated with its rate, and shrunk to the shortest
// list of faults that still fails. Which goroutine runs first is not replayed by the seed.
//
// START HERE: run.go. What can happen is listed in fault.go, how likely it is in plan.go, what must have been met in situation.go.
package simulation
