//go:build race

package enumeration_test

// defaultShard is the part that runs under the race detector where the flag says nothing: a case takes ten times as long there.
const defaultShard = "0/20"
