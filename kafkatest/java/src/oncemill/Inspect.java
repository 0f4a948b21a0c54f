package oncemill;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionListing;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;

/**
 * Prints what the cluster says of itself, one JSON object per line:
 * {@code Inspect BOOTSTRAP offsets TOPIC | transactions | group GROUP}.
 */
public final class Inspect {
    private Inspect() {}

    public static void main(String[] args) throws ExecutionException, InterruptedException {
        try (Admin admin = Admin.create(Lines.cluster(args[0]))) {
            switch (args[1]) {
                case "offsets" -> offsets(admin, args[2]);
                case "transactions" -> transactions(admin);
                case "group" -> group(admin, args[2]);
                default -> throw new IllegalArgumentException(args[1]);
            }
        }
    }

    private static void offsets(Admin admin, String topic) throws ExecutionException, InterruptedException {
        List<TopicPartition> partitions = new ArrayList<>();
        for (TopicPartitionInfo p : admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions()) {
            partitions.add(new TopicPartition(topic, p.partition()));
        }
        var earliest = offsets(admin, partitions, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED);
        var stable = offsets(admin, partitions, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED);
        var latest = offsets(admin, partitions, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED);
        for (TopicPartition p : partitions) {
            ObjectNode line = Lines.object();
            line.put("partition", p.partition());
            line.put("earliest", earliest.get(p).offset());
            line.put("stable", stable.get(p).offset());
            line.put("latest", latest.get(p).offset());
            System.out.println(Lines.text(line));
        }
    }

    private static Map<TopicPartition, ListOffsetsResultInfo> offsets(Admin admin, List<TopicPartition> partitions,
            OffsetSpec spec, IsolationLevel isolation) throws ExecutionException, InterruptedException {
        Map<TopicPartition, OffsetSpec> specs = new HashMap<>();
        for (TopicPartition p : partitions) {
            specs.put(p, spec);
        }
        return admin.listOffsets(specs, new ListOffsetsOptions(isolation)).all().get();
    }

    private static void transactions(Admin admin) throws ExecutionException, InterruptedException {
        for (TransactionListing listing : admin.listTransactions().all().get()) {
            String id = listing.transactionalId();
            TransactionDescription d = admin.describeTransactions(List.of(id)).description(id).get();
            ObjectNode line = Lines.object();
            line.put("id", id);
            line.put("state", d.state().toString());
            line.put("producerID", d.producerId());
            line.put("producerEpoch", d.producerEpoch());
            line.put("timeoutMilliseconds", d.transactionTimeoutMs());
            line.put("startMilliseconds", d.transactionStartTimeMs().orElse(-1));
            partitions(line.putArray("partitions"), d.topicPartitions());
            System.out.println(Lines.text(line));
        }
    }

    private static void group(Admin admin, String id) throws ExecutionException, InterruptedException {
        ConsumerGroupDescription d = admin.describeConsumerGroups(List.of(id)).describedGroups().get(id).get();
        ObjectNode line = Lines.object();
        line.put("id", id);
        line.put("type", d.type().toString());
        line.put("state", d.groupState().toString());
        line.put("assignor", d.partitionAssignor());
        ArrayNode members = line.putArray("members");
        for (MemberDescription m : d.members()) {
            ObjectNode member = members.addObject();
            member.put("id", m.consumerId());
            member.put("instanceID", m.groupInstanceId().orElse(""));
            member.put("clientID", m.clientId());
            partitions(member.putArray("partitions"), m.assignment().topicPartitions());
        }
        ArrayNode offsets = line.putArray("offsets");
        Map<TopicPartition, OffsetAndMetadata> committed =
                admin.listConsumerGroupOffsets(id).partitionsToOffsetAndMetadata().get();
        committed.forEach((p, o) -> {
            if (o != null) {
                offsets.addObject().put("topic", p.topic()).put("partition", p.partition()).put("offset", o.offset())
                        .put("leaderEpoch", o.leaderEpoch().orElse(-1)).put("metadata", o.metadata());
            }
        });
        System.out.println(Lines.text(line));
    }

    private static void partitions(ArrayNode to, Iterable<TopicPartition> from) {
        for (TopicPartition p : from) {
            to.addObject().put("topic", p.topic()).put("partition", p.partition());
        }
    }
}
