// member.js BOOTSTRAP TOPIC GROUP eager: a member of a group.
const { Kafka, logLevel } = require('kafkajs')

const [bootstrap, topic, groupId] = process.argv.slice(2)

async function main() {
  const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId, sessionTimeout: 10000, heartbeatInterval: 500 })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  process.stdin.on('end', () => consumer.disconnect().then(() => process.exit(0)))
  process.stdin.resume()
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      console.log(partition, message.offset)
      const offset = String(BigInt(message.offset) + 1n)
      await consumer.commitOffsets([{ topic, partition, offset }])
    },
  })
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
