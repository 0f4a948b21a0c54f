package retail

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// planted is one anomaly that a test puts into the faultless output, and what the judge must say of it.
type planted struct {
	check   string
	anomaly Anomaly
	name    string
	plant   func(t *testing.T, o *output)
	subject string // how the first finding's Subject begins
	got     string // what its Got contains
}

// The anomalies of the topics.
var plantedInTopics = []planted{
	{CheckLines, Lost, "event missing", func(_ *testing.T, o *output) {
		o.lines = without(o.lines, 1)
	}, "line 2", ""},
	{CheckLines, Doubled, "event twice", func(_ *testing.T, o *output) {
		o.lines = append(o.lines, o.lines[1])
	}, "line 2", "2 copies"},
	{CheckLines, Ghost, "event of no line", func(_ *testing.T, o *output) {
		o.lines = append(o.lines, keyed[LineAccepted]{"ABC", LineAccepted{Line: 8}})
	}, "line 8", `"line":8`},
	{CheckLines, Ghost, "event of line zero", func(_ *testing.T, o *output) {
		o.lines = append(o.lines, keyed[LineAccepted]{})
	}, "line 0", `"line":0`},
	{CheckLines, Wrong, "running revenue", func(_ *testing.T, o *output) {
		o.lines[1].Value.Revenue++
	}, "line 2", `"revenue":"12.00001"`},
	{CheckLines, Wrong, "running lines", func(_ *testing.T, o *output) {
		o.lines[1].Value.Lines = 1
	}, "line 2", `"lines":1`},
	{CheckLines, Wrong, "record key", func(_ *testing.T, o *output) {
		o.lines[1].Key = "7"
	}, "line 2", `"key":"7"`},
	{CheckGifts, Lost, "gift missing", func(_ *testing.T, o *output) {
		o.gifts = nil
	}, "gift of customer 7", ""},
	{CheckGifts, Doubled, "gift twice", func(_ *testing.T, o *output) {
		o.gifts = append(o.gifts, o.gifts[0])
	}, "gift of customer 7", "2 copies"},
	{CheckGifts, Doubled, "gift for the second order too", func(_ *testing.T, o *output) {
		o.gifts = append(o.gifts, keyed[Gift]{"7", Gift{"7", "DEF"}})
	}, "gift of customer 7", "2 copies"},
	{CheckGifts, Ghost, "gift for a cancellation", func(_ *testing.T, o *output) {
		o.gifts = append(o.gifts, keyed[Gift]{"8", Gift{"8", "CXY"}})
	}, "gift of customer 8", "CXY"},
	{CheckGifts, Ghost, "gift without customer", func(_ *testing.T, o *output) {
		o.gifts = append(o.gifts, keyed[Gift]{"", Gift{"", "GHI"}})
	}, "gift of customer ", "GHI"},
	{CheckGifts, Wrong, "gift for another order", func(_ *testing.T, o *output) {
		o.gifts[0].Value.Invoice = "DEF"
	}, "gift of customer 7", "DEF"},
	{CheckUnits, Lost, "last update missing", func(_ *testing.T, o *output) {
		o.units = o.units[:6]
	}, "line 7", ""},
	{CheckUnits, Doubled, "update emitted again", func(_ *testing.T, o *output) {
		o.units = append(o.units[:2:2], append([]keyed[UnitsChanged]{o.units[1]}, o.units[2:]...)...)
	}, "line 2", "2 copies"},
	{CheckUnits, Doubled, "update emitted again behind later ones", func(_ *testing.T, o *output) {
		o.units = slices.Insert(o.units, 2, o.units[0])
	}, "line 1", "2 copies"},
	{CheckUnits, Ghost, "update of no line", func(_ *testing.T, o *output) {
		o.units = append(o.units, keyed[UnitsChanged]{"jug", UnitsChanged{99, "jug", 1, 1}})
	}, "line 99", "jug"},
	{CheckUnits, Wrong, "quantity", func(_ *testing.T, o *output) {
		o.units[6].Value.Quantity, o.units[6].Value.Units = -2, -1
	}, "line 7", `"quantity":-2`},
	{CheckUnits, Wrong, "units that skip", func(_ *testing.T, o *output) {
		o.units[6].Value.Units = 7
	}, "line 7", "units 7 after 1 and a quantity of -1"},
	{CheckDeadLetters, Lost, "poison not put aside", func(_ *testing.T, o *output) {
		o.letters = o.letters[1:]
	}, "dead letter ", ""},
	{CheckDeadLetters, Doubled, "poison put aside twice", func(_ *testing.T, o *output) {
		o.letters = append(o.letters, o.letters[1])
	}, "dead letter ", "2 copies"},
	{CheckDeadLetters, Ghost, "a good line put aside", func(_ *testing.T, o *output) {
		o.letters = append(o.letters, letter{"7", `{"line":1}`, "1"})
	}, "dead letter 1, key 7", `{\"line\":1}`},
}

// The anomalies of the stores.
var plantedInStores = []planted{
	{CheckOrders, Lost, "order missing", func(t *testing.T, o *output) {
		o.orders = without(o.orders, at(t, o.orders, isOrder("DEF")))
	}, "order DEF", ""},
	{CheckOrders, Doubled, "order in two partitions", func(t *testing.T, o *output) {
		o.orders = append(o.orders, o.orders[at(t, o.orders, isOrder("DEF"))])
	}, "order DEF", "2 copies"},
	{CheckOrders, Ghost, "order of no line", func(_ *testing.T, o *output) {
		o.orders = append(o.orders, keyed[Order]{"JKL", Order{Invoice: "JKL", Lines: 1}})
	}, "order JKL", "JKL"},
	{CheckOrders, Wrong, "order booked twice", func(t *testing.T, o *output) {
		i := at(t, o.orders, isOrder("DEF"))
		o.orders[i].Value = o.orders[i].Value.Add(order("ABC CABC DEF")[2])
	}, "order DEF", `"lines":2`},
	{CheckOrders, Wrong, "cancellation not marked", func(t *testing.T, o *output) {
		o.orders[at(t, o.orders, isOrder("CXY"))].Value.Cancelled = false
	}, "order CXY", `"CXY"`},
	{CheckAccounts, Lost, "account missing", func(_ *testing.T, o *output) {
		o.accounts = nil
	}, "customer 7", ""},
	{CheckAccounts, Doubled, "account in two partitions", func(t *testing.T, o *output) {
		o.accounts = append(o.accounts, o.accounts[0])
	}, "customer ", "2 copies"},
	{CheckAccounts, Ghost, "account without customer", func(_ *testing.T, o *output) {
		o.accounts = append(o.accounts, keyed[Account]{"", Account{}})
	}, "customer ", "orders"},
	{CheckAccounts, Wrong, "gift not noted", func(t *testing.T, o *output) {
		o.accounts[at(t, o.accounts, func(a keyed[Account]) bool { return a.Key == "7" })].Value.GiftFor = ""
	}, "customer 7", `"orders":2`},
	{CheckProducts, Lost, "product missing", func(t *testing.T, o *output) {
		o.products = nil
	}, "product mug", ""},
	{CheckProducts, Doubled, "product in two partitions", func(_ *testing.T, o *output) {
		o.products = append(o.products, o.products[0])
	}, "product ", "2 copies"},
	{CheckProducts, Ghost, "product of no line", func(_ *testing.T, o *output) {
		o.products = append(o.products, keyed[Product]{"jug", Product{StockCode: "jug"}})
	}, "product jug", "jug"},
	{CheckProducts, Wrong, "units", func(t *testing.T, o *output) {
		o.products[at(t, o.products, func(p keyed[Product]) bool { return p.Key == "cup" })].Value.Units++
	}, "product cup", `"units":1`},
}

func isOrder(invoice string) func(keyed[Order]) bool {
	return func(o keyed[Order]) bool { return o.Key == invoice }
}

func TestJudgeFindsEachPlantedAnomaly(t *testing.T) {
	covered := make(map[string]bool)
	for _, c := range slices.Concat(plantedInTopics, plantedInStores) {
		covered[fmt.Sprint(c.check, c.anomaly)] = true
		t.Run(fmt.Sprintf("%s %s: %s", c.check, c.anomaly, c.name), func(t *testing.T) {
			lines, poison, o := small(t)
			if v := o.show(NewJudge(lines, poison)); !v.OK() {
				t.Fatalf("the small output is not faultless: %+v", v)
			}
			c.plant(t, o)
			c.assertFoundIn(t, o.show(NewJudge(lines, poison)))
		})
	}
	// Each of the seven checks with each of the four anomalies, except that a dead letter that is not right is a ghost.
	if len(covered) != 7*4-1 {
		t.Errorf("%d pairs of check and anomaly are planted, want 27", len(covered))
	}
}

func (c planted) assertFoundIn(t *testing.T, verdict Verdict) {
	t.Helper()
	if verdict.OK() {
		t.Fatal("the judge found nothing")
	}
	for _, check := range verdict.Checks {
		if check.Name != c.check {
			if !check.OK() {
				t.Errorf("found in %s: %+v", check.Name, check)
			}
			continue
		}
		counts := map[Anomaly]int{Lost: check.Lost, Doubled: check.Doubled, Ghost: check.Ghost, Wrong: check.Wrong}
		for anomaly, n := range counts {
			if (anomaly == c.anomaly) != (n > 0) {
				t.Errorf("%d %s: %+v", n, anomaly, check)
			}
		}
		first := check.Findings[0]
		if first.Anomaly != c.anomaly || !strings.HasPrefix(first.Subject, c.subject) || !strings.Contains(first.Got, c.got) {
			t.Errorf("finding %+v", first)
		}
	}
}
