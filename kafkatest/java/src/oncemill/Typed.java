package oncemill;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/**
 * Speaks each format of {@link Formats} through typed producers and consumers, on partition 0 of one topic per format,
 * named PREFIX-FORMAT: {@code Typed BOOTSTRAP produce|print PREFIX}. A value is sent as key and as value; print prints
 * both as text.
 */
public final class Typed {
    private Typed() {}

    public static void main(String[] args) throws ExecutionException, InterruptedException {
        for (Formats.Format<?> format : Formats.all()) {
            String topic = args[2] + "-" + format.name();
            switch (args[1]) {
                case "produce" -> produce(args[0], topic, format);
                case "print" -> print(args[0], topic, format);
                default -> throw new IllegalArgumentException(args[1]);
            }
        }
    }

    private static <T> void produce(String bootstrap, String topic, Formats.Format<T> format)
            throws ExecutionException, InterruptedException {
        Properties properties = Lines.cluster(bootstrap);
        properties.put("max.block.ms", "10000"); // a missing topic
        try (KafkaProducer<T, T> producer =
                new KafkaProducer<>(properties, format.serializer(), format.serializer())) {
            for (T value : format.values()) {
                producer.send(new ProducerRecord<>(topic, 0, value, value)).get();
            }
        }
    }

    private static <T> void print(String bootstrap, String topic, Formats.Format<T> format) {
        Properties properties = Lines.cluster(bootstrap);
        properties.put("enable.auto.commit", "false");
        try (KafkaConsumer<T, T> consumer =
                new KafkaConsumer<>(properties, format.deserializer(), format.deserializer())) {
            List<TopicPartition> partitions = List.of(new TopicPartition(topic, 0));
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            while (consumer.position(partitions.get(0)) < ends.get(partitions.get(0))) {
                for (ConsumerRecord<T, T> r : consumer.poll(Duration.ofMillis(100))) {
                    ObjectNode line = Lines.object();
                    line.put("format", format.name());
                    line.put("key", format.textOf(r.key()));
                    line.put("value", format.textOf(r.value()));
                    System.out.println(Lines.text(line));
                }
            }
        }
    }
}
