package oncemill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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
		kgo.WithLogger(newClientLog(c.Logger.With("client", role))),
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

// contactTimeout bounds the first contact with the brokers: within it an application knows whether it can start.
const contactTimeout = 10 * time.Second

// tryTimeout bounds one try of it, so that an address that swallows what it gets does not hide a good one behind it.
const tryTimeout = 3 * time.Second

// probe asks the brokers for their features before anything is started: it finds wrong addresses and credentials, and tells
// whether transactions run under KIP-890 part 2.
func probe(ctx context.Context, cl *kgo.Client, cfg *Config) (transactionVersion int16, err error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "oncemill", "dev"
	var resp *kmsg.ApiVersionsResponse
	err = tryOften(ctx, func(ctx context.Context) error {
		if resp, err = req.RequestWith(ctx, cl); err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
	if err != nil {
		return 0, cfg.unreachable("ApiVersions", err)
	}
	for _, f := range resp.FinalizedFeatures {
		if f.Name == "transaction.version" {
			return f.MaxVersionLevel, nil
		}
	}
	return 0, nil
}

// whileItPasses repeats what brokers answer with an error that passes by itself, until ctx ends: a cluster that has just started has
// no coordinators yet, and the client gives up on them sooner.
func whileItPasses(ctx context.Context, fn func() error) error {
	var cause error
	for {
		err := fn()
		cutOff := err != nil && cause != nil && ctx.Err() != nil && errors.Is(err, ctx.Err())
		if !cutOff && !kerr.IsRetriable(err) {
			return err
		}
		if !cutOff {
			cause = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), cause)
		case <-time.After(retryPause):
		}
	}
}

// tryOften repeats what the client may have sent to an address that swallows it: the next try goes to the next address.
func tryOften(ctx context.Context, fn func(context.Context) error) error {
	for {
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		err := fn(try)
		late := try.Err() != nil
		cancel()
		switch {
		case err == nil || !late || errors.Is(err, io.EOF):
			return err
		case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case ctx.Err() != nil:
			return err
		}
	}
}

// unreachable tells brokers that cannot be reached from brokers that refuse.
func (c *Config) unreachable(operation string, err error) *problem.Error {
	place := fmt.Sprintf("%s at %s", operation, strings.Join(c.Brokers, ","))
	var ke *kerr.Error
	text := err.Error()
	switch {
	case errors.As(err, &ke) && ke.Retriable:
		return problem.Wrap(problem.BrokersRefused, place, err).WithCure("the brokers call it a passing state: look at their logs, and start again")
	case ke != nil, strings.Contains(text, "SASL"), strings.Contains(text, "tls:"), strings.Contains(text, "x509"):
		return problem.Wrap(problem.BrokersRefused, place, err)
	case errors.Is(err, io.EOF): // not every broker says why; the client guesses, where it can
		return problem.Wrap(problem.BrokersRefused, place, fmt.Errorf("the broker closed the connection: %w", err)).
			WithCure("check Config.TLS and Config.SASL: whether the listener wants them, user, password and mechanism")
	}
	p := problem.Wrap(problem.BrokersUnreachable, place, err)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		p.Problem = fmt.Sprintf("no answer within %v", contactTimeout)
		if c.TLS != nil {
			p = p.WithCure("check Config.Brokers, the network, and that the listener speaks TLS")
		}
	}
	return p
}

// refusedSetting gives a code to the brokers' refusal of a setting that New could not check.
func (c *Config) refusedSetting(err error) error {
	if errors.Is(err, kerr.InvalidTransactionTimeout) {
		return problem.Wrap(problem.BrokersRefused, "Config.TransactionTimeout", err).
			WithCure("%v is more than the brokers allow: use less, or raise their transaction.max.timeout.ms", c.TransactionTimeout)
	}
	return err
}
