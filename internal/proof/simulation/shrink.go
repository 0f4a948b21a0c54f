package simulation

import "time"

// Shrink returns the shortest list of faults that it finds to fail still, until a deadline. fails must be true for the whole list; it
// may be wrong now and then, as which goroutine runs first is not in a plan: then the list is longer than it had to be, never one that
// was not seen to fail. The method is ddmin (Zeller and Hildebrandt, 2002): leave out ever smaller parts.
func Shrink(faults []Fault, fails func([]Fault) bool, deadline time.Time) []Fault {
	for parts := 2; len(faults) > 0 && time.Now().Before(deadline); {
		parts = min(parts, len(faults))
		shorter, found := without(faults, parts, fails, deadline)
		switch {
		case found:
			faults, parts = shorter, max(parts-1, 2)
		case parts == len(faults):
			return faults
		default:
			parts *= 2
		}
	}
	return faults
}

// without looks for one of the equal parts of a list without which it fails still.
func without(faults []Fault, parts int, fails func([]Fault) bool, deadline time.Time) ([]Fault, bool) {
	for i := range parts {
		from, to := i*len(faults)/parts, (i+1)*len(faults)/parts
		rest := append(append([]Fault{}, faults[:from]...), faults[to:]...)
		if time.Now().After(deadline) {
			break
		}
		if fails(rest) {
			return rest, true
		}
	}
	return nil, false
}
