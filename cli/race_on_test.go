//go:build race

package cli_test

// raceEnabled is true under the race detector. The long runs of the scripts are then left out: shorter ones take the same code.
const raceEnabled = true
