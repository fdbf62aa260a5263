import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Interop BOOTSTRAP TOPIC CODEC COUNT: produces records.py's records, reads them back. */
public final class Interop {
    public static void main(String[] args) throws Exception {
        String bootstrap = args[0];
        String topic = args[1];
        int count = Integer.parseInt(args[3]);
        produce(bootstrap, topic, args[2], count);
        consume(bootstrap, topic, count);
        System.out.println("ok " + count);
    }

    static byte[] key(int number) {
        return number % 7 == 3 ? null : bytes("k" + number);
    }

    static byte[] value(int number) {
        return number % 14 == 5 ? null : bytes("v" + number + "-" + "x".repeat(number % 200));
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static void produce(String bootstrap, String topic, String codec, int count) throws Exception {
        Map<String, Object> config = Map.of(
            "bootstrap.servers", bootstrap,
            "compression.type", codec,
            "linger.ms", 50,
            "key.serializer", ByteArraySerializer.class,
            "value.serializer", ByteArraySerializer.class);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config)) {
            for (int number = 0; number < count; number++) {
                var record = new ProducerRecord<>(topic, 0, key(number), value(number));
                record.headers().add(new RecordHeader("number", bytes("" + number)));
                sent.add(producer.send(record));
            }
            producer.flush();
            for (int number = 0; number < count; number++) {
                expect("offset of " + number, (long) number, sent.get(number).get().offset());
            }
        }
    }

    static void consume(String bootstrap, String topic, int count) {
        Map<String, Object> config = Map.of(
            "bootstrap.servers", bootstrap,
            "enable.auto.commit", false,
            "key.deserializer", ByteArrayDeserializer.class,
            "value.deserializer", ByteArrayDeserializer.class);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config)) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            int number = 0;
            long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
            while (number < count) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException(number + " of " + count + " records came");
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    expect("offset", (long) number, record.offset());
                    expect("key of " + number, text(key(number)), text(record.key()));
                    expect("value of " + number, text(value(number)), text(record.value()));
                    expect("header of " + number, "" + number,
                        text(record.headers().lastHeader("number").value()));
                    number++;
                }
            }
        }
    }

    static String text(byte[] data) {
        return data == null ? null : new String(data, StandardCharsets.UTF_8);
    }

    static void expect(String what, Object wanted, Object got) {
        if (!Objects.equals(wanted, got)) {
            throw new IllegalStateException(what + ": expected " + wanted + ", got " + got);
        }
    }
}
