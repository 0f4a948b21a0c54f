package oncemill_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/metrics"
)

// New lists every mistake at once, and starts nothing.
func ExampleNew() {
	_, err := oncemill.New(oncemill.Config{Topology: payments(), StateDir: "state", MaxFuture: -1})
	fmt.Println(err)
	// Output:
	// OM101 Config: 2 mistakes: OM101 Config.Brokers: is empty. Cure: give at least one host:port
	// OM101 Config.MaxFuture: -1ns is negative. Cure: use a positive duration, or 0 for the default. Cure: correct the fields listed
}

// Run returns what it cannot start with as one error, with place and cure.
func ExampleApp_Run() {
	dir, clean := tempDir()
	defer clean()
	app, err := oncemill.New(oncemill.Config{Brokers: []string{"127.0.0.1:1"}, StateDir: dir, Topology: payments(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(app.Run(context.Background()))
	// Output: OM401 ApiVersions at 127.0.0.1:1: unable to dial: dial tcp 127.0.0.1:1: connect: connection refused. Cure: check Config.Brokers and the network; oncemill dev starts a broker for development
}

// Health and Tasks may be asked while the application runs.
func ExampleApp_Health() {
	dir, clean := tempDir()
	defer clean()
	broker, err := embedded.Start(embedded.Config{Topics: map[string]int{"order-commands": 2, "order-events": 2}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer broker.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ready := make(chan bool, 2)
	app, err := oncemill.New(oncemill.Config{Brokers: broker.Addrs(), StateDir: dir, Topology: payments(), Logger: slog.New(slog.DiscardHandler),
		Listener: metrics.Listener{ReadyChanged: func(e metrics.Ready) { ready <- e.Ready }}})
	if err != nil {
		fmt.Println(err)
		return
	}
	reason, _ := app.Health().Ready()
	fmt.Println("before:", reason)
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	if <-ready {
		for _, task := range app.Tasks() {
			fmt.Println(task.Task, task.State)
		}
	}
	stop()
	err = <-done
	reason, _ = app.Health().Ready()
	fmt.Println("after:", reason, errors.Is(err, nil))
	// Output:
	// before: not started
	// commands_0 running
	// commands_1 running
	// after: stopped true
}
