package retail

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxLines is the largest number of lines that a file may have: feed and judge keep all of them in memory.
const MaxLines = 2_000_000

// Bounds of a line, far beyond any real sale. They keep every number inside an int64: maxQuantity * maxPrice is 10^17, and
// a sum over MaxLines lines of maxAmount is 8 * 10^18, below 2^63.
const (
	maxQuantity = 1_000_000
	maxPrice    = 1_000_000 * Pound
	maxAmount   = 40_000_000 * Pound
	maxText     = 4096
)

// Line is one line of an order, as the shop's till wrote it. As JSON it is the value of an input message.
type Line struct {
	// Number is the place of the line in the file, counted from 1 without the header. It identifies the line.
	Number      int    `json:"line"`
	Invoice     string `json:"invoice"`
	StockCode   string `json:"stockCode"`
	Description string `json:"description"`
	Quantity    int64  `json:"quantity"`
	UnitPrice   Money  `json:"unitPrice"`
	// Customer is empty where the till did not know the customer.
	Customer string `json:"customer,omitempty"`
	Country  string `json:"country"`
}

// Cancelled reports that the line belongs to a cancellation, an invoice of its own whose number begins with C.
func (l Line) Cancelled() bool { return strings.HasPrefix(l.Invoice, "C") }

// Amount is what the line costs: negative on a cancellation.
func (l Line) Amount() Money { return Money(l.Quantity) * l.UnitPrice }

// ID is the identity of the line's message: its number in decimal.
func (l Line) ID() string { return strconv.Itoa(l.Number) }

// Key is the key of the line's message: the customer, so that one partition sees a customer's lines in file order, or the
// invoice where there is no customer.
func (l Line) Key() string {
	if l.Customer == "" {
		return l.Invoice
	}
	return l.Customer
}

// Validate returns every reason why the line cannot be booked, joined, or nil. JSON that lacks fields decodes without an
// error, so the decoder alone is no guard.
func (l Line) Validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(l.Number < 1, "the line number is %d, not 1 or more", l.Number)
	refuse(l.Invoice == "", "the invoice number is empty")
	refuse(l.StockCode == "", "the stock code is empty")
	refuse(len(l.Invoice)+len(l.StockCode)+len(l.Description)+len(l.Customer)+len(l.Country) > maxText,
		"the text is longer than %d bytes", maxText)
	quantityFits, priceFits := within(l.Quantity, maxQuantity), within(int64(l.UnitPrice), int64(maxPrice))
	refuse(!quantityFits, "the quantity %d is beyond %d", l.Quantity, maxQuantity)
	refuse(!priceFits, "the unit price %s is beyond %s", l.UnitPrice, maxPrice)
	// The product of factors that do not fit could overflow and look small.
	refuse(quantityFits && priceFits && !within(int64(l.Amount()), int64(maxAmount)),
		"the amount %d x %s is beyond %s", l.Quantity, l.UnitPrice, maxAmount)
	return errors.Join(errs...)
}

func within(n, bound int64) bool { return -bound <= n && n <= bound }
