// Package logtail tells the end of a log from a silence. That no record has come for a while proves nothing: a broker may be
// slow, throttled or away. Only the answer to a fetch proves something.
package logtail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Log is one partition, read with read_committed, control records included.
type Log struct {
	Topic     string
	TopicID   [16]byte
	Partition int32
}

var (
	// ErrRecords says that records are there, below the end.
	ErrRecords = errors.New("logtail: there are records")
	// ErrOpen says that a transaction is open below the end, so that what comes is not known yet.
	ErrOpen = errors.New("logtail: a transaction is open")
)

const (
	maxBytes = 1 << 20
	maxWait  = 500 * time.Millisecond
)

// Empty returns nil if the leader of the log answers that no record lies in [from, end): batches that compaction has emptied,
// or nothing at all. ErrRecords and ErrOpen say that it is not so, or not yet; any other error, that there was no answer.
// The client consumes the topic or produces to it, and so knows its leader.
func Empty(ctx context.Context, client *kgo.Client, log Log, from, end int64) error {
	for from < end {
		p, err := fetch(ctx, client, log, from)
		if err != nil {
			return err
		}
		if len(p.RecordBatches) == 0 {
			if p.LastStableOffset < end {
				return ErrOpen
			}
			return nil
		}
		read, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: from, IsolationLevel: kgo.ReadCommitted(),
			KeepControlRecords: true, Topic: log.Topic, Partition: log.Partition}, p, kgo.DefaultDecompressor(), nil)
		if read.Err != nil {
			return fmt.Errorf("fetch of %s/%d at %d: %w", log.Topic, log.Partition, from, read.Err)
		}
		if len(read.Records) > 0 && read.Records[0].Offset < end {
			return ErrRecords
		}
		if next <= from {
			return fmt.Errorf("fetch of %s/%d at %d: %d bytes without a whole batch", log.Topic, log.Partition, from, len(p.RecordBatches))
		}
		from = next
	}
	return nil
}

// fetch asks the leader once.
func fetch(ctx context.Context, client *kgo.Client, log Log, from int64) (*kmsg.FetchResponseTopicPartition, error) {
	leader, epoch, err := client.PartitionLeader(log.Topic, log.Partition)
	if err != nil {
		return nil, err
	}
	if leader < 0 {
		return nil, fmt.Errorf("%s/%d has no leader", log.Topic, log.Partition)
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel = int32(maxWait.Milliseconds()), 1, maxBytes, 1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = log.Topic, log.TopicID
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.CurrentLeaderEpoch, p.PartitionMaxBytes = log.Partition, from, epoch, maxBytes
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	answer, err := client.Broker(int(leader)).Request(ctx, req)
	if err != nil {
		return nil, err
	}
	return find(answer.(*kmsg.FetchResponse), log)
}

// find takes the partition out of an answer. One that is missing there was not answered: a broker that throttles us does that.
func find(answer *kmsg.FetchResponse, log Log) (*kmsg.FetchResponseTopicPartition, error) {
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return nil, err
	}
	for i := range answer.Topics {
		t := &answer.Topics[i]
		if t.Topic != log.Topic && t.TopicID != log.TopicID {
			continue
		}
		for j := range t.Partitions {
			if p := &t.Partitions[j]; p.Partition == log.Partition {
				return p, kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
	return nil, fmt.Errorf("no answer for %s/%d, throttled for %d ms", log.Topic, log.Partition, answer.ThrottleMillis)
}
