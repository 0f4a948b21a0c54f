//go:build !race

package cli_test

// raceEnabled is true under the race detector.
const raceEnabled = false
