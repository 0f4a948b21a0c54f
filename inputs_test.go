package oncemill_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// An input that lost its end, as in an unclean election of a leader, is refused; accepted by name, what comes from its end on is
// new. Its records have no ids, so what their outputs have is made of positions, and comes a second time at those that were lost.
func TestInputThatLostItsEndIsRefusedUntilItIsAccepted(t *testing.T) {
	b, cfg := stateOf(t)
	ends, lost := [2]int64{}, 0
	for p := range ends {
		if ends[p] = b.Cluster().PartitionInfo("words", int32(p)).HighWatermark; ends[p] > 0 {
			ends[p]--
			lost++
		}
	}
	b.Cluster().ControlKey(kmsg.ListOffsets.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.Cluster().KeepControl()
		req := r.(*kmsg.ListOffsetsRequest)
		asked := req.Topics[0].Partitions[0]
		if req.Topics[0].Topic != "words" || asked.Timestamp != -1 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		topic, p := kmsg.NewListOffsetsResponseTopic(), kmsg.NewListOffsetsResponseTopicPartition()
		topic.Topic, p.Partition, p.Offset = "words", asked.Partition, ends[asked.Partition]
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	refuse(t, cfg, problem.InputTruncated, "words/", "1 records that were processed are gone", `name "words" in Config.AcceptRecreated`)
	cfg.AcceptRecreated = []string{"words"}
	countWordsAfter(t, b, cfg, lost, 3)
	sum := int64(0)
	for _, n := range lastTotals(t, b) {
		sum += n
	}
	if want := int64(5 + lost + 3); sum != want || lost == 0 { // what lies at the lost positions now counts as new
		t.Errorf("%d words were counted, want %d, of which %d lie at positions that were lost", sum, want, lost)
	}
	ids, twice := map[string]bool{}, 0
	eachTotal(t, b, func(r *kgo.Record) {
		for _, h := range r.Headers {
			if h.Key == record.HeaderID && ids[string(h.Value)] {
				twice++
			} else if h.Key == record.HeaderID {
				ids[string(h.Value)] = true
			}
		}
	})
	if twice != lost {
		t.Errorf("%d output ids came twice, want those of %d lost positions", twice, lost)
	}
}

// Records that are gone before they were processed are skipped on purpose only, with the command and the setting of the refusal.
func TestRecordsThatAreGoneAreSkippedOnPurposeOnly(t *testing.T) {
	b, cfg := stateOf(t)
	client := clientOf(t, b)
	admin := kadm.NewClient(client)
	sendWords(t.Context(), t, client, 3)
	offsets := kadm.Offsets{}
	for p := range int32(2) {
		end := b.Cluster().PartitionInfo("words", p).HighWatermark
		if err := b.Cluster().DeleteRecords("words", p, end); err != nil {
			t.Fatal(err)
		}
		offsets.Add(kadm.Offset{Topic: "words", Partition: p, At: end, LeaderEpoch: -1})
	}
	refuse(t, cfg, problem.OffsetOutOfRange, "records are gone", "kafka-consumer-groups.sh --bootstrap-server "+b.Addrs()[0]+" --reset-offsets --to-offset",
		"--group owner --topic words:", "start with Config.AcceptSkip")
	if _, err := admin.LeaveGroup(t.Context(), kadm.LeaveGroup("owner").InstanceIDs("one-0")); err != nil {
		t.Fatal(err)
	}
	if err := admin.CommitAllOffsets(t.Context(), "owner", offsets); err != nil {
		t.Fatal(err)
	}
	refuse(t, cfg, problem.OffsetAhead, "or skip the records between with Config.AcceptSkip")
	cfg.AcceptSkip = true
	countWords(t, b, cfg, 3)
	wantTotals(t, b, "key-0 3", "key-1 3", "key-2 2")
}
