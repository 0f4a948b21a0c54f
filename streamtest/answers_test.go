package streamtest_test

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/streamtest"
)

// onEach has the brokers show each request of a kind. A nil answer leaves it to them.
func onEach[R kmsg.Request](c *streamtest.Cluster, answer func(req R) kmsg.Response) {
	var kind R
	c.Broker().ControlKey(kind.Key(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.Broker().KeepControl()
		resp := answer(req.(R))
		return resp, nil, resp != nil
	})
}

// watchEach is onEach for who only looks.
func watchEach[R kmsg.Request](c *streamtest.Cluster, look func(req R)) {
	onEach(c, func(req R) kmsg.Response {
		look(req)
		return nil
	})
}

// listed answers a request for offsets of one partition of each topic.
func listed(list *kmsg.ListOffsetsRequest, offset func(topic string, of kmsg.ListOffsetsRequestTopicPartition) int64) kmsg.Response {
	resp := list.ResponseKind().(*kmsg.ListOffsetsResponse)
	for _, topic := range list.Topics {
		out, p := kmsg.NewListOffsetsResponseTopic(), kmsg.NewListOffsetsResponseTopicPartition()
		out.Topic = topic.Topic
		p.Partition, p.Offset = topic.Partitions[0].Partition, offset(topic.Topic, topic.Partitions[0])
		out.Partitions = append(out.Partitions, p)
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

// produced answers a request to write, each partition as the function fills it in.
func produced(p *kmsg.ProduceRequest, fill func(topic kmsg.ProduceRequestTopic, out *kmsg.ProduceResponseTopicPartition)) kmsg.Response {
	resp := p.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range p.Topics {
		out := kmsg.NewProduceResponseTopic()
		out.Topic, out.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			at := kmsg.NewProduceResponseTopicPartition()
			at.Partition = partition.Partition
			fill(topic, &at)
			out.Partitions = append(out.Partitions, at)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

// epochsEnd answers that all epochs that a request asks for ended at an offset.
func epochsEnd(epochs *kmsg.OffsetForLeaderEpochRequest, at int64) kmsg.Response {
	resp := epochs.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	for _, topic := range epochs.Topics {
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = topic.Topic
		for _, p := range topic.Partitions {
			part := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			part.Partition, part.LeaderEpoch, part.EndOffset = p.Partition, p.LeaderEpoch, at
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}
