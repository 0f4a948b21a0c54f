package retail

import (
	"encoding/json"
	"strings"
	"testing"
)

// shop is the business on plain maps: what a worker without faults and without duplicates does.
type shop struct {
	orders   map[string]Order
	accounts map[string]Account
	products map[string]Product
	accepted []LineAccepted
	gifts    []Gift
	updates  []UnitsChanged
}

func newShop() *shop {
	return &shop{orders: map[string]Order{}, accounts: map[string]Account{}, products: map[string]Product{}}
}

func (s *shop) book(line Line) {
	b := Book(line, s.orders[line.Invoice], s.accounts[line.Customer])
	s.orders[line.Invoice] = b.Order
	s.accepted = append(s.accepted, b.Accepted)
	if line.Customer != "" {
		s.accounts[line.Customer] = b.Account
	}
	if b.Gives {
		s.gifts = append(s.gifts, b.Gift)
	}
	product, update := s.products[line.StockCode].Add(b.Sale)
	s.products[line.StockCode] = product
	s.updates = append(s.updates, update)
}

// order makes the lines of orders of one customer: each word is an invoice.
func order(words string) []Line {
	var lines []Line
	for i, invoice := range strings.Fields(words) {
		quantity := int64(2)
		if strings.HasPrefix(invoice, "C") {
			quantity = -2
		}
		lines = append(lines, Line{
			Number: i + 1, Invoice: invoice, StockCode: "mug", Quantity: quantity, UnitPrice: 3 * Pound,
			Customer: "7", Country: "X",
		})
	}
	return lines
}

func TestOneGiftForTheFirstOrderThatIsNotACancellation(t *testing.T) {
	for _, c := range []struct{ name, lines, gift string }{
		{"S14 one order", "ABC", "ABC"},
		{"S14 several orders", "ABC DEF GHI", "ABC"},
		{"an order of several lines", "ABC ABC ABC DEF", "ABC"},
		{"S17 the order is cancelled later", "ABC CABC DEF", "ABC"},
		{"begins with a cancellation", "CX ABC DEF", "ABC"},
		{"only cancellations", "CX CY CX", ""},
		{"lines of an older order come late", "ABC DEF ABC", "ABC"},
	} {
		s := newShop()
		for _, line := range order(c.lines) {
			s.book(line)
		}
		var want []Gift
		if c.gift != "" {
			want = []Gift{{Customer: "7", Invoice: c.gift}}
		}
		if len(s.gifts) != len(want) || len(want) == 1 && s.gifts[0] != want[0] {
			t.Errorf("%s: gifts %v, want %v", c.name, s.gifts, want)
		}
		if got := s.accounts["7"].GiftFor; got != c.gift {
			t.Errorf("%s: the account says %q", c.name, got)
		}
	}
}

func TestALineWithoutCustomerHasNoAccountAndNoGift(t *testing.T) {
	line := order("ABC")[0]
	line.Customer = ""
	b := Book(line, Order{}, Account{})
	if b.Gives || b.Account != (Account{}) {
		t.Errorf("%+v", b)
	}
	if b.Order != (Order{Invoice: "ABC", Lines: 1, Quantity: 2, Revenue: 6 * Pound}) {
		t.Errorf("%+v", b.Order)
	}
}

func TestOrdersAndAccountsAddUp(t *testing.T) {
	s := newShop()
	for _, line := range order("ABC ABC CX DEF ABC") {
		s.book(line)
	}
	if got, want := s.accounts["7"], (Account{
		Customer: "7", Orders: 2, Cancellations: 1, Revenue: 18 * Pound, GiftFor: "ABC",
	}); got != want {
		t.Errorf("account %+v, want %+v", got, want)
	}
	if got, want := s.orders["ABC"], (Order{
		Invoice: "ABC", Customer: "7", Lines: 3, Quantity: 6, Revenue: 18 * Pound,
	}); got != want {
		t.Errorf("order %+v, want %+v", got, want)
	}
	if got, want := s.orders["CX"], (Order{
		Invoice: "CX", Customer: "7", Cancelled: true, Lines: 1, Quantity: -2, Revenue: -6 * Pound,
	}); got != want {
		t.Errorf("cancellation %+v, want %+v", got, want)
	}
	if got, want := s.products["mug"], (Product{StockCode: "mug", Lines: 5, Units: 6}); got != want {
		t.Errorf("product %+v, want %+v", got, want)
	}
	if got, want := s.updates[2], (UnitsChanged{Line: 3, StockCode: "mug", Quantity: -2, Units: 2}); got != want {
		t.Errorf("update %+v, want %+v", got, want)
	}
}

func TestTheWireFormatIsStable(t *testing.T) {
	line := Line{
		Number: 17, Invoice: "C536379", StockCode: "D", Description: "Discount", Quantity: -1, UnitPrice: 2_750_000,
		Customer: "14527", Country: "United Kingdom",
	}
	b := Book(line, Order{}, Account{})
	_, update := Product{}.Add(b.Sale)
	for _, c := range []struct {
		value any
		want  string
	}{
		{line, `{"line":17,"invoice":"C536379","stockCode":"D","description":"Discount","quantity":-1,"unitPrice":"27.50","customer":"14527","country":"United Kingdom"}`},
		{b.Accepted, `{"line":17,"invoice":"C536379","lines":1,"quantity":-1,"revenue":"-27.50"}`},
		{b.Sale, `{"line":17,"stockCode":"D","quantity":-1}`},
		{update, `{"line":17,"stockCode":"D","quantity":-1,"units":-1}`},
		{b.Order, `{"invoice":"C536379","customer":"14527","cancelled":true,"lines":1,"quantity":-1,"revenue":"-27.50"}`},
		{b.Account, `{"customer":"14527","orders":0,"cancellations":1,"revenue":"-27.50"}`},
		{Gift{"14527", "536401"}, `{"customer":"14527","invoice":"536401"}`},
		{Product{"D", 1, -1}, `{"stockCode":"D","lines":1,"units":-1}`},
	} {
		got, err := json.Marshal(c.value)
		if err != nil || string(got) != c.want {
			t.Errorf("%T: %s, %v, want %s", c.value, got, err, c.want)
		}
	}
}

func TestAJSONValueThatLacksFieldsIsNotALine(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                         "line number",
		`{"line":1,"stockCode":"a"}`: "invoice number",
		`{"line":1,"invoice":"1"}`:   "stock code",
		`{"line":-4,"invoice":"1","stockCode":"a"}`: "line number is -4",
		`{"line":1,"invoice":"1","stockCode":"a",` +
			`"quantity":9000000000,"unitPrice":"2000000000"}`: "unit price",
	} {
		var line Line
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if err := line.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
