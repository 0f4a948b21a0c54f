package embedded_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/oncemill/oncemill/internal/embedded"
)

// oldTransactions are the versions of a client from before KIP-890: the epoch stays, partitions are added by request.
func oldTransactions() *kversion.Versions { return kversion.V3_5_0() }

// ended runs one transaction over three partitions and two group offsets, and returns the data directory as it was when
// EndTxn had reached the journal and nothing else, and as it was afterwards.
func ended(t *testing.T, opts ...kgo.Opt) (decided, done string, pid int64, epoch int16) {
	t.Helper()
	dir := t.TempDir()
	b := start(t, embedded.Config{DataDir: dir, Topics: map[string]int{"out": 3, "in": 2}})
	p := client(t, b.Addrs(), append(opts, kgo.TransactionalID("tx"), kgo.TransactionTimeout(patience))...)
	if err := p.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for i := range int32(3) {
		produce(t, p, "out", i, fmt.Sprintf("p%d", i))
	}
	pid, epoch, err := p.ProducerID(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	addOffsets(t, p, "tx", "group", pid, epoch)
	stageOffset(t, p, "tx", "group", "in", 0, 10)
	stageOffset(t, p, "tx", "group", "in", 1, 11)
	b.Cluster().ControlKey(kmsg.EndTxn.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		decided = copyDir(t, dir)
		return nil, nil, false
	})
	if err := p.EndTransaction(testContext(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	return decided, copyDir(t, dir), pid, epoch
}

func addOffsets(t *testing.T, c *kgo.Client, txid, group string, pid int64, epoch int16) {
	t.Helper()
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = txid, pid, epoch, group
	resp, err := req.RequestWith(testContext(t), c)
	if err != nil || resp.ErrorCode != 0 {
		t.Fatalf("AddOffsetsToTxn: %v, code %d", err, resp.ErrorCode)
	}
}

// frames cuts appended bytes of a framed log into its frames.
func frames(raw []byte) [][]byte {
	var out [][]byte
	for len(raw) > 0 {
		n := 8 + int(binary.LittleEndian.Uint32(raw))
		out, raw = append(out, raw[:n]), raw[n:]
	}
	return out
}

// Every point at which a kill can hit between the decision of a transaction and its end: any set of partitions that have
// their marker, then the offsets one by one, then the producer's epoch. The transaction must be whole at each.
func TestADecidedTransactionIsWholeAfterAKillAtAnyPoint(t *testing.T) {
	for _, version := range []struct {
		name string
		opts []kgo.Opt
		end  int16
	}{
		{"epoch rises with each transaction", nil, 5},
		{"epoch stays", []kgo.Opt{kgo.MaxVersions(oldTransactions())}, 3},
	} {
		t.Run(version.name, func(t *testing.T) {
			decided, done, pid, epoch := ended(t, version.opts...)
			for _, c := range crashPoints(t, decided, done) {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					for again := range 2 { // the second start repairs what the first left: nothing may change
						b := start(t, embedded.Config{DataDir: c.dir})
						if got, want := committed(t, b, "out"), []string{"p0", "p1", "p2"}; !slices.Equal(got, want) {
							t.Errorf("start %d: committed records %v, want %v", again, got, want)
						}
						for i := range int32(2) {
							at, metadata := groupOffset(t, b, "group", "in", i)
							if want := int64(10 + i); at != want || metadata != fmt.Sprintf("n=%d", want) {
								t.Errorf("start %d: offset of in/%d is %d %q, want %d", again, i, at, metadata, want)
							}
						}
						if code := endTxn(t, b, "tx", pid, epoch, true, version.end); code != 0 {
							t.Errorf("start %d: the same EndTxn sent again: %v, want success", again, kerr.ErrorForCode(code))
						}
						if err := b.Close(); err != nil {
							t.Fatal(err)
						}
					}
				})
			}
		})
	}
}

type crashPoint struct{ name, dir string }

func crashPoints(t *testing.T, decided, done string) []crashPoint {
	t.Helper()
	added := grown(t, decided, done)
	var markers []string // one .dat and one .idx per partition
	for name := range added {
		if strings.HasSuffix(name, ".dat") {
			markers = append(markers, strings.TrimSuffix(name, ".dat"))
		}
	}
	slices.Sort(markers)
	if len(markers) != 3 || len(added["groups.log"]) == 0 || len(added["pids.log"]) == 0 {
		t.Fatalf("the end of a transaction wrote %d markers, %d bytes of offsets, %d of producers",
			len(markers), len(added["groups.log"]), len(added["pids.log"]))
	}
	var points []crashPoint
	build := func(name string, set uint, offsets, producers int) {
		dir := copyDir(t, decided)
		for i, m := range markers {
			if set&(1<<i) != 0 {
				appendTo(t, dir, m+".dat", added[m+".dat"])
				appendTo(t, dir, m+".idx", added[m+".idx"])
			}
		}
		for _, f := range frames(added["groups.log"])[:offsets] {
			appendTo(t, dir, "groups.log", f)
		}
		for _, f := range frames(added["pids.log"])[:producers] {
			appendTo(t, dir, "pids.log", f)
		}
		points = append(points, crashPoint{name, dir})
	}
	for set := range uint(8) {
		build(fmt.Sprintf("markers %03b", set), set, 0, 0)
	}
	all := len(frames(added["groups.log"]))
	for n := 1; n <= all; n++ {
		build(fmt.Sprintf("offsets %d", n), 7, n, 0)
	}
	for n := 1; n <= len(frames(added["pids.log"])); n++ {
		build(fmt.Sprintf("producers %d", n), 7, all, n)
	}
	return points
}

// The offsets of a transaction that was carried out must not come back over younger ones.
func TestAnOldTransactionDoesNotRewindOffsets(t *testing.T) {
	for name, opts := range map[string][]kgo.Opt{"epoch rises": nil, "epoch stays": {kgo.MaxVersions(oldTransactions())}} {
		t.Run(name, func(t *testing.T) {
			_, done, _, _ := ended(t, opts...)
			b := start(t, embedded.Config{DataDir: done})
			commitPlain(t, b, "group", "in", 0, 99)
			again := copyDir(t, done)
			c := start(t, embedded.Config{DataDir: again})
			if at, _ := groupOffset(t, c, "group", "in", 0); at != 99 {
				t.Errorf("offset %d, want the later 99", at)
			}
		})
	}
}

func commitPlain(t *testing.T, b *embedded.Broker, group, topic string, partition int32, offset int64) {
	t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = partition, offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	// Topic ids replaced names in version 10.
	c := client(t, b.Addrs(), kgo.MaxVersions(kversion.V3_5_0()))
	defer c.Close()
	resp, err := req.RequestWith(testContext(t), c)
	if err != nil {
		t.Fatal(err)
	}
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Fatalf("OffsetCommit: %v", kerr.ErrorForCode(code))
	}
}

// A transaction that was open at a kill is aborted for good: also after a second kill, when the same producer has
// committed another one behind it.
func TestRecordsOfAnAbortedTransactionStayAborted(t *testing.T) {
	dir := t.TempDir()
	b := start(t, embedded.Config{DataDir: dir, Topics: map[string]int{"out": 1}})
	p := producer(t, b, "tx")
	transact(t, p, "out", "before")
	if err := p.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, p, "out", 0, "ghost")

	for _, next := range []string{"second", "third"} {
		dir = copyDir(t, dir)
		b = start(t, embedded.Config{DataDir: dir})
		if got := committed(t, b, "out"); slices.Contains(got, "ghost") {
			t.Fatalf("before %s: committed records %v", next, got)
		}
		transact(t, producer(t, b, "tx"), "out", next)
	}
	b = start(t, embedded.Config{DataDir: copyDir(t, dir)})
	if got, want := committed(t, b, "out"), []string{"before", "second", "third"}; !slices.Equal(got, want) {
		t.Errorf("committed records %v, want %v", got, want)
	}
}

func transact(t *testing.T, p *kgo.Client, topic, value string) {
	t.Helper()
	if err := p.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, p, topic, 0, value)
	if err := p.EndTransaction(testContext(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
}

// A producer that comes back with the epoch of its lost transaction must not be told that its commit succeeded.
func TestALostTransactionIsNotAcknowledged(t *testing.T) {
	for _, v := range []struct {
		name    string
		version int16
		opts    []kgo.Opt
	}{{"epoch rises", 5, nil}, {"epoch stays", 3, []kgo.Opt{kgo.MaxVersions(oldTransactions())}}} {
		for _, withRecords := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, records %v", v.name, withRecords), func(t *testing.T) {
				dir := t.TempDir()
				b := start(t, embedded.Config{DataDir: dir, Topics: map[string]int{"out": 1, "in": 1}})
				p := client(t, b.Addrs(), append(v.opts, kgo.TransactionalID("tx"), kgo.TransactionTimeout(patience))...)
				transact(t, p, "out", "before")
				if err := b.Close(); err != nil { // a clean stop writes down that the last outcome was a commit
					t.Fatal(err)
				}
				b = start(t, embedded.Config{DataDir: dir})
				p = client(t, b.Addrs(), append(v.opts, kgo.TransactionalID("tx"), kgo.TransactionTimeout(patience))...)
				if err := p.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				pid, epoch, err := p.ProducerID(testContext(t))
				if err != nil {
					t.Fatal(err)
				}
				if withRecords {
					produce(t, p, "out", 0, "lost")
				}
				addOffsets(t, p, "tx", "group", pid, epoch)
				stageOffset(t, p, "tx", "group", "in", 0, 5)

				b = start(t, embedded.Config{DataDir: copyDir(t, dir)})
				if code := endTxn(t, b, "tx", pid, epoch, true, v.version); code == 0 {
					t.Error("the commit of a transaction that the restart aborted was acknowledged")
				}
				if got := committed(t, b, "out"); !slices.Equal(got, []string{"before"}) {
					t.Errorf("committed records %v", got)
				}
				if at, _ := groupOffset(t, b, "group", "in", 0); at != -1 {
					t.Errorf("offset %d was committed", at)
				}
			})
		}
	}
}

// The journal is rewritten when it has grown; open transactions must survive that.
func TestTheJournalStaysSmallAndKeepsOpenTransactions(t *testing.T) {
	dir := t.TempDir()
	b := start(t, embedded.Config{DataDir: dir, Topics: map[string]int{"out": 1, "in": 32}})
	open := producer(t, b, "open")
	if err := open.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	pid, epoch, err := open.ProducerID(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	stageOffset(t, open, "open", "group", "in", 0, 5)
	busy := producer(t, b, "busy")
	journal := filepath.Join(dir, "oncemill.journal")
	largest, shrank := int64(0), false
	for i := 0; !shrank; i++ {
		if i == 50 {
			t.Fatalf("the journal was not rewritten; it has %d bytes", largest)
		}
		if err := busy.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(t, busy, "out", 0, "busy")
		stageMany(t, b, busy, "busy")
		if err := busy.EndTransaction(testContext(t), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		size := fileSize(t, journal)
		shrank = size < largest
		largest = max(largest, size)
	}
	b = start(t, embedded.Config{DataDir: copyDir(t, dir)})
	if code := endTxn(t, b, "open", pid, epoch, true, 5); code == 0 {
		t.Error("the open transaction was forgotten: its commit was acknowledged")
	}
}

// stageMany stages an offset with the largest metadata that Kafka takes for each of 32 partitions.
func stageMany(t *testing.T, b *embedded.Broker, c *kgo.Client, txid string) {
	t.Helper()
	pid, epoch, err := c.ProducerID(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	metadata := strings.Repeat("m", 4096)
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = txid, "busy", pid, epoch, -1
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = "in", b.Cluster().TopicInfo("in").TopicID
	for i := range int32(32) {
		rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.Metadata = i, 1, &metadata
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	if _, err := req.RequestWith(testContext(t), c); err != nil {
		t.Fatal(err)
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A fetch that ends where its bytes run out leaves no record of an aborted transaction to a reader of committed ones: not in the
// partition in which it ends, nor for a position in the middle of the transaction.
func TestAbortedRecordsInFetchesThatAreCut(t *testing.T) {
	const partitions, batches = 4, 8
	b := start(t, embedded.Config{Topics: map[string]int{"out": partitions}})
	p := client(t, b.Addrs(), kgo.TransactionalID("tx"), kgo.TransactionTimeout(patience), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	write := func(value string, end kgo.TransactionEndTry) {
		if err := p.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for range batches {
			for i := range int32(partitions) {
				if err := p.ProduceSync(testContext(t), &kgo.Record{Topic: "out", Partition: i, Value: []byte(value)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := p.EndTransaction(testContext(t), end); err != nil {
			t.Fatal(err)
		}
	}
	write("aborted"+strings.Repeat("x", 100<<10), kgo.TryAbort)
	write("committed", kgo.TryCommit)
	for _, bytes := range []int32{1 << 10, 150 << 10, 700 << 10, 50 << 20} {
		c := client(t, b.Addrs(), kgo.ConsumeTopics("out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxBytes(bytes))
		for n := 0; n < partitions*batches; {
			fetches := c.PollFetches(testContext(t))
			if err := fetches.Err0(); err != nil {
				t.Fatal(err)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				if n++; string(r.Value) != "committed" {
					t.Fatalf("fetches of %d bytes: %s/%d@%d is of an aborted transaction", bytes, r.Topic, r.Partition, r.Offset)
				}
			})
		}
		c.Close()
	}
}
