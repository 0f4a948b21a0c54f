// Package retail is the business of "oncemill demo": a British online shop's order lines become orders, customer
// accounts, gifts and units per product.
//
// The package has five parts that know nothing of each other beyond the Line:
//
//	csv.go, line.go, money.go   the input: order lines, read strictly from a CSV file
//	model.go                    the business: plain types and pure functions, no messaging type in scope (pattern P1)
//	feed.go, plan.go            an at-least-once sender: every line once, some again and late, some poison, from a seed
//	judge.go, expect.go         what must come out, computed from the file with plain loops, and the comparison
//	job.go                      the business as a topology, the only file that knows the engine
//
// Every line is one message. Its id is its line number, not its content: 537 lines of the embedded file repeat an earlier
// line byte for byte and are separate sales.
package retail

import (
	"bytes"
	_ "embed"
)

// EmbeddedName is the name by which errors and reports call the embedded file.
const EmbeddedName = "online-retail-50k.csv.gz"

//go:embed online-retail-50k.csv.gz
var embedded []byte

// Embedded returns a reader over the embedded file: 50,062 real order lines. Source and licence are in the README beside
// it.
func Embedded() (*Reader, error) { return NewReader(EmbeddedName, bytes.NewReader(embedded)) }
