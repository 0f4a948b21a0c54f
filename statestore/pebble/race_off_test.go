//go:build !race

package pebble_test

// everyFault is the step from one failing operation to the next: all of them.
const everyFault = 1
