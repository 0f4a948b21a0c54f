package retail

import (
	"fmt"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// The names of the job's stores. Keys are strings, values JSON of Order, Account and Product.
const (
	StoreOrders   = "orders"
	StoreAccounts = "accounts"
	StoreProducts = "products"
)

// Topics are the names of the topics that the outside meets. All of them begin with the name of the application.
type Topics struct {
	Input       string // order lines: key is Line.Key, value JSON of Line
	Accepted    string // LineAccepted, by invoice
	Gifts       string // Gift, by customer
	Units       string // UnitsChanged, by stock code
	DeadLetters string // poison, unchanged
}

// TopicsOf returns the topics of an application.
func TopicsOf(app string) Topics {
	return Topics{
		Input:       app + "-order-lines",
		Accepted:    app + "-lines-accepted",
		Gifts:       app + "-gifts",
		Units:       app + "-units",
		DeadLetters: app + "-dead-letters",
	}
}

// Owned returns the topics that must exist before the job starts. The engine creates the dead letters itself.
func (t Topics) Owned() []string { return []string{t.Input, t.Accepted, t.Gifts, t.Units} }

// DefaultApp is the application id of a Job that does not set its own.
const DefaultApp = "retail"

// DefaultWindow is how long a Job remembers ids that does not set its own window.
const DefaultWindow = 7 * 24 * time.Hour

// JobOptions configures a Job. The zero value is the job of the demo.
type JobOptions struct {
	// App is the application id. Empty means DefaultApp.
	App string
	// Window is how long a message may come after its first copy. Zero means DefaultWindow.
	Window time.Duration
	// NoDedup leaves the deduplication out, and nothing else: the negative control that must double.
	NoDedup bool
}

// Job is the topology of the demo: lines become orders and accounts in one task, which sees a customer's lines in file
// order; what they mean for the products goes through a repartition topic to the task of the stock code.
func Job(o JobOptions) *topology.Topology {
	if o.App == "" {
		o.App = DefaultApp
	}
	if o.Window == 0 {
		o.Window = DefaultWindow
	}
	topics := TopicsOf(o.App)
	text := serde.String()
	t := topology.New(o.App)

	options := []topology.SourceOption{topology.OnDecodeFailure(processor.DeadLetter())}
	if !o.NoDedup {
		options = append(options, topology.Deduplicate(dedup.Config{
			ID: dedup.Header(HeaderMessageID), Window: o.Window,
		}))
	}
	lines := topology.Source(t, "lines", topics.Input, text, serde.JSON[Line](), options...)

	books := books{
		orders:   statestore.KeyValue(StoreOrders, text, serde.JSON[Order]()),
		accounts: statestore.KeyValue(StoreAccounts, text, serde.JSON[Account]()),
	}
	bookings := topology.Process(t, "book", lines, books.book,
		topology.Uses(books.orders, books.accounts), topology.OnFailure(processor.DeadLetter()))

	accepted := topology.Process(t, "accept", bookings, accept)
	topology.Sink(t, "accepted", accepted, topics.Accepted, text, serde.JSON[LineAccepted]())
	gifts := topology.Process(t, "give", bookings, give)
	topology.Sink(t, "gifts", gifts, topics.Gifts, text, serde.JSON[Gift]())

	sales := topology.Process(t, "sell", bookings, sell)
	byProduct := topology.Repartition(t, "sales", sales, text, serde.JSON[Sale]())
	stock := stock{products: statestore.KeyValue(StoreProducts, text, serde.JSON[Product]())}
	units := topology.Process(t, "count", byProduct, stock.count, topology.Uses(stock.products))
	topology.Sink(t, "units", units, topics.Units, text, serde.JSON[UnitsChanged]())
	return t
}

// books are the stores of the orders and the accounts.
type books struct {
	orders   *statestore.KeyValueStore[string, Order]
	accounts *statestore.KeyValueStore[string, Account]
}

// book books a line on its order and its customer's account, and forwards what it did.
func (b books) book(ctx *processor.Context[string, Booking], r record.Record[string, Line]) error {
	line := r.Value
	if err := line.Validate(); err != nil {
		return err
	}
	if r.Key != line.Key() {
		return fmt.Errorf("line %d has the key %q, not %q: its order would be built in two partitions", line.Number, r.Key, line.Key())
	}
	order, _, err := b.orders.Get(ctx, line.Invoice)
	if err != nil {
		return err
	}
	var account Account
	if line.Customer != "" {
		if account, _, err = b.accounts.Get(ctx, line.Customer); err != nil {
			return err
		}
	}
	booking := Book(line, order, account)
	if err := b.orders.Put(ctx, line.Invoice, booking.Order); err != nil {
		return err
	}
	if line.Customer != "" {
		if err := b.accounts.Put(ctx, line.Customer, booking.Account); err != nil {
			return err
		}
	}
	return ctx.Forward(record.New(r.Key, booking))
}

func accept(ctx *processor.Context[string, LineAccepted], r record.Record[string, Booking]) error {
	return ctx.Forward(record.New(r.Value.Order.Invoice, r.Value.Accepted))
}

func give(ctx *processor.Context[string, Gift], r record.Record[string, Booking]) error {
	if !r.Value.Gives {
		return nil
	}
	return ctx.Forward(record.New(r.Value.Gift.Customer, r.Value.Gift))
}

func sell(ctx *processor.Context[string, Sale], r record.Record[string, Booking]) error {
	return ctx.Forward(record.New(r.Value.Sale.StockCode, r.Value.Sale))
}

// stock is the store of the products.
type stock struct {
	products *statestore.KeyValueStore[string, Product]
}

// count books a sale on its product.
func (s stock) count(ctx *processor.Context[string, UnitsChanged], r record.Record[string, Sale]) error {
	product, _, err := s.products.Get(ctx, r.Value.StockCode)
	if err != nil {
		return err
	}
	product, update := product.Add(r.Value)
	if err := s.products.Put(ctx, r.Value.StockCode, product); err != nil {
		return err
	}
	return ctx.Forward(record.New(r.Value.StockCode, update))
}
