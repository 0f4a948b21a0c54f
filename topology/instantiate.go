package topology

import (
	"fmt"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/murmur"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
)

// children collects the typed input ports of a node's children, in the order of declaration.
func children[K, V any](in *graph.Instance, n *graph.Node) []processor.Child[K, V] {
	out := make([]processor.Child[K, V], 0, len(n.Children))
	for _, c := range n.Children {
		child := in.Ports[c].(named[K, V])
		out = append(out, processor.Child[K, V]{Name: child.name, Port: child.port})
	}
	return out
}

type named[K, V any] struct {
	name string
	port processor.Port[K, V]
}

func setPort[K, V any](in *graph.Instance, n *graph.Node, p processor.Port[K, V]) {
	in.Ports[n.Index] = named[K, V]{name: n.Name, port: p}
}

func instantiateSource[K, V any](n *graph.Node, keys serde.Serde[K], values serde.Serde[V]) func(*graph.Instance) error {
	return func(in *graph.Instance) error {
		h, next := in.Host, children[K, V](in, n)
		decodeKey, decodeValue := decoderOf(keys), decoderOf(values)
		fail := func(raw *record.Raw, part string, err error) error {
			return h.Fail(&host.Failure{Phase: host.PhaseDecode, Node: n.Name,
				Err: problem.Wrap(problem.DecodeFailed, fmt.Sprintf("%s of %s", part, raw.Position), err)})
		}
		receive := func(raw *record.Raw) error {
			key, err := decodeKey(raw.Key)
			if err != nil {
				return fail(raw, "key", err)
			}
			value, err := decodeValue(raw.Value)
			if err != nil {
				return fail(raw, "value", err)
			}
			r := record.Record[K, V]{Key: key, Value: value, Timestamp: raw.Timestamp, Headers: raw.Headers, Position: raw.Position}
			for i := range next {
				if err := next[i].Port(r); err != nil {
					return err
				}
			}
			return nil
		}
		in.Sources[n.Index] = func(raw *record.Raw) error {
			previous := h.Enter(&n.Node)
			err := receive(raw)
			h.Leave(previous) // not deferred: after a panic the task asks which node was the deepest
			return err
		}
		return nil
	}
}

func instantiateProcessor[K, V, KO, VO any](n *graph.Node, open opener[K, V, KO, VO], timers []timerOption) func(*graph.Instance) error {
	return func(in *graph.Instance) error {
		fn, closeFn, err := open(processor.NewInitContext(&n.Node, in.Task))
		if err != nil {
			return fmt.Errorf("node %q: Init: %w", n.Name, err)
		}
		if closeFn != nil {
			in.Close = append(in.Close, closeFn)
		}
		r := processor.NewRunner(in.Host, &n.Node, fn, children[KO, VO](in, n))
		setPort(in, n, processor.Port[K, V](r.Receive))
		for _, t := range timers {
			port, err := t.bind(r)
			if err != nil {
				return err
			}
			in.Timers[graph.TimerKey{Node: n.Name, Store: t.store.ID()}] = port
		}
		return nil
	}
}

// instantiateBranch passes records on: to the first case that takes them, or, without cases, to all children.
func instantiateBranch[K, V any](n *graph.Node, cases []Case[K, V]) func(*graph.Instance) error {
	return func(in *graph.Instance) error {
		next := children[K, V](in, n)
		setPort(in, n, func(r record.Record[K, V]) error {
			for i := range next {
				if cases != nil {
					if cases[i].When == nil || cases[i].When(r) {
						return next[i].Port(r)
					}
					continue
				}
				if err := next[i].Port(r); err != nil {
					return err
				}
			}
			return nil
		})
		return nil
	}
}

func instantiateSink[K, V any](n *graph.Node, dynamic func(record.Record[K, V]) string, partition Partitioner[K, V], keys serde.Serde[K], values serde.Serde[V]) func(*graph.Instance) error {
	return func(in *graph.Instance) error {
		s := &sinkRunner[K, V]{host: in.Host, node: n, dynamic: dynamic, partition: partition, keys: keys, values: values}
		s.nullKey, _ = keys.(serde.Nuller[K])
		s.nullValue, _ = values.(serde.Nuller[V])
		setPort(in, n, s.receive)
		return nil
	}
}

// sinkRunner encodes records and hands them to the task.
type sinkRunner[K, V any] struct {
	host      host.Host
	node      *graph.Node
	dynamic   func(record.Record[K, V]) string
	partition Partitioner[K, V]
	keys      serde.Serde[K]
	values    serde.Serde[V]
	nullKey   serde.Nuller[K]
	nullValue serde.Nuller[V]
	// out is the output being made; the host copies it. Here it costs no allocation.
	out host.Output
}

func (s *sinkRunner[K, V]) receive(r record.Record[K, V]) error {
	previous := s.host.Enter(&s.node.Node)
	err := s.emit(r)
	if err != nil {
		err = s.host.Fail(&host.Failure{Phase: host.PhaseEncode, Node: s.node.Name, Err: err})
	}
	s.host.Leave(previous)
	return err
}

func (s *sinkRunner[K, V]) emit(r record.Record[K, V]) error {
	out := &s.out
	*out = host.Output{Topic: s.node.Topic, Headers: r.Headers, Timestamp: r.Timestamp, Node: s.node.Index}
	if s.dynamic != nil {
		out.Topic = s.dynamic(r)
	}
	var err error
	if s.nullKey == nil || !s.nullKey.IsNull(r.Key) {
		if out.Key, err = encode(s.host, s.keys, r.Key); err != nil {
			return problem.Wrap(problem.EncodeFailed, fmt.Sprintf("key for topic %q", out.Topic), err)
		}
	}
	if s.nullValue == nil || !s.nullValue.IsNull(r.Value) {
		if out.Value, err = encode(s.host, s.values, r.Value); err != nil {
			return problem.Wrap(problem.EncodeFailed, fmt.Sprintf("value for topic %q", out.Topic), err)
		}
	}
	n, err := s.host.Partitions(out.Topic)
	if err != nil {
		return err
	}
	switch {
	case s.partition != nil:
		out.Partition = s.partition(out.Topic, out.Key, r, n)
	case out.Key == nil:
		out.Partition = s.host.Input().Partition % n
	default:
		out.Partition = murmur.Partition(out.Key, n)
	}
	if out.Partition < 0 || out.Partition >= n {
		return problem.New(problem.UnknownTopic, fmt.Sprintf("topic %q", out.Topic), "the partitioner chose partition %d of %d", out.Partition, n).
			WithCure("return a number from 0 to %d", n-1)
	}
	return s.host.Emit(&s.node.Node, out)
}

// encode appends to the transaction's buffer. The result is never nil, because nil means null; a serde whose null value
// slipped through IsNull encodes as empty.
func encode[T any](h host.Host, s serde.Serde[T], v T) ([]byte, error) {
	buf := h.Buffer()
	b, err := s.Encode(buf, v)
	if err != nil {
		return nil, err
	}
	if b == nil {
		b = []byte{}
	}
	h.Keep(b)
	return b[:len(b):len(b)], nil
}
