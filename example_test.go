package oncemill_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// README begin
type Order struct {
	Paid bool `json:"paid"`
}

type ConfirmPayment struct {
	Amount int `json:"amount"`
}

type PaymentConfirmed struct {
	Amount int `json:"amount"`
}

var orders = statestore.KeyValue("orders", serde.String(), serde.JSON[Order]())

func payments() *topology.Topology {
	t := topology.New("payments")
	commands := topology.Source(t, "commands", "order-commands", serde.String(), serde.JSON[ConfirmPayment](),
		topology.Deduplicate(dedup.Config{ID: dedup.Header("message-id"), Window: 7 * 24 * time.Hour}))
	events := topology.Process(t, "confirm", commands, confirm, topology.Uses(orders))
	topology.Sink(t, "events", events, "order-events", serde.String(), serde.JSON[PaymentConfirmed]())
	return t
}

func confirm(ctx *processor.Context[string, PaymentConfirmed], r record.Record[string, ConfirmPayment]) error {
	order, _, err := orders.Get(ctx, r.Key)
	if err != nil || order.Paid {
		return err
	}
	order.Paid = true
	if err := orders.Put(ctx, r.Key, order); err != nil {
		return err
	}
	return ctx.Forward(record.New(r.Key, PaymentConfirmed{Amount: r.Value.Amount}))
}

func run(ctx context.Context, brokers []string, stateDir string) error {
	app, err := oncemill.New(oncemill.Config{Brokers: brokers, StateDir: stateDir, Topology: payments()})
	if err != nil {
		return err
	}
	return app.Run(ctx) // until ctx ends, or a failure that a policy calls fatal
}

// README end

// The program of the README: a payment that is confirmed twice, and sent twice, is confirmed once.
func Example() {
	broker, err := embedded.Start(embedded.Config{Topics: map[string]int{"order-commands": 4, "order-events": 4}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer broker.Close()
	dir, clean := tempDir()
	defer clean()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addrs()...), kgo.ConsumeTopics("order-events"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	send := func(order, id string, amount int) {
		r := &kgo.Record{Topic: "order-commands", Key: []byte(order), Value: fmt.Appendf(nil, `{"amount":%d}`, amount),
			Headers: []kgo.RecordHeader{{Key: "message-id", Value: []byte(id)}}}
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
			fmt.Println(err)
		}
	}
	send("order-1", "m1", 100)
	send("order-1", "m1", 100) // the same message again
	send("order-2", "m2", 250)

	running, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- run(running, broker.Addrs(), dir) }()
	seen := map[string]string{}
	for len(seen) < 2 && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) { seen[string(r.Key)] += string(r.Value) })
	}
	end()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		fmt.Println(err)
	}
	fmt.Println("order-1", seen["order-1"])
	fmt.Println("order-2", seen["order-2"])
	// Output:
	// order-1 {"amount":100}
	// order-2 {"amount":250}
}
