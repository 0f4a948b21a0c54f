//go:build kafka

package kafkatest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
	"github.com/oncemill/oncemill/record"
)

// transact produces values in one transaction and ends it.
func transact(t *testing.T, client *kgo.Client, topic string, end kgo.TransactionEndTry, values ...string) {
	t.Helper()
	begin(t, client, topic, values...)
	if err := client.EndTransaction(testContext(t), end); err != nil {
		t.Fatal(err)
	}
}

// begin opens a transaction and produces values in it.
func begin(t *testing.T, client *kgo.Client, topic string, values ...string) {
	t.Helper()
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if err := client.ProduceSync(testContext(t), &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestJavaSeesWhatWasCommittedAndNothingElse(t *testing.T) {
	client := newClient(t, shared, kgo.TransactionalID(t.Name()))
	topic := newTopic(t, client, 1, "")
	transact(t, client, topic, kgo.TryCommit, "a", "b")
	transact(t, client, topic, kgo.TryAbort, "lost")
	transact(t, client, topic, kgo.TryCommit, "c")
	begin(t, client, topic, "open")

	if got := consume(t, shared, topic, kafkaproc.ReadCommitted); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("read_committed: %q", got)
	}
	if got := consume(t, shared, topic, kafkaproc.ReadUncommitted); !slices.Equal(got, []string{"a", "b", "lost", "c", "open"}) {
		t.Errorf("read_uncommitted: %q", got)
	}
	// Two records and a marker, one and a marker, one and a marker, one that is open.
	offsets, err := shared.GetOffsets(testContext(t), topic)
	if want := (kafkaproc.Offsets{Earliest: 0, Stable: 7, Latest: 8}); err != nil || len(offsets) != 1 || offsets[0] != want {
		t.Errorf("offsets %+v (%v), want %+v", offsets, err, want)
	}
	open := transaction(t, t.Name())
	if open.State != "Ongoing" || len(open.Partitions) != 1 || open.Partitions[0].Topic != topic {
		t.Errorf("the open transaction: %+v", open)
	}
	if err := client.EndTransaction(testContext(t), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	if got := consume(t, shared, topic, kafkaproc.ReadCommitted); len(got) != 3 {
		t.Errorf("read_committed at the end: %q", got)
	}
}

// transaction returns what the coordinator knows of a transactional id.
func transaction(t *testing.T, id string) kafkaproc.Transaction {
	t.Helper()
	all, err := shared.ListTransactions(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(tx kafkaproc.Transaction) bool { return tx.ID == id })
	if i < 0 {
		t.Fatalf("transactional id %s is not among %+v", id, all)
	}
	return all[i]
}

func TestEveryPartOfARecordComesBackThroughJava(t *testing.T) {
	client := newClient(t, shared)
	topic := newTopic(t, client, 2, "")
	at := time.UnixMilli(1_700_000_000_123)
	records := []*kgo.Record{
		{Topic: topic, Partition: 1, Timestamp: at, Key: nil, Value: []byte{}},
		{Topic: topic, Partition: 1, Timestamp: at.Add(-time.Hour), Key: []byte{}, Value: nil},
		{Topic: topic, Partition: 0, Timestamp: at, Key: []byte("k\x00\xff"), Value: []byte("v"), Headers: []kgo.RecordHeader{
			{Key: "h", Value: []byte{0, 255}}, {Key: "h", Value: nil}, {Key: "ü", Value: []byte{}},
		}},
	}
	if err := client.ProduceSync(testContext(t), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	got, err := shared.Consume(testContext(t), topic, kafkaproc.ReadCommitted)
	if err != nil || len(got) != 3 {
		t.Fatalf("got %+v, %v", got, err)
	}
	for i, want := range []*kgo.Record{records[2], records[0], records[1]} {
		sameRecord(t, got[i], want)
	}
	if only, err := shared.Consume(testContext(t), topic, kafkaproc.ReadCommitted, 1); err != nil || len(only) != 2 {
		t.Errorf("partition 1 alone: %+v, %v", only, err)
	}
}

func sameRecord(t *testing.T, got record.Raw, want *kgo.Record) {
	t.Helper()
	if got.Topic != want.Topic || got.Partition != want.Partition || got.Offset != want.Offset || !got.Timestamp.Equal(want.Timestamp) {
		t.Errorf("got %v at %v, want %v", got.Position, got.Timestamp, want)
	}
	sameBytes(t, got.Key, want.Key)
	sameBytes(t, got.Value, want.Value)
	if len(got.Headers) != len(want.Headers) {
		t.Fatalf("headers %v, want %v", got.Headers, want.Headers)
	}
	for i, h := range got.Headers {
		if h.Key != want.Headers[i].Key {
			t.Errorf("header %q, want %q", h.Key, want.Headers[i].Key)
		}
		sameBytes(t, h.Value, want.Headers[i].Value)
	}
}

// sameBytes tells null from empty.
func sameBytes(t *testing.T, got, want []byte) {
	t.Helper()
	if string(got) != string(want) || (got == nil) != (want == nil) {
		t.Errorf("got %#v, want %#v", got, want)
	}
}

func TestConsumeOfAMissingTopicIsAnError(t *testing.T) {
	if _, err := shared.Consume(testContext(t), "no-such-topic", kafkaproc.ReadCommitted); err == nil {
		t.Error("no error")
	}
}

func TestDescribeGroupShowsMembersAndOffsets(t *testing.T) {
	producer := newClient(t, shared)
	topic := newTopic(t, producer, 2, "")
	if err := producer.ProduceSync(testContext(t), &kgo.Record{Topic: topic, Partition: 1}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	member := newClient(t, shared, kgo.ConsumerGroup(t.Name()), kgo.ConsumeTopics(topic), kgo.ClientID("reader"),
		kgo.InstanceID("reader-1"), kgo.DisableAutoCommit())
	if err := poll(testContext(t), member); err != nil {
		t.Fatal(err)
	}
	if err := member.CommitUncommittedOffsets(testContext(t)); err != nil {
		t.Fatal(err)
	}
	g, err := shared.DescribeGroup(testContext(t), t.Name())
	if err != nil {
		t.Fatal(err)
	}
	if g.State != "Stable" || len(g.Members) != 1 || len(g.Members[0].Partitions) != 2 || g.Members[0].InstanceID != "reader-1" {
		t.Errorf("got %+v", g)
	}
	want := kafkaproc.TopicPartition{Topic: topic, Partition: 1}
	if len(g.Offsets) != 1 || g.Offsets[0].TopicPartition != want || g.Offsets[0].Offset != 1 {
		t.Errorf("offsets %+v, want 1 in %+v", g.Offsets, want)
	}
	if _, err := shared.DescribeGroup(testContext(t), "no-such-group"); err == nil {
		t.Error("a group that does not exist was described")
	}
}

// poll returns after the first poll that has records.
func poll(ctx context.Context, client *kgo.Client) error {
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		if fetches.NumRecords() > 0 {
			return nil
		}
	}
}
