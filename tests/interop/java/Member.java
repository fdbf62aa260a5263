// Member.java BOOTSTRAP TOPIC GROUP eager|cooperative|static: a member of a group.
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class Member {
    public static void main(String[] args) throws Exception {
        boolean cooperative = args[3].equals("cooperative");
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        settings.put("group.id", args[2]);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("session.timeout.ms", "10000");
        settings.put("heartbeat.interval.ms", "500");
        settings.put("partition.assignment.strategy",
            cooperative ? CooperativeStickyAssignor.class.getName() : RangeAssignor.class.getName());
        if (args[3].equals("static")) {
            settings.put("group.instance.id", "member");
        }
        settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings)) {
            consumer.subscribe(List.of(args[1]));
            Thread reader = new Thread(() -> {
                try {
                    while (System.in.read() >= 0) { }
                } catch (java.io.IOException error) {
                    // The same as its end.
                }
            });
            reader.setDaemon(true);
            reader.start();
            while (reader.isAlive()) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    System.out.println(record.partition() + " " + record.offset());
                }
                System.out.flush();
                if (!records.isEmpty()) {
                    consumer.commitSync();
                }
            }
        }
    }
}
