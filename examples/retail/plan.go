package retail

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// LateBy is the number of lines after which a line that is sent again counts as late: far more than one transaction or
// one batch holds.
const LateBy = 1000

// nearBy bounds the delay of the lines that are sent again soon, so that some copies fall into one batch (S7).
const nearBy = 50

// extra is a message that is sent in addition to the lines, after the first `after` of them.
type extra struct {
	after int
	kind  Kind
	index int // into the lines for Again, else into the poisons
}

// planner draws the extras of a feed. All its choices come from one random source, in a fixed order.
type planner struct {
	lines  []Line
	random *rand.Rand
	// cancelledAfter and nextOrderAfter hold, for each line, how many lines have been sent when the customer's first
	// later cancellation of that product has been, and when the customer's next invoice has begun; 0 if never.
	cancelledAfter, nextOrderAfter []int
	extras                         []extra
	poison                         []Poison
	counts                         Counts
}

func newPlanner(lines []Line, seed uint64) *planner {
	p := &planner{
		lines: lines,
		// PCG's output is fixed by its definition, so a seed means the same feed in every version of Go.
		random:         rand.New(rand.NewPCG(seed, 0x6f6e63656d696c6c)),
		cancelledAfter: make([]int, len(lines)),
		nextOrderAfter: make([]int, len(lines)),
		counts:         Counts{Lines: len(lines)},
	}
	p.findLandmarks()
	return p
}

// findLandmarks walks the file backwards, so that what is later is known.
func (p *planner) findLandmarks() {
	type product struct{ customer, stockCode string }
	type invoice struct {
		number string
		begins int // lines sent when its first known line has been
		next   int // the same for the invoice after it
	}
	cancelled := make(map[product]int)
	invoices := make(map[string]invoice)
	for i := len(p.lines) - 1; i >= 0; i-- {
		line := p.lines[i]
		if line.Customer == "" {
			continue
		}
		this := product{line.Customer, line.StockCode}
		if line.Cancelled() {
			cancelled[this] = i + 1
		} else {
			p.cancelledAfter[i] = cancelled[this]
		}
		current := invoices[line.Customer]
		if current.number != line.Invoice {
			current = invoice{number: line.Invoice, next: current.begins}
		}
		current.begins = i + 1
		invoices[line.Customer] = current
		p.nextOrderAfter[i] = current.next
	}
}

// planAgain draws n distinct lines to be sent again. Lines that a customer cancels later are rare, 1 % of the embedded
// file, and make the hardest duplicates, so they are drawn in proportion and at least one of them, and come after the
// cancellation.
func (p *planner) planAgain(n int) {
	var cancelled, others []int
	for i := range p.lines {
		if p.cancelledAfter[i] > 0 {
			cancelled = append(cancelled, i)
		} else {
			others = append(others, i)
		}
	}
	share := int(math.Round(float64(n) * float64(len(cancelled)) / float64(len(p.lines))))
	share = min(max(share, 1), len(cancelled), n)
	// With nearly all lines sent again the others may be too few; the rest is cancelled lines then.
	share = max(share, n-len(others))
	for _, i := range p.draw(cancelled, share) {
		p.sendAgain(i, p.between(p.cancelledAfter[i], len(p.lines)))
	}
	for k, i := range p.draw(others, n-share) {
		latest := len(p.lines)
		if k%2 == 0 {
			latest = min(latest, i+1+nearBy)
		}
		p.sendAgain(i, p.between(i+1, latest))
	}
}

func (p *planner) sendAgain(i, after int) {
	p.extras = append(p.extras, extra{after: after, kind: Again, index: i})
	p.counts.Again++
	if after-i-1 >= LateBy {
		p.counts.AgainLate++
	}
	if at := p.cancelledAfter[i]; at > 0 && after >= at {
		p.counts.AgainAfterCancel++
	}
	if at := p.nextOrderAfter[i]; at > 0 && after >= at {
		p.counts.AgainAfterOrder++
	}
}

// planPoison draws n distinct lines and makes a poison of each, by turns broken JSON and without id. The first of each
// sort and about half of the others are sent again.
func (p *planner) planPoison(n int) error {
	all := make([]int, len(p.lines))
	for i := range all {
		all[i] = i
	}
	for k, i := range p.draw(all, n) {
		poison, err := p.makePoison(i, k)
		if err != nil {
			return err
		}
		after := p.between(i+1, len(p.lines))
		p.poison = append(p.poison, poison)
		p.extras = append(p.extras, extra{after: after, kind: poison.Kind, index: k})
		if again := p.random.IntN(2) == 0; again || k < 2 {
			p.extras = append(p.extras, extra{after: p.between(after, len(p.lines)), kind: PoisonAgain, index: k})
			p.counts.PoisonAgain++
		}
	}
	return nil
}

func (p *planner) makePoison(i, k int) (Poison, error) {
	line := p.lines[i]
	value, err := json.Marshal(line)
	if err != nil {
		return Poison{}, fmt.Errorf("encode line %d: %w", line.Number, err)
	}
	poison := Poison{Kind: NoID, Line: line.Number, Key: line.Key(), Value: string(value)}
	if k%2 == 0 {
		p.counts.BrokenJSON++
		poison.Kind = BrokenJSON
		poison.ID = fmt.Sprintf("poison-%d", k+1)
		// The line number comes first in the value, so the poisons differ although they break off.
		poison.Value = string(value[:p.between(len(value)/2, len(value)-1)])
		return poison, nil
	}
	p.counts.NoID++
	return poison, nil
}

// feed sorts the extras into the order in which they are sent. The sort is stable: a poison is not sent again before its
// first time.
func (p *planner) feed() *Feed {
	slices.SortStableFunc(p.extras, func(a, b extra) int { return cmp.Compare(a.after, b.after) })
	return &Feed{lines: p.lines, extras: p.extras, poison: p.poison, counts: p.counts}
}

// draw returns n distinct elements of from in random order, and disturbs from.
func (p *planner) draw(from []int, n int) []int {
	for k := range n {
		other := k + p.random.IntN(len(from)-k)
		from[k], from[other] = from[other], from[k]
	}
	return from[:n]
}

// between returns a random number in [low, high].
func (p *planner) between(low, high int) int { return low + p.random.IntN(high-low+1) }
