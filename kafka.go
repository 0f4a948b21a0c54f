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

// contactTimeout bounds the first contact with the brokers: within it an application knows whether it can start.
const contactTimeout = 10 * time.Second

// tryTimeout bounds one try of it, so that an address that swallows what it gets does not hide a good one behind it.
const tryTimeout = 3 * time.Second

// probe asks the brokers for their features before anything is started: it finds wrong addresses and credentials, and tells
// whether transactions run under KIP-890 part 2.
func probe(ctx context.Context, cl *kgo.Client, brokers []string) (transactionVersion int16, err error) {
	var resp *kmsg.ApiVersionsResponse
	for {
		resp, err = askVersions(ctx, cl)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			break
		}
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

func askVersions(ctx context.Context, cl *kgo.Client) (*kmsg.ApiVersionsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "oncemill", "dev"
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	return resp, err
}

// unreachable tells brokers that cannot be reached from brokers that refuse.
func unreachable(brokers []string, operation string, err error) *problem.Error {
	place := fmt.Sprintf("%s at %s", operation, strings.Join(brokers, ","))
	var ke *kerr.Error
	var eof *kgo.ErrFirstReadEOF // closed without a word, which is how brokers refuse clients that lack TLS or SASL
	text := err.Error()
	if errors.As(err, &ke) || errors.As(err, &eof) || strings.Contains(text, "SASL") || strings.Contains(text, "tls:") || strings.Contains(text, "x509") {
		return problem.Wrap(problem.BrokersRefused, place, err)
	}
	return problem.Wrap(problem.BrokersUnreachable, place, err)
}
