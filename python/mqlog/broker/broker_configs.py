# ruff: noqa: E501 (the table has one setting a line)
"""Every setting of a broker: Kafka 4.3.1's, and our own that begin with `mqlog.`.

One line each: name, type, whether it can be altered while the broker runs, default, the smallest
legal value or the legal words, and, if it has an effect here, what it does. The table is text and is
read when first asked for, because most runs never look at it.
"""

from __future__ import annotations

from functools import cache

from mqlog.broker.config_types import TYPE_NAMES, Check, ConfigDef, at_least, one_of

_NOT_HERE = "Accepted for compatibility; it changes nothing here."


@cache
def broker_configs() -> dict[str, ConfigDef]:
    """Return every broker setting by its name, sorted."""
    return {config.name: config for config in map(_parse, _TABLE.splitlines())}


def _parse(line: str) -> ConfigDef:
    facts, _, doc = line.partition(" # ")
    name, kind, alterable, default, *rule = facts.split()
    value = {"null": None, '""': ""}.get(default, default)
    check = _rule(rule[0]) if rule else None
    return ConfigDef(
        name,
        TYPE_NAMES[kind],
        value,
        check,
        bool(doc),
        doc or _NOT_HERE,
        dynamic=alterable == "dynamic",
    )


def _rule(text: str) -> Check:
    if text.startswith(">="):
        return at_least(int(text[2:]))
    return one_of(*text[1:].split("|"))


_TABLE = """\
add.partitions.to.txn.retry.backoff.max.ms int static 100
add.partitions.to.txn.retry.backoff.ms int static 20
advertised.listeners list static null # Address told to clients; without it the one each of them reached.
alter.config.policy.class.name class static null
alter.log.dirs.replication.quota.window.num int static 11
alter.log.dirs.replication.quota.window.size.seconds int static 1
authorizer.class.name string static ""
auto.create.topics.enable boolean static true # Make a topic when a client asks for the metadata of one that is missing.
auto.leader.rebalance.enable boolean static true
background.threads int dynamic 10
broker.heartbeat.interval.ms int static 2000
broker.id int static 1 # Older name of node.id.
broker.rack string static null # Rack told to clients.
broker.session.timeout.ms int static 9000
client.quota.callback.class class static null
compression.gzip.level int dynamic -1
compression.lz4.level int dynamic 9
compression.type string dynamic producer
compression.zstd.level int dynamic 3
config.providers list dynamic ""
connection.failed.authentication.delay.ms int static 100
connections.max.idle.ms long static 600000 >=1 # Connections without a request for this long are closed, in ms.
connections.max.reauth.ms long static 0
controlled.shutdown.enable boolean static true
controller.listener.names list static null
controller.quorum.append.linger.ms int static 25
controller.quorum.auto.join.enable boolean static false
controller.quorum.bootstrap.servers list static ""
controller.quorum.election.backoff.max.ms int static 1000
controller.quorum.election.timeout.ms int static 1000
controller.quorum.fetch.max.bytes int static 1048576
controller.quorum.fetch.snapshot.max.bytes int static 1048576
controller.quorum.fetch.timeout.ms int static 2000
controller.quorum.request.timeout.ms int static 2000
controller.quorum.retry.backoff.ms int static 20
controller.quorum.voters list static ""
controller.quota.window.num int static 11
controller.quota.window.size.seconds int static 1
controller.socket.timeout.ms int static 30000
cordoned.log.dirs list dynamic ""
create.topic.policy.class.name class static null
default.replication.factor int static 1 >=1 # Replicas of a topic that does not say; one broker can hold one.
delegation.token.expiry.check.interval.ms long static 3600000
delegation.token.expiry.time.ms long static 86400000
delegation.token.max.lifetime.ms long static 604800000
delegation.token.secret.key password static null
delete.records.purgatory.purge.interval.requests int static 1
delete.topic.enable boolean static true # Whether DeleteTopics is allowed.
early.start.listeners list static null
fetch.max.bytes int static 57671680 >=1024 # Largest answer to a fetch, in bytes.
fetch.purgatory.purge.interval.requests int static 1000
follower.fetch.last.tiered.offset.enable boolean dynamic false
group.consumer.assignment.interval.ms int dynamic 1000
group.consumer.assignors list static uniform,range
group.consumer.heartbeat.interval.ms int static 5000
group.consumer.max.assignment.interval.ms int static 15000
group.consumer.max.heartbeat.interval.ms int static 15000
group.consumer.max.session.timeout.ms int static 60000
group.consumer.max.size int static 2147483647
group.consumer.migration.policy string static bidirectional
group.consumer.min.assignment.interval.ms int static 0
group.consumer.min.heartbeat.interval.ms int static 5000
group.consumer.min.session.timeout.ms int static 45000
group.consumer.session.timeout.ms int static 45000
group.coordinator.append.linger.ms int static -1
group.coordinator.background.threads int static 2
group.coordinator.cached.buffer.max.bytes int dynamic 1048588
group.coordinator.rebalance.protocols list static classic,consumer,streams
group.coordinator.threads int static 4
group.initial.rebalance.delay.ms int static 3000 # How long a group that begins waits for more members, in ms.
group.max.session.timeout.ms int static 1800000 # Longest session a member may ask for, in ms.
group.max.size int static 2147483647 # Most members of a group.
group.min.session.timeout.ms int static 6000 # Shortest session a member may ask for, in ms.
group.share.assignment.interval.ms int dynamic 1000
group.share.assignors list static simple
group.share.delivery.count.limit int static 5
group.share.heartbeat.interval.ms int static 5000
group.share.max.assignment.interval.ms int static 15000
group.share.max.delivery.count.limit int static 10
group.share.max.heartbeat.interval.ms int static 15000
group.share.max.partition.max.record.locks int static 4000
group.share.max.record.lock.duration.ms int static 60000
group.share.max.session.timeout.ms int static 60000
group.share.max.share.sessions int static 2000
group.share.max.size int static 200
group.share.min.assignment.interval.ms int static 0
group.share.min.delivery.count.limit int static 2
group.share.min.heartbeat.interval.ms int static 5000
group.share.min.partition.max.record.locks int static 100
group.share.min.record.lock.duration.ms int static 15000
group.share.min.session.timeout.ms int static 45000
group.share.partition.max.record.locks int static 2000
group.share.record.lock.duration.ms int static 30000
group.share.session.timeout.ms int static 45000
group.streams.assignment.interval.ms int dynamic 1000
group.streams.heartbeat.interval.ms int static 5000
group.streams.initial.rebalance.delay.ms int static 3000
group.streams.max.assignment.interval.ms int static 15000
group.streams.max.heartbeat.interval.ms int static 15000
group.streams.max.session.timeout.ms int static 60000
group.streams.max.size int static 2147483647
group.streams.max.standby.replicas int static 2
group.streams.min.assignment.interval.ms int static 0
group.streams.min.heartbeat.interval.ms int static 5000
group.streams.min.session.timeout.ms int static 45000
group.streams.num.standby.replicas int static 0
group.streams.session.timeout.ms int static 45000
initial.broker.registration.timeout.ms int static 60000
inter.broker.listener.name string static null
kafka.metrics.polling.interval.secs int static 10
kafka.metrics.reporters list static ""
leader.imbalance.check.interval.seconds long static 300
listener.security.protocol.map string dynamic SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
listeners list static PLAINTEXT://:9092 # Addresses to serve: PLAINTEXT://HOST:PORT, comma-separated.
log.cleaner.backoff.ms long dynamic 15000
log.cleaner.dedupe.buffer.size long dynamic 134217728
log.cleaner.delete.retention.ms long dynamic 86400000
log.cleaner.enable boolean static true
log.cleaner.io.buffer.load.factor double dynamic 0.9
log.cleaner.io.buffer.size int dynamic 524288
log.cleaner.io.max.bytes.per.second double dynamic 1.7976931348623157E308
log.cleaner.max.compaction.lag.ms long dynamic 9223372036854775807
log.cleaner.min.cleanable.ratio double dynamic 0.5
log.cleaner.min.compaction.lag.ms long dynamic 0
log.cleaner.threads int dynamic 1
log.cleanup.policy list dynamic delete # Default of the topic setting cleanup.policy.
log.dir list static mqlog-data # The data directory.
log.dir.failure.timeout.ms long static 30000
log.dirs list static null # The data directory; one.
log.flush.interval.messages long dynamic 9223372036854775807
log.flush.interval.ms long dynamic 100 >=0 # Default of the topic setting flush.ms, in ms.
log.flush.offset.checkpoint.interval.ms int static 30000 >=1 # How often is written down from where a start after a crash must look, in ms.
log.flush.scheduler.interval.ms long static 9223372036854775807
log.flush.start.offset.checkpoint.interval.ms int static 60000
log.index.interval.bytes int dynamic 4096 >=0 # Default of the topic setting index.interval.bytes.
log.index.size.max.bytes int dynamic 10485760
log.local.retention.bytes long dynamic -2
log.local.retention.ms long dynamic -2
log.message.timestamp.after.max.ms long dynamic 3600000 >=0 # Default of the topic setting message.timestamp.after.max.ms.
log.message.timestamp.before.max.ms long dynamic 9223372036854775807 >=0 # Default of the topic setting message.timestamp.before.max.ms.
log.message.timestamp.type string dynamic CreateTime # Default of the topic setting message.timestamp.type.
log.preallocate boolean dynamic false
log.retention.bytes long dynamic -1 >=-1 # Default of the topic setting retention.bytes.
log.retention.check.interval.ms long static 300000 >=1 # How often retention looks for segments to delete, in ms.
log.retention.hours int static 168 >=-1 # Default of the topic setting retention.ms, in hours.
log.retention.minutes int static null >=-1 # Default of the topic setting retention.ms, in minutes; before log.retention.hours.
log.retention.ms long dynamic null >=-1 # Default of the topic setting retention.ms; before log.retention.minutes.
log.roll.hours int static 168 >=1 # Default of the topic setting segment.ms, in hours.
log.roll.jitter.hours int static 0
log.roll.jitter.ms long dynamic null
log.roll.ms long dynamic null >=1 # Default of the topic setting segment.ms; before log.roll.hours.
log.segment.bytes int dynamic 1073741824 >=1048576 # Default of the topic setting segment.bytes.
log.segment.delete.delay.ms long dynamic 60000 >=0 # Default of the topic setting file.delete.delay.ms.
max.connection.creation.rate int dynamic 2147483647
max.connections int dynamic 2147483647 >=0 # Most connections at a time.
max.connections.per.ip int dynamic 2147483647 >=0 # Most connections at a time from one address.
max.connections.per.ip.overrides string dynamic ""
max.incremental.fetch.session.cache.slots int static 1000 >=0 # Fetch sessions kept.
max.request.partition.size.limit int static 2000
message.max.bytes int dynamic 1048588 >=0 # Default of the topic setting max.message.bytes.
metadata.log.dir string static null
metadata.log.max.record.bytes.between.snapshots long static 20971520
metadata.log.max.snapshot.interval.ms long static 3600000
metadata.log.segment.bytes int static 1073741824
metadata.log.segment.ms long static 604800000
metadata.max.idle.interval.ms int static 500
metadata.max.retention.bytes long static 104857600
metadata.max.retention.ms long static 604800000
metric.reporters list dynamic ""
metrics.num.samples int static 2
metrics.recording.level string static INFO
metrics.sample.window.ms long static 30000
min.insync.replicas int dynamic 1 >=1
mqlog.durability string static fsync =fsync|os # What acks=all waits for: fsync (on disk) or os (the kernel has it, like Kafka).
mqlog.io.threads int static 0 >=0 # I/O threads; 0: one per two cores.
mqlog.log.format string static text =text|json # How the broker writes its own log: text or json.
mqlog.stay.on.io.error boolean static false # Go on serving reads after the disk failed, instead of exiting with code 74.
mqlog.validate string dynamic header =header|records # Default of the topic setting mqlog.validate.
node.id int static 1 >=0 # This broker's number.
num.io.threads int dynamic 8 >=1
num.network.threads int dynamic 3 >=1
num.partitions int static 1 >=1 # Partitions of a topic that does not say.
num.recovery.threads.per.data.dir int dynamic 2
num.replica.alter.log.dirs.threads int static null
num.replica.fetchers int dynamic 1
offset.metadata.max.bytes int static 4096 # Longest metadata of a committed offset, in characters.
offsets.commit.timeout.ms int static 5000
offsets.load.buffer.size int static 5242880
offsets.retention.check.interval.ms long static 600000 # How often committed offsets are checked for age, in ms.
offsets.retention.minutes int static 10080 # How long committed offsets of a group without members are kept.
offsets.topic.compression.codec int static 0
offsets.topic.num.partitions int static 16 # Partitions of __consumer_offsets, when it is made.
offsets.topic.replication.factor short static 1
offsets.topic.segment.bytes int static 4194304 # Segment size of __consumer_offsets, when it is made.
principal.builder.class class dynamic org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder
process.roles list static null
producer.id.expiration.ms int static 86400000 >=1 # Producers idle for this long are forgotten, in ms.
producer.purgatory.purge.interval.requests int static 1000
queued.max.request.bytes long static -1 >=-1 # Bytes of requests held over all connections; -1: 256 MiB.
queued.max.requests int static 500
quota.window.num int static 11
quota.window.size.seconds int static 1
remote.fetch.max.wait.ms int dynamic 500
remote.list.offsets.request.timeout.ms long dynamic 30000
remote.log.index.file.cache.total.size.bytes long dynamic 1073741824
remote.log.manager.copier.thread.pool.size int dynamic 10
remote.log.manager.copy.max.bytes.per.second long dynamic 9223372036854775807
remote.log.manager.copy.quota.window.num int static 11
remote.log.manager.copy.quota.window.size.seconds int static 1
remote.log.manager.expiration.thread.pool.size int dynamic 10
remote.log.manager.fetch.max.bytes.per.second long dynamic 9223372036854775807
remote.log.manager.fetch.quota.window.num int static 11
remote.log.manager.fetch.quota.window.size.seconds int static 1
remote.log.manager.follower.thread.pool.size int dynamic 2
remote.log.manager.task.interval.ms long static 30000
remote.log.manager.thread.pool.size int static 2
remote.log.metadata.custom.metadata.max.bytes int static 128
remote.log.metadata.manager.class.name string static org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager
remote.log.metadata.manager.class.path string static null
remote.log.metadata.manager.impl.prefix string static rlmm.config.
remote.log.metadata.manager.listener.name string static null
remote.log.reader.max.pending.tasks int static 100
remote.log.reader.threads int dynamic 10
remote.log.storage.manager.class.name string static null
remote.log.storage.manager.class.path string static null
remote.log.storage.manager.impl.prefix string static rsm.config.
remote.log.storage.system.enable boolean static false
replica.fetch.backoff.ms int static 1000
replica.fetch.max.bytes int static 1048576
replica.fetch.min.bytes int static 1
replica.fetch.response.max.bytes int static 10485760
replica.fetch.wait.max.ms int static 500
replica.high.watermark.checkpoint.interval.ms long static 5000
replica.lag.time.max.ms long static 30000
replica.selector.class string static null
replica.socket.receive.buffer.bytes int static 65536
replica.socket.timeout.ms int static 30000
replication.quota.window.num int static 11
replication.quota.window.size.seconds int static 1
request.timeout.ms int static 30000
sasl.client.callback.handler.class class static null
sasl.enabled.mechanisms list dynamic GSSAPI
sasl.jaas.config password dynamic null
sasl.kerberos.kinit.cmd string dynamic /usr/bin/kinit
sasl.kerberos.min.time.before.relogin long dynamic 60000
sasl.kerberos.principal.to.local.rules list dynamic DEFAULT
sasl.kerberos.service.name string dynamic null
sasl.kerberos.ticket.renew.jitter double dynamic 0.05
sasl.kerberos.ticket.renew.window.factor double dynamic 0.8
sasl.login.callback.handler.class class static null
sasl.login.class class static null
sasl.login.connect.timeout.ms int static null
sasl.login.read.timeout.ms int static null
sasl.login.refresh.buffer.seconds short dynamic 300
sasl.login.refresh.min.period.seconds short dynamic 60
sasl.login.refresh.window.factor double dynamic 0.8
sasl.login.refresh.window.jitter double dynamic 0.05
sasl.login.retry.backoff.max.ms long static 10000
sasl.login.retry.backoff.ms long static 100
sasl.mechanism.controller.protocol string static GSSAPI
sasl.mechanism.inter.broker.protocol string dynamic GSSAPI
sasl.oauthbearer.assertion.algorithm string static RS256
sasl.oauthbearer.assertion.claim.aud string static null
sasl.oauthbearer.assertion.claim.exp.seconds int static 300
sasl.oauthbearer.assertion.claim.iss string static null
sasl.oauthbearer.assertion.claim.jti.include boolean static false
sasl.oauthbearer.assertion.claim.nbf.seconds int static 60
sasl.oauthbearer.assertion.claim.sub string static null
sasl.oauthbearer.assertion.file string static null
sasl.oauthbearer.assertion.private.key.file string static null
sasl.oauthbearer.assertion.private.key.passphrase password static null
sasl.oauthbearer.assertion.template.file string static null
sasl.oauthbearer.client.credentials.client.id string static null
sasl.oauthbearer.client.credentials.client.secret password static null
sasl.oauthbearer.clock.skew.seconds int static 30
sasl.oauthbearer.expected.audience list static ""
sasl.oauthbearer.expected.issuer string static null
sasl.oauthbearer.jwks.endpoint.refresh.ms long static 3600000
sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms long static 10000
sasl.oauthbearer.jwks.endpoint.retry.backoff.ms long static 100
sasl.oauthbearer.jwks.endpoint.url string static null
sasl.oauthbearer.jwt.retriever.class class static org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever
sasl.oauthbearer.jwt.validator.class class static org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator
sasl.oauthbearer.scope string static null
sasl.oauthbearer.scope.claim.name string static scope
sasl.oauthbearer.sub.claim.name string static sub
sasl.oauthbearer.token.endpoint.url string static null
sasl.server.callback.handler.class class static null
sasl.server.max.receive.size int static 524288
security.inter.broker.protocol string static PLAINTEXT
security.providers string static null
share.coordinator.append.linger.ms int static -1
share.coordinator.cached.buffer.max.bytes int dynamic 1048588
share.coordinator.load.buffer.size int static 5242880
share.coordinator.snapshot.update.records.per.snapshot int static 500
share.coordinator.state.topic.compression.codec int static 0
share.coordinator.state.topic.min.isr short static 2
share.coordinator.state.topic.num.partitions int static 50
share.coordinator.state.topic.replication.factor short static 3
share.coordinator.state.topic.segment.bytes int static 104857600
share.coordinator.threads int static 1
share.coordinator.write.timeout.ms int static 5000
share.fetch.purgatory.purge.interval.requests int static 1000
socket.connection.setup.timeout.max.ms long static 30000
socket.connection.setup.timeout.ms long static 10000
socket.listen.backlog.size int static 50
socket.receive.buffer.bytes int static 102400
socket.request.max.bytes int static 104857600 >=1 # Largest request, in bytes.
socket.send.buffer.bytes int static 102400
ssl.allow.dn.changes boolean static false
ssl.allow.san.changes boolean static false
ssl.cipher.suites list dynamic ""
ssl.client.auth string dynamic none
ssl.enabled.protocols list dynamic TLSv1.2,TLSv1.3
ssl.endpoint.identification.algorithm string dynamic https
ssl.engine.factory.class class dynamic null
ssl.key.password password dynamic null
ssl.keymanager.algorithm string dynamic SunX509
ssl.keystore.certificate.chain password dynamic null
ssl.keystore.key password dynamic null
ssl.keystore.location string dynamic null
ssl.keystore.password password dynamic null
ssl.keystore.type string dynamic JKS
ssl.principal.mapping.rules string static DEFAULT
ssl.protocol string dynamic TLSv1.3
ssl.provider string dynamic null
ssl.secure.random.implementation string dynamic null
ssl.trustmanager.algorithm string dynamic PKIX
ssl.truststore.certificates password dynamic null
ssl.truststore.location string dynamic null
ssl.truststore.password password dynamic null
ssl.truststore.type string dynamic JKS
telemetry.max.bytes int static 1048576
transaction.abort.timed.out.transaction.cleanup.interval.ms int static 10000
transaction.max.timeout.ms int static 900000
transaction.partition.verification.enable boolean dynamic true
transaction.remove.expired.transaction.cleanup.interval.ms int static 3600000
transaction.state.log.load.buffer.size int static 5242880
transaction.state.log.min.isr int static 2
transaction.state.log.num.partitions int static 50
transaction.state.log.replication.factor short static 3
transaction.state.log.segment.bytes int static 104857600
transaction.two.phase.commit.enable boolean static false
transactional.id.expiration.ms int static 604800000
unclean.leader.election.enable boolean dynamic false
"""
