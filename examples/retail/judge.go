package retail

import "fmt"

// The names of the checks, in the order of a Verdict.
const (
	CheckLines       = "line events"
	CheckGifts       = "gifts"
	CheckUnits       = "unit updates"
	CheckDeadLetters = "dead letters"
	CheckOrders      = "orders"
	CheckAccounts    = "accounts"
	CheckProducts    = "products"
)

// Judge compares what a run left behind with what the file calls for. Show it every record of the output topics, read
// committed, and every entry of the stores, of all partitions; then ask for the Verdict. It knows nothing of engine and
// business code: its expectation is computed with plain loops over the lines (expect.go).
//
// Records of one partition are shown in their order; partitions and stores may come in any order.
type Judge struct {
	accepted *tally[int, keyed[LineAccepted]]
	gifts    *tally[string, keyed[Gift]]
	sales    *tally[int, keyed[Sale]]
	letters  *tally[letter, letter]
	orders   *tally[string, Order]
	accounts *tally[string, Account]
	products *tally[string, Product]
	// units holds the last number of units that a product's updates told, and updates what each line's first update told.
	units   map[string]int64
	updates map[int]int64
}

// NewJudge makes a judge of runs over the lines and the poison of a feed.
func NewJudge(lines []Line, poison []Poison) *Judge {
	e := expect(lines)
	j := &Judge{
		accepted: newTally[int, keyed[LineAccepted]](CheckLines, "line", len(e.accepted)),
		gifts:    newTally[string, keyed[Gift]](CheckGifts, "gift of customer", len(e.gifts)),
		sales:    newTally[int, keyed[Sale]](CheckUnits, "line", len(e.sales)),
		letters:  newTally[letter, letter](CheckDeadLetters, "dead letter", len(poison)),
		orders:   newTally[string, Order](CheckOrders, "order", len(e.orders)),
		accounts: newTally[string, Account](CheckAccounts, "customer", len(e.accounts)),
		products: newTally[string, Product](CheckProducts, "product", len(e.products)),
		units:    make(map[string]int64, len(e.products)),
		updates:  make(map[int]int64, len(e.sales)),
	}
	for _, want := range e.accepted {
		j.accepted.expect(want.Value.Line, want)
	}
	for _, want := range e.gifts {
		j.gifts.expect(want.Key, want)
	}
	for _, want := range e.sales {
		j.sales.expect(want.Value.Line, want)
	}
	for _, p := range poison {
		want := letter{Key: p.Key, Value: p.Value, ID: p.ID}
		j.letters.expect(want, want)
	}
	for _, want := range e.orders {
		j.orders.expect(want.Key, want.Value)
	}
	for _, want := range e.accounts {
		j.accounts.expect(want.Key, want.Value)
	}
	for _, want := range e.products {
		j.products.expect(want.Key, want.Value)
	}
	return j
}

// Line shows the judge a record of the topic of line events: its key and its value.
func (j *Judge) Line(key string, value LineAccepted) {
	j.accepted.saw(value.Line, keyed[LineAccepted]{key, value})
}

// Gift shows the judge a record of the topic of gifts.
func (j *Judge) Gift(key string, value Gift) {
	j.gifts.saw(value.Customer, keyed[Gift]{key, value})
}

// Units shows the judge a record of the topic of unit updates. The lines of a product come from several partitions, so
// their order is not that of the file; but the updates of a product must form a chain: each tells the units of the one
// before it plus its own quantity.
func (j *Judge) Units(key string, value UnitsChanged) {
	e := j.sales.saw(value.Line, keyed[Sale]{key, Sale{value.Line, value.StockCode, value.Quantity}})
	if e != nil && e.copies > 1 && value.Units == j.updates[value.Line] {
		return // the same update emitted again: the chain went on behind it
	}
	before := j.units[value.StockCode]
	j.units[value.StockCode] = value.Units
	if e == nil || e.copies > 1 {
		return
	}
	j.updates[value.Line] = value.Units
	if value.Units != before+value.Quantity {
		e.fault = fmt.Sprintf("units %d after %d and a quantity of %d", value.Units, before, value.Quantity)
	}
}

// DeadLetter shows the judge a record of the dead-letter topic: its key, its value, and its HeaderMessageID, empty where
// there is none.
func (j *Judge) DeadLetter(key, value, id string) {
	got := letter{Key: key, Value: value, ID: id}
	j.letters.saw(got, got)
}

// Order shows the judge an entry of the store of orders.
func (j *Judge) Order(key string, value Order) { j.orders.saw(key, value) }

// Account shows the judge an entry of the store of accounts.
func (j *Judge) Account(key string, value Account) { j.accounts.saw(key, value) }

// Product shows the judge an entry of the store of products.
func (j *Judge) Product(key string, value Product) { j.products.saw(key, value) }

// Unreadable shows the judge a record or an entry that cannot be decoded; check is one of the names of the checks. It
// counts as a ghost: nothing in the file calls for it. An unknown check is refused.
func (j *Judge) Unreadable(check, place string, cause error) error {
	ghosts := map[string]func(subject, got string){
		CheckLines: j.accepted.ghost, CheckGifts: j.gifts.ghost, CheckUnits: j.sales.ghost, CheckDeadLetters: j.letters.ghost,
		CheckOrders: j.orders.ghost, CheckAccounts: j.accounts.ghost, CheckProducts: j.products.ghost,
	}
	ghost, known := ghosts[check]
	if !known {
		return fmt.Errorf("retail: no check is named %q", check)
	}
	ghost(place, "cannot be decoded: "+cause.Error())
	return nil
}

// Verdict compares what was shown so far with the expectation.
func (j *Judge) Verdict() Verdict {
	return Verdict{Checks: []Check{
		j.accepted.check(), j.gifts.check(), j.sales.check(), j.letters.check(),
		j.orders.check(), j.accounts.check(), j.products.check(),
	}}
}
