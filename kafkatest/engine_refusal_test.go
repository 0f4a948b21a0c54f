//go:build kafka

package kafkatest

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/topology"
)

// says checks code and words of an error.
func says(t *testing.T, err error, code problem.Code, words ...string) {
	t.Helper()
	var p *problem.Error
	if !errors.As(err, &p) || p.Code != code {
		t.Errorf("code %v, want %s: %v", p, code, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is missing in: %v", w, err)
		}
	}
}

// startLimit is what the documentation promises for brokers that cannot be reached, and a margin for a busy machine.
const startLimit = 12 * time.Second

func TestUnreachableBrokersAreNamedSoon(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := listener.Addr().String() // accepts, and never answers
	defer listener.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	j := newTally(t, shared)
	for _, address := range []string{silent, closed.Addr().String()} {
		config := j.config(t.TempDir())
		config.Brokers = []string{address}
		began := time.Now()
		says(t, refusal(t, config), problem.BrokersUnreachable, address, "ApiVersions")
		if took := time.Since(began); took > startLimit {
			t.Errorf("it took %v", took)
		}
	}
}

func TestMissingSourceTopicIsNamed(t *testing.T) {
	j := newTally(t, shared)
	j.in = "no-such-topic"
	says(t, refusal(t, j.config(t.TempDir())), problem.TopicMissing, `"no-such-topic"`)
}

func TestUnequalPartitionCountsAreRefused(t *testing.T) {
	j := newTally(t, shared)
	more := j.app + "-more"
	j.create(more, tallyPartitions+1)
	config := j.config(t.TempDir())
	config.Topology = j.topology(topology.AlsoTopics(more))
	says(t, refusal(t, config), problem.NotCopartitioned, j.in+" has 2", more+" has 3")
}

func TestChangedPartitionCountIsRefused(t *testing.T) {
	j := newTally(t, shared)
	dir := t.TempDir()
	app := j.run(j.config(dir))
	j.send("a", time.Now(), "one", "two")
	j.await(2)
	app.end()
	if _, err := j.admin.CreatePartitions(j.ctx, 1, j.in); err != nil {
		t.Fatal(err)
	}
	until(j.ctx, t, "three partitions", func() (bool, string) {
		topics, err := j.admin.ListTopics(j.ctx, j.in)
		return err == nil && len(topics[j.in].Partitions) == tallyPartitions+1, "two"
	})
	err := refusal(t, j.config(dir))
	var p *problem.Error
	if !errors.As(err, &p) || p.Code != problem.PartitionsChanged && p.Code != problem.FingerprintChanged {
		t.Errorf("code %v: %v", p, err)
	}
	if !strings.Contains(err.Error(), "2") || !strings.Contains(err.Error(), "3") {
		t.Errorf("the counts are missing in: %v", err)
	}
}
