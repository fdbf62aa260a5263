import java.nio.ByteBuffer;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.*;
import org.apache.kafka.clients.consumer.internals.ConsumerProtocol;
import org.apache.kafka.common.*;

/**
 * Plans of Kafka's assignors. A scenario is a line: the assignor's name, `topic=partitions` separated
 * by commas, then a member a word: `id/instance or -/subscription in hex`. Answered by a line of
 * `id:topic-partition,...` words, each in order.
 */
public class Assign {
    public static void main(String[] arguments) {
        Scanner in = new Scanner(System.in);
        while (in.hasNextLine()) {
            String[] words = in.nextLine().split(" ");
            System.out.println(plan(words));
        }
    }

    private static ConsumerPartitionAssignor assignor(String name) {
        switch (name) {
            case "range": return new RangeAssignor();
            case "roundrobin": return new RoundRobinAssignor();
            case "sticky": return new StickyAssignor();
            default: return new CooperativeStickyAssignor();
        }
    }

    private static String plan(String[] words) {
        Node node = new Node(1, "h", 1);
        List<PartitionInfo> infos = new ArrayList<>();
        for (String topic : words[1].split(",")) {
            String[] pair = topic.split("=");
            for (int i = 0; i < Integer.parseInt(pair[1]); i++)
                infos.add(new PartitionInfo(pair[0], i, node, new Node[] {node}, new Node[] {node}));
        }
        Cluster cluster = new Cluster("c", List.of(node), infos, Set.of(), Set.of());
        Map<String, Subscription> members = new HashMap<>();
        for (int i = 2; i < words.length; i++) {
            String[] parts = words[i].split("/");
            ByteBuffer bytes = ByteBuffer.wrap(HexFormat.of().parseHex(parts[2]));
            Subscription subscription = ConsumerProtocol.deserializeSubscription(bytes);
            if (!parts[1].equals("-")) subscription.setGroupInstanceId(Optional.of(parts[1]));
            members.put(parts[0], subscription);
        }
        GroupAssignment plan = assignor(words[0]).assign(cluster, new GroupSubscription(members));
        List<String> out = new ArrayList<>();
        for (String id : new TreeSet<>(members.keySet())) {
            TreeSet<String> places = new TreeSet<>();
            for (TopicPartition at : plan.groupAssignment().get(id).partitions())
                places.add(at.topic() + "-" + at.partition());
            out.add(id + ":" + String.join(",", places));
        }
        return String.join(" ", out);
    }
}
