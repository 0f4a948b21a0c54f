package oncemill;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.StringValue;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.UUID;
import java.util.function.Function;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.BooleanDeserializer;
import org.apache.kafka.common.serialization.BooleanSerializer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.DoubleDeserializer;
import org.apache.kafka.common.serialization.DoubleSerializer;
import org.apache.kafka.common.serialization.IntegerDeserializer;
import org.apache.kafka.common.serialization.IntegerSerializer;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.LongSerializer;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.serialization.UUIDDeserializer;
import org.apache.kafka.common.serialization.UUIDSerializer;

/** The formats of package serde as Java has them, each with values that are easy to get wrong. */
final class Formats {
    static final ObjectMapper DOCUMENTS = new ObjectMapper();

    /** Text that is easy to get wrong in any encoding. */
    private static final String[] TEXTS = {null, "", "a", "order-17", " tab\tnewline\n", "\u0000",
            "Gr\u00fc\u00dfe", "\u65e5\u672c\u8a9e", "\u0645\u0631\u062d\u0628\u0627", "\ud83d\ude80", "e\u0301",
            "\ufeff"};

    /**
     * One format. The text of a value is what the Go side compares; origin is the class that writes the bytes.
     */
    record Format<T>(String name, Class<?> origin, Serializer<T> serializer, Deserializer<T> deserializer,
            Function<T, String> text, List<T> values) {
        String textOf(T value) {
            return value == null ? null : text.apply(value);
        }
    }

    private Formats() {}

    static List<Format<?>> all() {
        List<Format<?>> formats = new ArrayList<>(List.of(
                of("string", new StringSerializer(), new StringDeserializer(), TEXTS),
                of("uuid", new UUIDSerializer(), new UUIDDeserializer(), null, new UUID(0, 0), new UUID(-1, -1),
                        new UUID(Long.MIN_VALUE, Long.MAX_VALUE),
                        UUID.fromString("F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6"),
                        UUID.nameUUIDFromBytes(new byte[] {1, 2, 3})),
                of("int32", new IntegerSerializer(), new IntegerDeserializer(), null, 0, 1, -1, 255, 256, -256,
                        1_000_000, Integer.MAX_VALUE, Integer.MIN_VALUE),
                of("int64", new LongSerializer(), new LongDeserializer(), null, 0L, 1L, -1L, 255L, 1L << 32,
                        -(1L << 32), 1_700_000_000_000L, Long.MAX_VALUE, Long.MIN_VALUE),
                of("float64", new DoubleSerializer(), new DoubleDeserializer(), null, 0.0, -0.0, 1.0, -1.0, 0.1,
                        -2.5e300, Math.PI, Double.MAX_VALUE, Double.MIN_VALUE, Double.POSITIVE_INFINITY,
                        Double.NEGATIVE_INFINITY, Double.NaN, Double.longBitsToDouble(0x7ff8000000000001L),
                        Double.longBitsToDouble(0xfff0000000000123L)),
                of("bool", new BooleanSerializer(), new BooleanDeserializer(), null, true, false)));
        formats.add(new Format<>("bytes", ByteArraySerializer.class, new ByteArraySerializer(),
                new ByteArrayDeserializer(), HexFormat.of()::formatHex,
                Arrays.asList(null, new byte[] {}, new byte[] {0}, new byte[] {-1}, new byte[] {0, 1, 127, -128, -1},
                        new byte[] {'n', 'u', 'l', 'l'})));
        formats.add(json());
        formats.add(protobuf());
        return formats;
    }

    @SafeVarargs
    private static <T> Format<T> of(String name, Serializer<T> serializer, Deserializer<T> deserializer, T... values) {
        return new Format<>(name, serializer.getClass(), serializer, deserializer, T::toString, Arrays.asList(values));
    }

    /** Its text is the field of that name: the documents are equal otherwise. */
    private static Format<JsonNode> json() {
        List<JsonNode> documents = new ArrayList<>();
        for (String text : new String[] {"", "Gr\u00fc\u00dfe \ud83d\ude80", "<a href=\"x\">&</a>", "line\u2028end"}) {
            ObjectNode document = DOCUMENTS.createObjectNode();
            document.put("text", text);
            document.put("count", Long.MIN_VALUE);
            document.put("ratio", -2.5);
            document.putArray("tags").add("b").add("a");
            document.putNull("absent");
            document.put("unknownToGo", true);
            documents.add(document);
        }
        return new Format<>("json", ObjectMapper.class, (topic, document) -> {
            try {
                return DOCUMENTS.writeValueAsBytes(document);
            } catch (JsonProcessingException e) {
                throw new SerializationException(e);
            }
        }, (topic, bytes) -> {
            try {
                return DOCUMENTS.readTree(bytes);
            } catch (IOException e) {
                throw new SerializationException(e);
            }
        }, document -> document.get("text").textValue(), documents);
    }

    private static Format<StringValue> protobuf() {
        return new Format<>("protobuf", StringValue.class, (topic, message) -> message.toByteArray(),
                (topic, bytes) -> {
                    try {
                        return StringValue.parseFrom(bytes);
                    } catch (InvalidProtocolBufferException e) {
                        throw new SerializationException(e);
                    }
                }, StringValue::getValue,
                List.of(StringValue.getDefaultInstance(), StringValue.of("Gr\u00fc\u00dfe \ud83d\ude80")));
    }
}
