package retail_test

import (
	"fmt"
	"strings"

	"github.com/oncemill/oncemill/examples/retail"
)

const file = `InvoiceNo,StockCode,Description,Quantity,UnitPrice,CustomerID,Country
536365,85123A,WHITE HANGING HEART T-LIGHT HOLDER,6,2.55,17850,United Kingdom
536365,71053,WHITE METAL LANTERN,6,3.39,17850,United Kingdom
C536379,85123A,WHITE HANGING HEART T-LIGHT HOLDER,-1,2.55,17850,United Kingdom
`

func lines() []retail.Line {
	reader, err := retail.NewReader("lines.csv", strings.NewReader(file))
	if err != nil {
		panic(err)
	}
	all, err := reader.ReadAll()
	if err != nil {
		panic(err)
	}
	return all
}

func ExampleNewReader() {
	reader, err := retail.NewReader("lines.csv", strings.NewReader(file+"536366,22633,HAND WARMER,six,1.85,17850,X\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for {
		line, err := reader.Next()
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(line.ID(), line.Key(), line.StockCode, line.Amount())
	}
	// Output:
	// 1 17850 85123A 15.30
	// 2 17850 71053 20.34
	// 3 17850 85123A -2.55
	// OM201 lines.csv line 5: column Quantity: "six" is not a whole number. Cure: correct this line or remove it; quantities are whole numbers, prices decimal pounds
}

func ExampleEmbedded() {
	reader, err := retail.Embedded()
	if err != nil {
		fmt.Println(err)
		return
	}
	all, err := reader.ReadAll()
	fmt.Println(len(all), err)
	// Output: 50062 <nil>
}

func ExampleBook() {
	var order retail.Order
	var account retail.Account
	for _, line := range lines()[:2] {
		b := retail.Book(line, order, account)
		order, account = b.Order, b.Account
		fmt.Println("line", b.Accepted.Line, "order", b.Accepted.Revenue, "gift", b.Gives)
	}
	// Output:
	// line 1 order 15.30 gift true
	// line 2 order 35.64 gift false
}

func ExampleNewFeed() {
	feed, err := retail.NewFeed(lines(), retail.FeedConfig{Seed: 1, Duplicates: 0.34, Poison: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	for message, err := range feed.Messages() {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: line %d, key %s\n", message.Kind, message.Line, message.Key)
	}
	// Output:
	// first: line 1, key 17850
	// first: line 2, key 17850
	// broken JSON: line 2, key 17850
	// poison again: line 2, key 17850
	// first: line 3, key 17850
	// again: line 1, key 17850
}

func ExampleJudge() {
	judge := retail.NewJudge(lines()[:1], nil)
	judge.Line("536365", retail.LineAccepted{Line: 1, Invoice: "536365", Lines: 1, Quantity: 6, Revenue: 1_530_000})
	judge.Gift("17850", retail.Gift{Customer: "17850", Invoice: "536365"})
	judge.Gift("17850", retail.Gift{Customer: "17850", Invoice: "536365"})
	judge.Units("85123A", retail.UnitsChanged{Line: 1, StockCode: "85123A", Quantity: 6, Units: 6})
	judge.Order("536365", retail.Order{Invoice: "536365", Customer: "17850", Lines: 1, Quantity: 6, Revenue: 1_530_000})
	judge.Account("17850", retail.Account{Customer: "17850", Orders: 1, Revenue: 1_530_000, GiftFor: "536365"})

	verdict := judge.Verdict()
	for _, check := range verdict.Checks {
		for _, f := range check.Findings {
			fmt.Println(check.Name, "-", f.Anomaly, f.Subject)
		}
	}
	fmt.Println("ok:", verdict.OK())
	// Output:
	// gifts - doubled gift of customer 17850
	// products - lost product 85123A
	// ok: false
}
