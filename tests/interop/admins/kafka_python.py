"""What an administrator does, with kafka-python: `kafka_python.py BOOTSTRAP TOPIC GROUP`."""

import sys

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

bootstrap, topic, group = sys.argv[1:]
admin = KafkaAdminClient(bootstrap_servers=bootstrap)


def retention() -> str:
    asked = ConfigResource(ConfigResourceType.TOPIC, topic)
    ((named,),) = [kind.values() for kind in admin.describe_configs([asked]).values()]
    return str(named["retention.ms"]["value"])


def groups() -> list[str]:
    return [one["group_id"] for one in admin.list_groups()]


new = {"num_partitions": 3, "replication_factor": 1, "configs": {"retention.ms": "1000000"}}
admin.create_topics({topic: new})
print("partitions", len(admin.describe_topics([topic])[0]["partitions"]))
print("retention", retention())
admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "2000000"})])
print("retention", retention())
print("listed", group in groups())
print("state", admin.describe_groups([group])[group]["group_state"])
admin.delete_groups([group])
print("listed", group in groups())
admin.delete_topics([topic])
print("there", topic in admin.list_topics())
admin.close()
