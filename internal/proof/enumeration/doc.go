// Package enumeration strikes small applications with every fault at every step of the commit path, and with every error that a broker
// may answer. Its tests hold everything; see docs/testing.md.
//
// A story is a script of one or two processes: they start, process, fire a timer, checkpoint, hand tasks over, stop. Run without a
// fault it is a list of moments: before and after each step of internal/step, by phase of the script, process and occurrence. A
// case is the story again with faults at such moments; it fails unless each of its faults strikes, and unless outputs, state, timers,
// markers, positions and handler runs are those of the story without a fault and of a judge who reads the input with plain loops.
//
// The phases make the moments independent of the scheduler: the script enters one only when nothing is under way. Of steps that an
// idle process takes again and again (a poll), and of those whose number follows from how a broker cuts its answers, the
// first of each phase counts.
//
// The disks of the stories are written while everything else waits, and the syncs of compactions are no moments: when the engine
// compacts is up to the scheduler. Its own tests fail and cut those.
package enumeration
