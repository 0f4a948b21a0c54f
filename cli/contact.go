package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
)

// knockAgain is the pause before brokers that refused the connection are tried again.
const knockAgain = 200 * time.Millisecond

// knockTimeout bounds one try: a refusal comes at once, and what does not answer at all is for the verb to wait for and to tell.
const knockTimeout = 2 * time.Second

// awaitBrokers waits, no longer than --timeout, while every address refuses the connection: nothing listens there yet, which
// is what a program meets that is started together with its broker. A broker that answers and says no ends it with OM402;
// silence ends it without an error: the verb that asks next says what is wrong.
func (e *Env) awaitBrokers(ctx context.Context, brokers []string, opts []kgo.Opt) error {
	client, err := kgo.NewClient(slices.Concat(opts, []kgo.Opt{kgo.SeedBrokers(brokers...), kgo.DisableClientMetrics()})...)
	if err != nil {
		return problem.Wrap(problem.ConfigInvalid, "connection", err)
	}
	defer client.Close()
	bounded, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	address := strings.Join(brokers, ",")
	for told := false; ; told = true {
		try, cancel := context.WithTimeout(bounded, knockTimeout)
		err := client.Ping(try)
		cancel()
		if said := answer("ApiVersions at "+address, err); problem.CodeOf(said) == problem.BrokersRefused {
			return said
		}
		if unknown := unknownHosts(bounded, brokers, err); unknown != "" {
			return problem.New(problem.BrokersUnreachable, address, "%s: there is no such host", unknown).
				WithCure("correct --brokers; %s dev starts a broker for development", e.Name())
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return context.Cause(ctx)
		}
		if !told {
			e.Talk("nothing listens at %s yet; waiting up to %v (--timeout)", address, e.Timeout)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-bounded.Done():
			unreachable := problem.Wrap(problem.BrokersUnreachable, "ApiVersions at "+address, err)
			unreachable.Problem = fmt.Sprintf("nothing listened there for %v (--timeout)", e.Timeout)
			return unreachable.WithCure("check --brokers and the network; %s dev starts a broker for development", e.Name())
		case <-time.After(knockAgain):
		}
	}
}

// unknownHosts are the hosts of brokers that no name server knows, if that is what is wrong: no broker is left then.
func unknownHosts(ctx context.Context, brokers []string, err error) string {
	var lookup *net.DNSError
	if !errors.As(err, &lookup) || !lookup.IsNotFound {
		return ""
	}
	var unknown []string
	for _, broker := range brokers {
		host, _, err := net.SplitHostPort(broker)
		if err != nil {
			return ""
		}
		if _, err := net.DefaultResolver.LookupHost(ctx, host); !errors.As(err, &lookup) || !lookup.IsNotFound {
			return ""
		}
		unknown = append(unknown, host)
	}
	return strings.Join(unknown, ", ")
}

// noBrokers is the error of a verb that needs brokers and got none.
func (e *Env) noBrokers() error {
	return usageError(e.cmd, fmt.Errorf("no brokers: give --brokers, or set $%s; %s dev starts one for development", envName("brokers"), e.Name()))
}

// dial connects a verb with the brokers of the settings, when they are there.
func (e *Env) dial(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	conn, err := e.Connection()
	if err != nil {
		return nil, err
	}
	if len(conn.Brokers) == 0 {
		return nil, e.noBrokers()
	}
	connect, err := conn.Options()
	if err != nil {
		return nil, err
	}
	if err := e.awaitBrokers(ctx, conn.Brokers, connect); err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(slices.Concat(connect, []kgo.Opt{kgo.DisableClientMetrics()}, opts)...)
	if err != nil {
		return nil, problem.Wrap(problem.ConfigInvalid, "connection", err)
	}
	return client, nil
}

// answer tells a request that brokers refused from one that did not reach them. Nil stays nil.
func answer(place string, err error) error {
	var refused *kerr.Error
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, kerr.MessageTooLarge):
		return problem.Wrap(problem.OutputTooLarge, place, err).WithCure("send less, or raise max.message.bytes of the topic")
	case errors.As(err, &refused):
		return problem.Wrap(problem.BrokersRefused, place, err)
	case errors.Is(err, io.EOF): // not every broker says why
		return problem.Wrap(problem.BrokersRefused, place, fmt.Errorf("the broker closed the connection: %w", err)).
			WithCure("check --tls and --sasl-mechanism: whether the listener wants them, and user and password")
	}
	return problem.Wrap(problem.BrokersUnreachable, place, err)
}

// appearTimeout bounds the wait for a topic that is missing: one that was just made is not known to every broker at once.
const appearTimeout = 2 * time.Second

// needTopic refuses a topic that does not exist.
func (e *Env) needTopic(ctx context.Context, client *kgo.Client, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	for until := time.Now().Add(appearTimeout); ; {
		details, err := kadm.NewClient(client).ListTopics(ctx, topic)
		if err != nil {
			return answer("Metadata of topic "+topic, err)
		}
		if !kerr.IsRetriable(details[topic].Err) || time.Now().After(until) {
			return e.topicState(topic, details[topic].Err)
		}
		select {
		case <-ctx.Done():
			return answer("Metadata of topic "+topic, context.Cause(ctx))
		case <-time.After(knockAgain):
		}
	}
}

// topicState is the error of a topic that cannot be used.
func (e *Env) topicState(topic string, err error) error {
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return problem.New(problem.TopicMissing, "topic "+topic, "it does not exist").
			WithCure("correct the name (%s topic list), or create it: %s topic create %s --partitions N", e.Name(), e.Name(), topic)
	}
	return answer("Metadata of topic "+topic, err)
}
