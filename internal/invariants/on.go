//go:build invariants || race

package invariants

// Enabled reports whether Check checks.
const Enabled = true
