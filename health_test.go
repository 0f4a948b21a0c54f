package oncemill_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/metrics"
)

// healthOf starts an application, waits until its health is ready, and returns it with a function that stops it.
func healthOf(t *testing.T, brokers []string, instance string) (*oncemill.App, func() error) {
	t.Helper()
	changed := make(chan bool, 8)
	app, err := oncemill.New(oncemill.Config{Brokers: brokers, StateDir: t.TempDir(), InstanceID: instance, Topology: counting("healthy"),
		Logger: slog.New(slog.DiscardHandler), Listener: metrics.Listener{
			ReadyChanged: func(e metrics.Ready) { changed <- e.Ready },
		}})
	if err != nil {
		t.Fatal(err)
	}
	if reason, ready := app.Health().Ready(); ready || reason != "not started" {
		t.Fatalf("before the start: ready %v, %q", ready, reason)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	select {
	case ready := <-changed:
		if reason, now := app.Health().Ready(); !ready || !now {
			t.Fatalf("told ready %v; %q", ready, reason)
		}
	case err := <-done:
		t.Fatalf("it ended before it was ready: %v", err)
	}
	return app, func() error {
		cancel()
		if <-changed {
			t.Error("told ready while it stops")
		}
		return <-done
	}
}

// A process that the group gave nothing is ready, but not before the group has answered.
func TestHealthOfAProcessWithAndWithoutTasks(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "words", "counted"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	first, stopFirst := healthOf(t, cluster.ListenAddrs(), "first")
	second, stopSecond := healthOf(t, cluster.ListenAddrs(), "second")
	if a, b := len(first.Health().Tasks), len(second.Health().Tasks); a+b != 1 {
		t.Errorf("%d and %d tasks, want one in all", a, b)
	}
	for app, stop := range map[*oncemill.App]func() error{first: stopFirst, second: stopSecond} {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		h := app.Health()
		if reason, ready := h.Ready(); ready || reason != "stopped" || h.Failed != nil {
			t.Errorf("after the end: ready %v, %q, failed %v", ready, reason, h.Failed)
		}
	}
}

func TestHealthAfterAFailure(t *testing.T) {
	app, err := oncemill.New(oncemill.Config{Brokers: []string{"127.0.0.1:1"}, StateDir: t.TempDir(), Topology: counting("unhealthy"),
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Run(context.Background()); err == nil {
		t.Fatal("it ran without a broker")
	}
	if h := app.Health(); h.Failed == nil {
		t.Errorf("%+v", h)
	}
}
