package soak

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/verify/kafkalog"
	"github.com/oncemill/oncemill/record"
)

// ClientReader reads with franz-go, the client of the engine, as verify does. It is for users: it shares the client with the
// engine, and nothing else.
type ClientReader struct {
	Brokers []string
	// Options are those of the connection.
	Options []kgo.Opt
	// Patience bounds how long brokers may be silent. Default 30 s.
	Patience time.Duration
}

// Read implements Reader.
func (c *ClientReader) Read(ctx context.Context, topics []string, f func(*record.Raw) error) error {
	log, err := kafkalog.Open(c.Brokers, c.Patience, c.Options...)
	if err != nil {
		return err
	}
	defer log.Close()
	bounds, err := log.Topics(ctx, topics)
	if err != nil {
		return err
	}
	for _, name := range topics {
		t := bounds[name]
		for p := range t.Partitions {
			if err := log.Read(ctx, name, p, t.Starts[p], t.Ends[p], f); err != nil {
				return err
			}
		}
	}
	return nil
}
