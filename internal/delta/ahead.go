package delta

// A large table is in no cache, and whoever takes its entries in another order than that of memory waits for each of them. What
// follows asks for several at once, before the first is used: the processor then has all these loads under way together. The results
// only keep the compiler from leaving the loads out, and so do the directives.

// Together is about how many loads a processor has under way.
const Together = 16

// Ahead asks for the entries that the next refs name. Call it once for every Together of them, before the first At.
//
//go:noinline
func (t *Table) Ahead(refs []Ref) (any byte) {
	for _, r := range refs[:min(Together, len(refs))] {
		any |= t.at(r.ref)[0]
	}
	return any
}

// askForSlots asks for the home slots of keys that are to be written.
//
//go:noinline
func (t *Table) askForSlots(batch []merging) (any uint64) {
	for i := range batch {
		any |= t.slots[t.home(batch[i].hash)]
	}
	return any
}
