//go:build race

package serde

// raceEnabled is true under the race detector, which makes sync.Pool drop entries at random.
const raceEnabled = true
