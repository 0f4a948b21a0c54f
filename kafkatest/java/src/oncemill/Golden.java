package oncemill;

import com.fasterxml.jackson.databind.node.ObjectNode;
import com.google.protobuf.DoubleValue;
import com.google.protobuf.Int64Value;
import com.google.protobuf.Message;
import com.google.protobuf.StringValue;
import com.google.protobuf.Timestamp;
import java.io.IOException;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;

/**
 * Writes the golden files of package serde: {@code Golden DIRECTORY}. One file per format, one JSON object per line with
 * the value as text and its bytes in hexadecimal; null stands for null.
 */
public final class Golden {
    private final Path directory;

    private Golden(Path directory) {
        this.directory = directory;
    }

    public static void main(String[] args) throws IOException {
        Golden golden = new Golden(Path.of(args[0]));
        Files.createDirectories(golden.directory);
        for (Formats.Format<?> format : Formats.all()) {
            if (!format.name().equals("protobuf")) {
                golden.write(format);
            }
        }
        golden.messages();
    }

    private <T> void write(Formats.Format<T> format) throws IOException {
        List<ObjectNode> lines = new ArrayList<>();
        for (T value : format.values()) {
            lines.add(line(format.textOf(value), format.serializer().serialize("t", value)));
        }
        write(format.name(), format.origin(), lines);
    }

    private void messages() throws IOException {
        List<ObjectNode> lines = new ArrayList<>();
        for (Message m : new Message[] {StringValue.getDefaultInstance(), StringValue.of("Gr\u00fc\u00dfe \ud83d\ude80"),
                Int64Value.of(-1), Int64Value.of(Long.MIN_VALUE), DoubleValue.of(-2.5),
                Timestamp.newBuilder().setSeconds(-62135596800L).setNanos(999_999_999).build()}) {
            ObjectNode line = line(m.toString().strip(), m.toByteArray());
            line.put("message", m.getDescriptorForType().getFullName());
            lines.add(line);
        }
        write("protobuf", Message.class, lines);
    }

    private static ObjectNode line(String value, byte[] encoded) {
        ObjectNode line = Lines.object();
        line.put("value", value);
        line.put("hex", encoded == null ? null : HexFormat.of().formatHex(encoded));
        return line;
    }

    private void write(String format, Class<?> origin, List<ObjectNode> lines) throws IOException {
        Path archive = Path.of(origin.getProtectionDomain().getCodeSource().getLocation().getPath()).getFileName();
        try (Writer out = Files.newBufferedWriter(directory.resolve(format + ".jsonl"))) {
            out.write("# " + origin.getName() + " of " + archive + "\n");
            for (ObjectNode line : lines) {
                out.write(Lines.text(line) + "\n");
            }
        }
    }
}
