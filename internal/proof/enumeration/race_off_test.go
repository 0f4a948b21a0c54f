//go:build !race

package enumeration_test

// defaultShard is the part that runs where the flag says nothing: all of it.
const defaultShard = "0/1"
