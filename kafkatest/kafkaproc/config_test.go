package kafkaproc

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStartNamesEveryMistake(t *testing.T) {
	_, err := Start(context.Background(), Config{Brokers: 2, TransactionVersion: 3, Port: 65536, HeapMB: 1})
	if err == nil {
		t.Fatal("started")
	}
	for _, want := range []string{"Brokers is 2", "TransactionVersion is 3", "Port is 65536", "HeapMB is 1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

func TestSettingsOfTwoSuitesDoNotMeet(t *testing.T) {
	c := &Cluster{config: Config{Brokers: 3, Secure: true, Extra: map[string]string{"min.insync.replicas": "3"}}, dir: t.TempDir()}
	defer c.ports.release()
	for i := range 3 {
		if err := c.addBroker(i); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(map[int]bool)
	for _, b := range c.brokers {
		seen[b.controllerPort] = true
		for _, port := range b.ports {
			seen[port] = true
		}
	}
	if len(seen) != 3*5 {
		t.Errorf("%d different ports, want 15", len(seen))
	}
	p := c.serverProperties(c.brokers[2])
	if p["node.id"] != "3" || p["min.insync.replicas"] != "3" || p["transaction.state.log.min.isr"] != "2" {
		t.Errorf("got %v", p)
	}
	if got := strings.Count(p["listeners"], "127.0.0.1:"); got != 5 {
		t.Errorf("%d listeners in %s, want 5", got, p["listeners"])
	}
}

func TestSettingsThatWouldNeedEscapesAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server.properties")
	if err := (properties{"a": `c:\d`}).write(path); err == nil {
		t.Error("a backslash was accepted")
	}
	if err := (properties{"b": "2", "a": "1"}).write(path); err != nil {
		t.Error(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || string(content) != "a=1\nb=2\n" {
		t.Errorf("got %q, %v", content, err)
	}
}
