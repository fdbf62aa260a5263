"""What an administrator does, with aiokafka: `aiokafka.py BOOTSTRAP TOPIC GROUP`.

It has no call that deletes a group.
"""

import asyncio
import sys

sys.path.pop(0)  # this file has the library's name
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

bootstrap, topic, group = sys.argv[1:]


async def main() -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()

    async def retention() -> str:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        return next(entry[1] for entry in answer.resources[0][4] if entry[0] == "retention.ms")

    async def groups() -> list[str]:
        return [name for name, _ in await admin.list_consumer_groups()]

    new = NewTopic(topic, 3, 1, topic_configs={"retention.ms": "1000000"})
    await admin.create_topics([new])
    print("partitions", len((await admin.describe_topics([topic]))[0]["partitions"]))
    print("retention", await retention())
    change = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": "2000000"})
    await admin.alter_configs([change])
    print("retention", await retention())
    print("listed", group in await groups())
    (answer,) = await admin.describe_consumer_groups([group])
    print("state", answer.groups[0][2])
    await admin.delete_topics([topic])
    print("there", topic in await admin.list_topics())
    await admin.close()


asyncio.run(main())
