package retail

// LineAccepted says that a line was booked, and what its order amounts to with it.
type LineAccepted struct {
	Line     int    `json:"line"`
	Invoice  string `json:"invoice"`
	Lines    int64  `json:"lines"`
	Quantity int64  `json:"quantity"`
	Revenue  Money  `json:"revenue"`
}

// Gift asks for a gift to be sent to a customer, because of an order.
type Gift struct {
	Customer string `json:"customer"`
	Invoice  string `json:"invoice"`
}

// Sale is what a line means for the product's stock; on a cancellation the quantity is negative.
type Sale struct {
	Line      int    `json:"line"`
	StockCode string `json:"stockCode"`
	Quantity  int64  `json:"quantity"`
}

// UnitsChanged says that a sale was booked, and how many units of the product are sold with it.
type UnitsChanged struct {
	Line      int    `json:"line"`
	StockCode string `json:"stockCode"`
	Quantity  int64  `json:"quantity"`
	Units     int64  `json:"units"`
}

// Order is an invoice. The zero Order is one that has no line yet.
type Order struct {
	Invoice   string `json:"invoice"`
	Customer  string `json:"customer,omitempty"`
	Cancelled bool   `json:"cancelled,omitempty"`
	Lines     int64  `json:"lines"`
	Quantity  int64  `json:"quantity"`
	Revenue   Money  `json:"revenue"`
}

// Account is what the shop knows about a customer.
type Account struct {
	Customer string `json:"customer"`
	// Orders counts the orders that are not cancellations.
	Orders        int64 `json:"orders"`
	Cancellations int64 `json:"cancellations"`
	Revenue       Money `json:"revenue"`
	// GiftFor is the invoice that earned the customer's gift, or empty.
	GiftFor string `json:"giftFor,omitempty"`
}

// Product is the number of units sold of a stock code, over all lines that name it.
type Product struct {
	StockCode string `json:"stockCode"`
	Lines     int64  `json:"lines"`
	Units     int64  `json:"units"`
}

// Add books the line on its order.
func (o Order) Add(l Line) Order {
	o.Invoice, o.Customer, o.Cancelled = l.Invoice, l.Customer, l.Cancelled()
	o.Lines++
	o.Quantity += l.Quantity
	o.Revenue += l.Amount()
	return o
}

// Add books the line on its customer's account; opens says that it is the first line of its order. The gift is decided
// from what the account says, state that later orders change: a re-run against later state would decide otherwise
// (pattern P10).
func (a Account) Add(l Line, opens bool) (account Account, gift Gift, gives bool) {
	a.Customer = l.Customer
	a.Revenue += l.Amount()
	switch {
	case !opens:
	case l.Cancelled():
		a.Cancellations++
	default:
		a.Orders++
		if a.Orders == 1 {
			a.GiftFor = l.Invoice
			return a, Gift{Customer: l.Customer, Invoice: l.Invoice}, true
		}
	}
	return a, Gift{}, false
}

// Add books the sale on its product.
func (p Product) Add(s Sale) (Product, UnitsChanged) {
	p.StockCode = s.StockCode
	p.Lines++
	p.Units += s.Quantity
	return p, UnitsChanged{Line: s.Line, StockCode: s.StockCode, Quantity: s.Quantity, Units: p.Units}
}

// Booking is everything that one line does.
type Booking struct {
	Order    Order
	Accepted LineAccepted
	Sale     Sale
	// Account is the customer's account after the line; meaningless on a line without a customer.
	Account Account
	// Gift is to be sent if Gives.
	Gift  Gift
	Gives bool
}

// Book decides what the line does to its order and, if it has a customer, to the customer's account. The line must be
// valid; a zero order or account means that there is none yet.
func Book(l Line, order Order, account Account) Booking {
	opens := order.Lines == 0
	order = order.Add(l)
	b := Booking{
		Order: order,
		Accepted: LineAccepted{
			Line: l.Number, Invoice: l.Invoice,
			Lines: order.Lines, Quantity: order.Quantity, Revenue: order.Revenue,
		},
		Sale: Sale{Line: l.Number, StockCode: l.StockCode, Quantity: l.Quantity},
	}
	if l.Customer != "" {
		b.Account, b.Gift, b.Gives = account.Add(l, opens)
	}
	return b
}
