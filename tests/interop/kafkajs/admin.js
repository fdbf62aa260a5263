// admin.js BOOTSTRAP TOPIC GROUP: what an administrator does.
const { Kafka, ConfigResourceTypes, logLevel } = require('kafkajs')

const [bootstrap, topic, groupId] = process.argv.slice(2)

async function main() {
  const admin = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING }).admin()
  await admin.connect()
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  const retention = async () => {
    const told = await admin.describeConfigs({ resources: [resource] })
    return told.resources[0].configEntries.find(one => one.configName === 'retention.ms').configValue
  }
  const listed = async () => (await admin.listGroups()).groups.some(one => one.groupId === groupId)

  const configEntries = [{ name: 'retention.ms', value: '1000000' }]
  await admin.createTopics({ topics: [{ topic, numPartitions: 3, configEntries }] })
  const told = await admin.fetchTopicMetadata({ topics: [topic] })
  console.log('partitions', told.topics[0].partitions.length)
  console.log('retention', await retention())
  const change = { ...resource, configEntries: [{ name: 'retention.ms', value: '2000000' }] }
  await admin.alterConfigs({ resources: [change] })
  console.log('retention', await retention())
  console.log('listed', await listed())
  console.log('state', (await admin.describeGroups([groupId])).groups[0].state)
  await admin.deleteGroups([groupId])
  console.log('listed', await listed())
  await admin.deleteTopics({ topics: [topic] })
  console.log('there', (await admin.listTopics()).includes(topic))
  await admin.disconnect()
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
