// Administrator.java BOOTSTRAP TOPIC GROUP: what an administrator does.
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.config.ConfigResource;

public class Administrator {
    static Admin admin;
    static ConfigResource resource;

    static String retention() throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource)
            .get("retention.ms").value();
    }

    static boolean listed(String group) throws Exception {
        return admin.listGroups().all().get().stream().anyMatch(one -> one.groupId().equals(group));
    }

    public static void main(String[] args) throws Exception {
        String topic = args[1];
        String group = args[2];
        resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        admin = Admin.create(Map.of("bootstrap.servers", args[0]));
        NewTopic made = new NewTopic(topic, Optional.of(3), Optional.empty());
        admin.createTopics(List.of(made.configs(Map.of("retention.ms", "1000000")))).all().get();
        System.out.println("partitions "
            + admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size());
        System.out.println("retention " + retention());
        ConfigEntry entry = new ConfigEntry("retention.ms", "2000000");
        AlterConfigOp change = new AlterConfigOp(entry, AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
        System.out.println("retention " + retention());
        System.out.println("listed " + listed(group));
        System.out.println("state " + admin.describeConsumerGroups(List.of(group)).all().get()
            .get(group).groupState());
        admin.deleteConsumerGroups(List.of(group)).all().get();
        System.out.println("listed " + listed(group));
        admin.deleteTopics(List.of(topic)).all().get();
        System.out.println("there " + admin.listTopics().names().get().contains(topic));
        admin.close();
    }
}
