//go:build kafka

package kafkatest

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// joinGroup makes id a member of a group, a new one if it is empty, and returns its id and the generation.
func joinGroup(t *testing.T, client *kgo.Client, group, id string) (string, int32) {
	t.Helper()
	for {
		join := kmsg.NewPtrJoinGroupRequest()
		join.Group, join.MemberID, join.ProtocolType = group, id, "consumer"
		join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 30_000, 30_000
		join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "test"}}
		joined, err := join.RequestWith(testContext(t), client)
		if err != nil {
			t.Fatal(err)
		}
		id = joined.MemberID
		err = kerr.ErrorForCode(joined.ErrorCode)
		if errors.Is(err, kerr.MemberIDRequired) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Group, sync.MemberID, sync.Generation = group, id, joined.Generation
		protocol, name := "consumer", "test"
		sync.ProtocolType, sync.Protocol = &protocol, &name
		sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: id}}
		synced, err := sync.RequestWith(testContext(t), client)
		if err == nil {
			err = kerr.ErrorForCode(synced.ErrorCode)
		}
		if err != nil {
			t.Fatal(err)
		}
		return id, joined.Generation
	}
}

// commitAs commits an offset in the client's open transaction as that member, and returns what the coordinator says.
func commitAs(t *testing.T, client *kgo.Client, txn, group, topic, member string, generation int32) error {
	t.Helper()
	producer, epoch, err := client.ProducerID(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = txn, group, producer, epoch
	req.MemberID, req.Generation = member, generation
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Offset, p.LeaderEpoch = 1, -1
	in := kmsg.NewTxnOffsetCommitRequestTopic()
	in.Topic, in.Partitions = topic, []kmsg.TxnOffsetCommitRequestTopicPartition{p}
	req.Topics = append(req.Topics, in)
	resp, err := req.RequestWith(testContext(t), client)
	if err != nil {
		t.Fatal(err)
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// TestCoordinatorRefusesAFormerMember is what rule R7 builds on: an offset commit inside a transaction names the member and its
// generation, and the group coordinator takes it from none but a present member of the present generation.
func TestCoordinatorRefusesAFormerMember(t *testing.T) {
	client := newClient(t, shared, kgo.TransactionalID(t.Name()))
	topic := newTopic(t, client, 1, "")
	group := t.Name()
	begin(t, client, topic, "a")
	id, first := joinGroup(t, client, group, "")
	_, second := joinGroup(t, client, group, id)
	if second <= first {
		t.Fatalf("generation %d, then %d", first, second)
	}
	if err := commitAs(t, client, t.Name(), group, topic, id, first); !errors.Is(err, kerr.IllegalGeneration) {
		t.Errorf("a former generation: %v", err)
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = group
	member := kmsg.NewLeaveGroupRequestMember()
	member.MemberID = id
	leave.MemberID, leave.Members = id, []kmsg.LeaveGroupRequestMember{member}
	left, err := leave.RequestWith(testContext(t), client)
	if err == nil {
		err = kerr.ErrorForCode(left.ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := commitAs(t, client, t.Name(), group, topic, id, second); !errors.Is(err, kerr.UnknownMemberID) {
		t.Errorf("a former member: %v", err)
	}
	now, generation := joinGroup(t, client, group, "")
	if err := commitAs(t, client, t.Name(), group, topic, now, generation); err != nil {
		t.Errorf("a member: %v", err)
	}
	if err := client.EndTransaction(testContext(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
}
