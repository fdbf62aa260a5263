// interop.js BOOTSTRAP TOPIC CODEC COUNT: produces records.py's records, reads them back.
process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'
const assert = require('node:assert')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')

const [bootstrap, topic, codec, countText] = process.argv.slice(2)
const count = Number(countText)

// KafkaJS ships gzip and takes the others as plug-ins.
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => lz4.compressFrame(encoder.buffer),
  decompress: async buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})
const COMPRESSION = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

const key = number => (number % 7 === 3 ? null : `k${number}`)
const value = number => (number % 14 === 5 ? null : `v${number}-${'x'.repeat(number % 200)}`)
const text = buffer => (buffer == null ? null : buffer.toString())

async function produce(kafka) {
  const producer = kafka.producer({ idempotent: true })
  await producer.connect()
  const messages = Array.from({ length: count }, (_, number) => ({
    key: key(number),
    value: value(number),
    partition: 0,
    headers: { number: String(number) },
  }))
  await producer.send({ topic, messages, acks: -1, compression: COMPRESSION[codec] })
  await producer.disconnect()
}

async function consume(kafka) {
  const symbol = Object.getOwnPropertySymbols(kafka).find(s => s.description.includes('createCluster'))
  const cluster = kafka[symbol]({ maxInFlightRequests: 1, isolationLevel: 0 })
  await cluster.connect()
  await cluster.addTargetTopic(topic)
  const [{ leader }] = cluster.findTopicPartitionMetadata(topic)
  const broker = await cluster.findBroker({ nodeId: String(leader) })
  let number = 0
  while (number < count) {
    const partitions = [{ partition: 0, fetchOffset: number, maxBytes: 1 << 20 }]
    const answer = await broker.fetch({ maxWaitTime: 5000, isolationLevel: 0, topics: [{ topic, partitions }] })
    const { messages } = answer.responses[0].partitions[0]
    assert(messages.length > 0, `${number} of ${count} records came`)
    for (const message of messages.filter(m => Number(m.offset) >= number)) {
      assert.strictEqual(Number(message.offset), number)
      assert.strictEqual(text(message.key), key(number))
      assert.strictEqual(text(message.value), value(number))
      assert.strictEqual(text(message.headers.number), String(number))
      number += 1
    }
  }
  await cluster.disconnect()
}

async function main() {
  await zstd.init()
  const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.ERROR })
  await produce(kafka)
  await consume(kafka)
  console.log(`ok ${count}`)
  process.exit(0)
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
