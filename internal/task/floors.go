package task

const (
	// farHead is how many steps to the head of a queue make it worth to remember the place.
	farHead = 16
	// maxFloors bounds the queues that are remembered.
	maxFloors = 1024
)

// floors remembers where queues of parked records begin. What has left a queue is a tombstone in front of its head, and after an
// incident each record of the key would walk over all of them.
//
// Invariant: the open transaction sees no number below its floor in a queue.
type floors struct {
	byQueue map[string]uint64
	raised  bool // since the mark
}

func (f *floors) of(queue []byte) uint64 { return f.byQueue[string(queue)] }

func (f *floors) raise(queue []byte, number uint64) {
	if f.byQueue == nil {
		f.byQueue = map[string]uint64{}
	}
	if len(f.byQueue) >= maxFloors {
		clear(f.byQueue)
	}
	f.byQueue[string(queue)], f.raised = number, true
}

// lower is for a record that joins a queue.
func (f *floors) lower(queue []byte, number uint64) {
	if floor, found := f.byQueue[string(queue)]; found && number < floor {
		f.byQueue[string(queue)] = number
	}
}

func (f *floors) mark() { f.raised = false }

func (f *floors) rollback() {
	if f.raised {
		f.forget()
	}
}

func (f *floors) forget() {
	clear(f.byQueue)
	f.raised = false
}
