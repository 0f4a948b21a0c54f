package embedded_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/problem"
)

func TestADirectoryHasOneBroker(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	b := start(t, embedded.Config{DataDir: dir})
	_, err := embedded.Start(embedded.Config{DataDir: dir})
	if problem.CodeOf(err) != problem.DirectoryInUse || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Fatalf("a second broker on the same directory: %v; want %s with the process id", err, problem.DirectoryInUse)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, embedded.Config{DataDir: dir})
}

func TestAForeignDirectoryIsNotTouched(t *testing.T) {
	dir := t.TempDir()
	appendTo(t, dir, "thesis.txt", []byte("x"))
	_, err := embedded.Start(embedded.Config{DataDir: dir})
	if problem.CodeOf(err) != problem.DirectoryForeign {
		t.Fatalf("error %v, want %s", err, problem.DirectoryForeign)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("the directory now holds %v", entries)
	}
}

func TestANewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	appendTo(t, dir, "meta.json", []byte(`{"version":2,"cluster_id":"c"}`))
	if _, err := embedded.Start(embedded.Config{DataDir: dir}); problem.CodeOf(err) != problem.BadDurableBytes {
		t.Fatalf("error %v, want %s", err, problem.BadDurableBytes)
	}
}

// Each entry of a log has its own version.
func TestAnEntryOfANewerFormatIsRefused(t *testing.T) {
	for _, version := range []byte{1, 2} {
		dir := t.TempDir()
		appendTo(t, dir, "meta.json", []byte(`{"version":1,"cluster_id":"c"}`))
		body := append([]byte{version, 0}, `{"type":"init","pid":7}`...)
		entry := binary.LittleEndian.AppendUint32(nil, uint32(len(body)))
		entry = binary.LittleEndian.AppendUint32(entry, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
		appendTo(t, dir, "pids.log", append(entry, body...))
		b, err := embedded.Start(embedded.Config{DataDir: dir})
		if err == nil {
			err = b.Close()
		}
		want := problem.Code("")
		if version > 1 {
			want = problem.BadDurableBytes
		}
		if problem.CodeOf(err) != want {
			t.Errorf("an entry of version %d: %v, want %q", version, err, want)
		}
	}
}

func TestAPortInUseIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = embedded.Start(embedded.Config{Port: l.Addr().(*net.TCPAddr).Port})
	if problem.CodeOf(err) != problem.ListenFailed || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Fatalf("error %v, want %s with the address", err, problem.ListenFailed)
	}
}

func TestEveryMistakeOfAConfigIsListed(t *testing.T) {
	_, err := embedded.Start(embedded.Config{Port: -1, Brokers: -2, DefaultPartitions: -3, Topics: map[string]int{"t": 0}})
	for _, field := range []string{"Port", "Brokers", "DefaultPartitions", "Topics"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("error %v does not name %s", err, field)
		}
	}
	if problem.CodeOf(err) != problem.ConfigInvalid {
		t.Errorf("code %q", problem.CodeOf(err))
	}
}

func TestItListensOnTheLoopbackOnly(t *testing.T) {
	b := start(t, embedded.Config{Brokers: 3})
	if len(b.Addrs()) != 3 {
		t.Fatalf("addresses %v, want 3", b.Addrs())
	}
	for _, a := range b.Addrs() {
		if host, _, err := net.SplitHostPort(a); err != nil || !net.ParseIP(host).IsLoopback() {
			t.Errorf("address %s is not on the loopback interface", a)
		}
	}
}

func TestTopicsAreCreatedOnceAndKept(t *testing.T) {
	dir := t.TempDir()
	b := start(t, embedded.Config{DataDir: dir, Topics: map[string]int{"a": 3}})
	id := b.Cluster().TopicInfo("a").TopicID
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, embedded.Config{DataDir: dir, Topics: map[string]int{"a": 5, "b": 2}})
	if b.Cluster().TopicInfo("a").TopicID != id || len(b.Cluster().PartitionInfos("a")) != 3 {
		t.Error("the topic was created again")
	}
	if len(b.Cluster().PartitionInfos("b")) != 2 {
		t.Error("the new topic is missing")
	}
}

// A kill may cut any file short, and leave an index behind its segment.
func TestTornFilesAreMended(t *testing.T) {
	dir := t.TempDir()
	b := start(t, embedded.Config{DataDir: dir, Topics: map[string]int{"out": 1, "in": 1}})
	p := producer(t, b, "tx")
	transact(t, p, "out", "whole")
	commitPlain(t, b, "group", "in", 0, 7)
	if err := p.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, p, "out", 0, "open")

	torn := copyDir(t, dir)
	segment := filepath.Join("partitions", "out-0", "0")
	for _, name := range []string{segment + ".dat", "pids.log", "groups.log", "oncemill.journal"} {
		appendTo(t, torn, name, []byte{0, 0, 0, 30, 1, 2, 3})
	}
	index := filepath.Join(torn, segment+".idx")
	if err := os.Truncate(index, fileSize(t, index)-15); err != nil { // the entry of the open transaction's batch
		t.Fatal(err)
	}
	for again := range 2 {
		b = start(t, embedded.Config{DataDir: torn})
		if got := committed(t, b, "out"); !slices.Equal(got[:1], []string{"whole"}) || slices.Contains(got, "open") {
			t.Errorf("start %d: committed records %v", again, got)
		}
		want := int64(7 + again)
		if at, _ := groupOffset(t, b, "group", "in", 0); at != want {
			t.Errorf("start %d: offset %d, want %d", again, at, want)
		}
		// What is written behind the torn end must be found at the next start.
		commitPlain(t, b, "group", "in", 0, want+1)
		transact(t, producer(t, b, "tx"), "out", fmt.Sprintf("with %d", again))
		torn = copyDir(t, torn)
	}
	b = start(t, embedded.Config{DataDir: torn})
	if got, want := committed(t, b, "out"), []string{"whole", "with 0", "with 1"}; !slices.Equal(sortWhole(got), want) {
		t.Errorf("committed records %v, want %v", got, want)
	}
}

func sortWhole(values []string) []string {
	slices.Sort(values)
	return values
}

// An idempotent producer goes on across a kill of the broker, and a batch sent twice is stored once.
func TestSequenceNumbersSurvive(t *testing.T) {
	dir := t.TempDir()
	b := start(t, embedded.Config{DataDir: dir, Topics: map[string]int{"out": 1}})
	p := client(t, b.Addrs())
	produce(t, p, "out", 0, "1")
	if err := b.Close(); err != nil { // leaves sequence numbers that are old after the next kill
		t.Fatal(err)
	}
	port := portOf(t, b)
	b = start(t, embedded.Config{DataDir: dir, Port: port})
	produce(t, p, "out", 0, "2", "3")
	killed := copyDir(t, dir)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, embedded.Config{DataDir: killed, Port: port})
	produce(t, p, "out", 0, "4")
	if got, want := committed(t, b, "out"), []string{"1", "2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("records %v, want %v", got, want)
	}
}

// A batch whose acknowledgement died with the broker is sent again, and must be stored once.
func TestABatchSentAgainAfterAKillIsStoredOnce(t *testing.T) {
	dir := t.TempDir()
	b := start(t, embedded.Config{DataDir: dir, Topics: map[string]int{"out": 1}})
	var batch []byte
	b.Cluster().ControlKey(kmsg.Produce.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		batch = slices.Clone(r.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records)
		return nil, nil, false
	})
	produce(t, client(t, b.Addrs()), "out", 0, "once")
	b = start(t, embedded.Config{DataDir: copyDir(t, dir)})
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 1000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = "out", b.Cluster().TopicInfo("out").TopicID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(testContext(t), client(t, b.Addrs()))
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Topics[0].Partitions[0]; got.ErrorCode != 0 || got.BaseOffset != 0 {
		t.Errorf("code %d, offset %d; want success and the first offset", got.ErrorCode, got.BaseOffset)
	}
	if got := committed(t, b, "out"); !slices.Equal(got, []string{"once"}) {
		t.Errorf("records %v", got)
	}
}

func portOf(t *testing.T, b *embedded.Broker) int {
	t.Helper()
	_, port, err := net.SplitHostPort(b.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Offsets are never given out twice, also when every record of a partition was deleted.
func TestOffsetsContinueAfterAllRecordsWereDeleted(t *testing.T) {
	for _, clean := range []bool{true, false} {
		for _, offset := range []int64{-1, 3} {
			t.Run(fmt.Sprintf("clean %v, to %d", clean, offset), func(t *testing.T) {
				dir := t.TempDir()
				b := start(t, embedded.Config{DataDir: dir, Topics: map[string]int{"out": 1}})
				c := client(t, b.Addrs())
				produce(t, c, "out", 0, "1", "2", "3")
				var to kadm.Offsets
				to.Add(kadm.Offset{Topic: "out", Partition: 0, At: offset})
				deleted, err := kadm.NewClient(c).DeleteRecords(testContext(t), to)
				if err := errors.Join(err, deleted.Error()); err != nil {
					t.Fatal(err)
				}
				if clean {
					if err := b.Close(); err != nil {
						t.Fatal(err)
					}
				}
				for range 2 {
					dir = copyDir(t, dir)
					b = start(t, embedded.Config{DataDir: dir})
					info := b.Cluster().PartitionInfo("out", 0)
					if info.HighWatermark != 3 {
						t.Fatalf("the log ends at %d, want 3", info.HighWatermark)
					}
				}
				r := &kgo.Record{Topic: "out", Value: []byte("4")}
				if err := client(t, b.Addrs()).ProduceSync(testContext(t), r).FirstErr(); err != nil || r.Offset != 3 {
					t.Errorf("the next record has offset %d (%v), want 3", r.Offset, err)
				}
			})
		}
	}
}

// A group continues from its committed offsets, and its members find their way back.
func TestAGroupContinuesAfterAKill(t *testing.T) {
	dir := t.TempDir()
	b := start(t, embedded.Config{DataDir: dir, Topics: map[string]int{"in": 1}})
	port := portOf(t, b)
	produce(t, client(t, b.Addrs()), "in", 0, "1", "2")
	member := client(t, b.Addrs(), kgo.ConsumerGroup("g"), kgo.InstanceID("one"), kgo.ConsumeTopics("in"), kgo.DisableAutoCommit(),
		kgo.HeartbeatInterval(patience/300), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for n := 0; n < 2; {
		fetches := member.PollFetches(testContext(t))
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		n += fetches.NumRecords()
	}
	if err := member.CommitUncommittedOffsets(testContext(t)); err != nil {
		t.Fatal(err)
	}
	killed := copyDir(t, dir)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, embedded.Config{DataDir: killed, Port: port})
	produce(t, client(t, b.Addrs()), "in", 0, "3")
	for ctx := testContext(t); ; {
		fetches := member.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatal(err)
		}
		if fetches.NumRecords() == 0 {
			continue // the connection broke, or the group is being joined
		}
		if r := fetches.Records()[0]; string(r.Value) != "3" {
			t.Fatalf("the first record after the restart is %s, want 3", r.Value)
		}
		return
	}
}
