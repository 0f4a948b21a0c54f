//go:build race

package pebble_test

// everyFault is the step from one failing operation to the next: under the race detector, which is ten times slower, a sample fails.
const everyFault = 29
