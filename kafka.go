package oncemill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/problem"
)

// clientOptions are common to all clients of the application.
func (c *Config) clientOptions(role string) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID("oncemill-" + c.Topology.Name() + "-" + role),
		kgo.WithLogger(clientLog{c.Logger.With("client", role)}),
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.DisableClientMetrics(),
	}
	if c.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.TLS.Clone()))
	}
	if c.SASL != nil {
		opts = append(opts, kgo.SASL(c.SASL))
	}
	return append(opts, c.ClientOptions...)
}

// clientLog passes the client's warnings and errors on, and the rest at debug level.
type clientLog struct{ log *slog.Logger }

func (l clientLog) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelWarn
}

func (l clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	at := slog.LevelDebug
	if level <= kgo.LogLevelWarn {
		// The client retries by itself; what it cannot mend reaches the worker as an error and is logged there.
		at = slog.LevelInfo
	}
	l.log.Log(context.Background(), at, msg, keyvals...)
}

// probeTimeout bounds the first contact with the brokers.
const probeTimeout = 10 * time.Second

// probe asks the brokers for their features before anything is started: it finds wrong addresses and credentials within
// probeTimeout, and tells whether transactions run under KIP-890 part 2.
func probe(ctx context.Context, cl *kgo.Client, brokers []string) (transactionVersion int16, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "oncemill", "dev"
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return 0, unreachable(brokers, "ApiVersions", err)
	}
	for _, f := range resp.FinalizedFeatures {
		if f.Name == "transaction.version" {
			return f.MaxVersionLevel, nil
		}
	}
	return 0, nil
}

// unreachable tells brokers that cannot be reached from brokers that refuse.
func unreachable(brokers []string, operation string, err error) error {
	place := fmt.Sprintf("%s at %s", operation, strings.Join(brokers, ","))
	var ke *kerr.Error
	text := err.Error()
	if errors.As(err, &ke) || strings.Contains(text, "SASL") || strings.Contains(text, "tls:") || strings.Contains(text, "x509") {
		return problem.Wrap(problem.BrokersRefused, place, err)
	}
	return problem.Wrap(problem.BrokersUnreachable, place, err)
}
