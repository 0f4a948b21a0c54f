package record_test

import (
	"fmt"
	"time"

	"github.com/oncemill/oncemill/record"
)

func ExampleNew() {
	r := record.New("customer-7", 42)
	fmt.Println(r.Key, r.Value, r.Timestamp.IsZero(), len(r.Headers))
	// Output: customer-7 42 true 0
}

// With keeps timestamp and headers, so that a trace context passes through.
func ExampleWith() {
	in := record.New("order-1", 100)
	in.Timestamp = time.Date(2011, 12, 9, 12, 50, 0, 0, time.UTC)
	in.Headers = []record.Header{{Key: "traceparent", Value: []byte("00-4bf9-00f0-01")}}
	out := record.With(in, "customer-7", "paid 100")
	fmt.Println(out.Key, "|", out.Value, "|", out.Timestamp.Format(time.DateOnly), "|", out.Headers[0].Key)
	// Output: customer-7 | paid 100 | 2011-12-09 | traceparent
}

// The last header of a name counts, as in Kafka; an empty value is not an absent one.
func ExampleLookup() {
	headers := []record.Header{{Key: "tenant", Value: []byte("a")}, {Key: "tenant", Value: []byte("b")}, {Key: "note"}}
	tenant, _ := record.Lookup(headers, "tenant")
	_, noted := record.Lookup(headers, "note")
	_, found := record.Lookup(headers, "trace")
	fmt.Println(string(tenant), noted, found)
	// Output: b true false
}

func ExamplePosition() {
	fmt.Println(record.Position{Topic: "orders", Partition: 3, Offset: 42})
	// Output: orders/3@42
}
