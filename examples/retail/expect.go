package retail

import "fmt"

// keyed is a value with the record key, or the store key, under which it must be found.
type keyed[V any] struct {
	Key   string `json:"key"`
	Value V      `json:"value"`
}

// letter identifies a dead letter. Its key, value and id are those of the poison, unchanged.
type letter struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	ID    string `json:"id,omitempty"`
}

// String shortens the value: it is there to find the letter, not to read it.
func (l letter) String() string {
	const shown = 40
	value := l.Value
	if len(value) > shown {
		value = value[:shown] + "..."
	}
	if l.ID == "" {
		return fmt.Sprintf("without id, key %s, value %q", l.Key, value)
	}
	return fmt.Sprintf("%s, key %s, value %q", l.ID, l.Key, value)
}

// expectation is what must come out, in the order in which the file makes it.
type expectation struct {
	accepted []keyed[LineAccepted]
	gifts    []keyed[Gift]
	sales    []keyed[Sale]
	orders   []keyed[Order]
	accounts []keyed[Account]
	products []keyed[Product]
}

// expect computes what must come out of the lines: a second, obvious implementation, one plain loop that shares no code
// with model.go. From there it takes the shapes of the results only; a test holds that line.
func expect(lines []Line) expectation {
	var e expectation
	orders := make(map[string]int)   // invoice to its place in e.orders
	accounts := make(map[string]int) // customer to its place in e.accounts
	products := make(map[string]int) // stock code to its place in e.products
	for _, line := range lines {
		amount := Money(line.Quantity * int64(line.UnitPrice))
		cancellation := line.Invoice[0] == 'C'

		at, known := orders[line.Invoice]
		if !known {
			at = len(e.orders)
			orders[line.Invoice] = at
			e.orders = append(e.orders, keyed[Order]{line.Invoice, Order{
				Invoice: line.Invoice, Customer: line.Customer, Cancelled: cancellation,
			}})
		}
		order := &e.orders[at].Value
		order.Lines++
		order.Quantity += line.Quantity
		order.Revenue += amount
		e.accepted = append(e.accepted, keyed[LineAccepted]{line.Invoice, LineAccepted{
			Line: line.Number, Invoice: line.Invoice,
			Lines: order.Lines, Quantity: order.Quantity, Revenue: order.Revenue,
		}})

		if line.Customer != "" {
			place, has := accounts[line.Customer]
			if !has {
				place = len(e.accounts)
				accounts[line.Customer] = place
				e.accounts = append(e.accounts, keyed[Account]{line.Customer, Account{Customer: line.Customer}})
			}
			account := &e.accounts[place].Value
			account.Revenue += amount
			if !known && cancellation {
				account.Cancellations++
			}
			if !known && !cancellation {
				account.Orders++
				if account.GiftFor == "" {
					account.GiftFor = line.Invoice
					e.gifts = append(e.gifts, keyed[Gift]{line.Customer, Gift{line.Customer, line.Invoice}})
				}
			}
		}

		at, known = products[line.StockCode]
		if !known {
			at = len(e.products)
			products[line.StockCode] = at
			e.products = append(e.products, keyed[Product]{line.StockCode, Product{StockCode: line.StockCode}})
		}
		e.products[at].Value.Lines++
		e.products[at].Value.Units += line.Quantity
		e.sales = append(e.sales, keyed[Sale]{line.StockCode, Sale{line.Number, line.StockCode, line.Quantity}})
	}
	return e
}
