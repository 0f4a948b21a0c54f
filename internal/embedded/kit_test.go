package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/embedded"
)

// patience bounds every wait of these tests; none of them comes near it.
const patience = 30 * time.Second

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, cfg embedded.Config) *embedded.Broker {
	t.Helper()
	b, err := embedded.Start(cfg)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func client(t *testing.T, addrs []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.DisableClientMetrics(),
	}, opts...)
	c, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// producer is transactional; its transactions outlive the test unless they are ended.
func producer(t *testing.T, b *embedded.Broker, id string) *kgo.Client {
	t.Helper()
	return client(t, b.Addrs(), kgo.TransactionalID(id), kgo.TransactionTimeout(patience))
}

func produce(t *testing.T, c *kgo.Client, topic string, partition int32, values ...string) {
	t.Helper()
	for _, v := range values {
		r := &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)}
		if err := c.ProduceSync(testContext(t), r).FirstErr(); err != nil {
			t.Fatalf("produce %s: %v", v, err)
		}
	}
}

// stageOffset adds an offset to the producer's transaction as a bare TxnOffsetCommit, without group membership.
func stageOffset(t *testing.T, c *kgo.Client, txid, group, topic string, partition int32, offset int64) {
	t.Helper()
	ctx := testContext(t)
	if err := tryStageOffset(ctx, c, txid, group, topic, partition, offset); err != nil {
		t.Fatal(err)
	}
}

func tryStageOffset(ctx context.Context, c *kgo.Client, txid, group, topic string, partition int32, offset int64) error {
	pid, epoch, err := c.ProducerID(ctx)
	if err != nil {
		return err
	}
	topics, err := kadm.NewClient(c).ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = txid, group, pid, epoch
	req.Generation = -1
	metadata := fmt.Sprintf("n=%d", offset)
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = topic, topics[topic].ID
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = partition, offset, 0, &metadata
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// endTxn sends a bare EndTxn and returns its error code.
func endTxn(t *testing.T, b *embedded.Broker, txid string, pid int64, epoch int16, commit bool, version int16) int16 {
	t.Helper()
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = txid, pid, epoch, commit
	opts := []kgo.Opt{}
	if version < 5 {
		opts = append(opts, kgo.MaxVersions(oldTransactions()))
	}
	c := client(t, b.Addrs(), opts...)
	defer c.Close()
	resp, err := req.RequestWith(testContext(t), c)
	if err != nil {
		t.Fatalf("EndTxn: %v", err)
	}
	if resp.Version != version {
		t.Fatalf("EndTxn went out in version %d, want %d", resp.Version, version)
	}
	return resp.ErrorCode
}

// committed reads every partition of a topic with read_committed up to its last stable offset, and fails if that is not
// the end of the log: a transaction is still open.
func committed(t *testing.T, b *embedded.Broker, topic string) []string {
	t.Helper()
	return committedAt(t, b.Addrs(), topic)
}

func committedAt(t *testing.T, addrs []string, topic string) []string {
	t.Helper()
	ctx := testContext(t)
	c := client(t, addrs, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.MetadataMinAge(10*time.Millisecond), kgo.FetchMaxWait(50*time.Millisecond))
	defer c.Close()
	admin := kadm.NewClient(c)
	stable, err := admin.ListCommittedOffsets(ctx, topic)
	if err != nil || stable.Error() != nil {
		t.Fatalf("list stable offsets: %v, %v", err, stable.Error())
	}
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil || ends.Error() != nil {
		t.Fatalf("list end offsets: %v, %v", err, ends.Error())
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if s, _ := stable.Lookup(topic, o.Partition); s.Offset != o.Offset {
			t.Errorf("%s/%d: last stable offset %d, end %d: a transaction is open", topic, o.Partition, s.Offset, o.Offset)
		}
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	var values []string
	for len(left) > 0 {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("read %s, still to come %v: %v", topic, left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
		})
	}
	slices.Sort(values)
	return values
}

// groupOffset is the committed offset and its metadata; -1 if there is none.
func groupOffset(t *testing.T, b *embedded.Broker, group, topic string, partition int32) (int64, string) {
	t.Helper()
	return groupOffsetAt(t, b.Addrs(), group, topic, partition)
}

func groupOffsetAt(t *testing.T, addrs []string, group, topic string, partition int32) (int64, string) {
	t.Helper()
	c := client(t, addrs)
	defer c.Close()
	offsets, err := kadm.NewClient(c).FetchOffsets(testContext(t), group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return -1, ""
	}
	if err != nil {
		t.Fatal(err)
	}
	o, ok := offsets.Lookup(topic, partition)
	if !ok {
		return -1, ""
	}
	return o.At, o.Metadata
}

// copyDir is what a kill leaves: the files as they are. Everything that kfake has written is in them, as it does not
// buffer.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// grown lists the files of after that are longer than in before, with the bytes that were added.
func grown(t *testing.T, before, after string) map[string][]byte {
	t.Helper()
	added := map[string][]byte{}
	err := filepath.WalkDir(after, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(after, path)
		if err != nil {
			return err
		}
		now, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		old, err := os.ReadFile(filepath.Join(before, name))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if len(now) > len(old) {
			added[name] = now[len(old):]
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return added
}

func appendTo(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
