package oncemill;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Prints the records of topics, one JSON object per line with keys, values and headers in base64, from the beginning up
 * to the end offsets of the moment: {@code Dump BOOTSTRAP TOPIC[,TOPIC...] ISOLATION [PARTITION...]}. Under
 * read_committed the end is the last stable offset, so that an open transaction does not make it wait.
 */
public final class Dump {
    private Dump() {}

    public static void main(String[] args) {
        Properties properties = Lines.cluster(args[0]);
        properties.put("isolation.level", args[2]);
        properties.put("auto.offset.reset", "none");
        properties.put("enable.auto.commit", "false");
        properties.put("allow.auto.create.topics", "false");
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        PrintStream out = new PrintStream(new BufferedOutputStream(System.out, 1 << 16), false, StandardCharsets.US_ASCII);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties, bytes, bytes)) {
            dump(consumer, partitions(consumer, args), out);
        }
        out.flush();
        if (out.checkError()) {
            throw new IllegalStateException("standard output is closed");
        }
    }

    private static List<TopicPartition> partitions(KafkaConsumer<?, ?> consumer, String[] args) {
        List<TopicPartition> partitions = new ArrayList<>();
        for (String topic : args[1].split(",")) {
            for (int i = 3; i < args.length; i++) {
                partitions.add(new TopicPartition(topic, Integer.parseInt(args[i])));
            }
            if (args.length == 3) {
                partitions.addAll(all(consumer, topic));
            }
        }
        return partitions;
    }

    private static List<TopicPartition> all(KafkaConsumer<?, ?> consumer, String topic) {
        List<PartitionInfo> known = consumer.partitionsFor(topic);
        if (known == null || known.isEmpty()) {
            throw new IllegalArgumentException("topic " + topic + " does not exist");
        }
        List<TopicPartition> partitions = new ArrayList<>();
        for (PartitionInfo p : known) {
            partitions.add(new TopicPartition(p.topic(), p.partition()));
        }
        return partitions;
    }

    /** A partition that reached its end is paused, so that the others are not kept waiting by new records in it. */
    private static void dump(KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> partitions, PrintStream out) {
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        while (true) {
            ends.entrySet().removeIf(end -> {
                boolean reached = consumer.position(end.getKey()) >= end.getValue();
                if (reached) {
                    consumer.pause(List.of(end.getKey()));
                }
                return reached;
            });
            if (ends.isEmpty()) {
                return;
            }
            for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(100))) {
                if (r.offset() < ends.get(new TopicPartition(r.topic(), r.partition()))) {
                    out.println(Lines.text(line(r)));
                }
            }
        }
    }

    private static ObjectNode line(ConsumerRecord<byte[], byte[]> r) {
        ObjectNode line = Lines.object();
        line.put("topic", r.topic());
        line.put("partition", r.partition());
        line.put("offset", r.offset());
        line.put("timestamp", r.timestamp());
        line.put("leaderEpoch", r.leaderEpoch().orElse(-1));
        line.put("key", r.key());
        line.put("value", r.value());
        ArrayNode headers = line.putArray("headers");
        for (Header h : r.headers()) {
            headers.addObject().put("key", h.key()).put("value", h.value());
        }
        return line;
    }
}
