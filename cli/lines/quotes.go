package lines

import "github.com/oncemill/oncemill/internal/problem"

// quotes follows the quoted fields of a CSV record, to know where it ends. A quote opens a field at its beginning only, as
// encoding/csv reads it:
//
//	begin  --quote--> inside      begin --else--> plain
//	inside --quote--> closed      closed --quote--> inside (it was a quote of the content)
//	closed --else---> plain       any but inside --comma--> begin
//
// A quote that is forgotten takes lines with it up to the next one, or to the end of the input. That would be records that
// nobody deduplicates, and is refused; a field with line breaks that is closed as it should be is none of that.
type quotes struct {
	state  quoteState
	opened int64 // line where the last quoted field opened
	behind bool  // a field with line breaks has just closed: a comma or a line end has to follow
	// wrong is the line of the first quote behind which that is not so, and its is where its field opened.
	wrong, its int64
}

type quoteState uint8

const (
	begin quoteState = iota
	plain
	inside
	closed
)

// open reports that a line end is now one of the content.
func (q *quotes) open() bool { return q.state == inside }

// scan follows a piece of one line.
func (q *quotes) scan(piece []byte, line int64) {
	for _, c := range piece {
		switch {
		case c == '"' && q.state == begin:
			q.state, q.opened = inside, line
		case c == '"' && q.state == inside:
			q.state, q.behind = closed, line > q.opened
		case c == '"' && q.state == closed:
			q.state = inside
		case q.state == inside:
		case c == ',':
			q.state = begin
		default:
			if q.state == closed && q.behind && q.wrong == 0 && c != '\r' && c != '\n' {
				q.wrong, q.its = line, q.opened
			}
			q.state = plain
		}
	}
}

// refusal is why a record that ends with a line cannot be taken, or nil.
func (q *quotes) refusal(last int64) error {
	const cure = "close the quote, or double it if it belongs to the content"
	switch {
	case q.state == inside:
		return problem.New(problem.DecodeFailed, "quoted field", "it opens on line %d and is never closed; %d lines, up to the end of the input, went with it",
			q.opened, last-q.opened+1).WithCure(cure)
	case q.wrong > 0:
		return problem.New(problem.DecodeFailed, "quoted field", "it opens on line %d, and something follows the next quote, on line %d; %d lines went with it",
			q.its, q.wrong, last-q.its+1).WithCure(cure)
	}
	return nil
}
