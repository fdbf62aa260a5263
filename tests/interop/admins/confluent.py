"""What an administrator does, with confluent-kafka: `confluent.py BOOTSTRAP TOPIC GROUP`."""

import sys

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
)

bootstrap, topic, group = sys.argv[1:]
admin = AdminClient({"bootstrap.servers": bootstrap})
T_S = 30


def retention() -> str:
    (asked,) = admin.describe_configs([ConfigResource("TOPIC", topic)]).values()
    return asked.result(T_S)["retention.ms"].value


def groups() -> list[str]:
    return [one.group_id for one in admin.list_consumer_groups().result(T_S).valid]


new = NewTopic(topic, 3, 1, config={"retention.ms": "1000000"})
admin.create_topics([new])[topic].result(T_S)
print("partitions", len(admin.list_topics(topic, T_S).topics[topic].partitions))
print("retention", retention())
entry = ConfigEntry("retention.ms", "2000000", incremental_operation=AlterConfigOpType.SET)
change = ConfigResource("TOPIC", topic, incremental_configs=[entry])
admin.incremental_alter_configs([change])[change].result(T_S)
print("retention", retention())
print("listed", group in groups())
described = admin.describe_consumer_groups([group])[group].result(T_S)
print("state", described.state.name.capitalize())
admin.delete_consumer_groups([group])[group].result(T_S)
print("listed", group in groups())
admin.delete_topics([topic])[topic].result(T_S)
print("there", topic in admin.list_topics(timeout=T_S).topics)
