//! Which APIs this broker serves, and who answers each.
//!
//! Nothing is advertised that does not work; what is advertised has Kafka 4.3.1's range.

use mqlog_protocol::ApiKey;

/// Who answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answerer {
    /// An I/O thread, from what it has.
    Data,
    /// The control plane.
    Control,
}

const SERVED: [(ApiKey, Answerer); 45] = [
    (ApiKey::Produce, Answerer::Data),
    (ApiKey::Fetch, Answerer::Data),
    (ApiKey::ListOffsets, Answerer::Data),
    (ApiKey::Metadata, Answerer::Data),
    (ApiKey::OffsetCommit, Answerer::Control),
    (ApiKey::OffsetFetch, Answerer::Control),
    (ApiKey::FindCoordinator, Answerer::Control),
    (ApiKey::JoinGroup, Answerer::Control),
    (ApiKey::Heartbeat, Answerer::Control),
    (ApiKey::LeaveGroup, Answerer::Control),
    (ApiKey::SyncGroup, Answerer::Control),
    (ApiKey::DescribeGroups, Answerer::Control),
    (ApiKey::ListGroups, Answerer::Control),
    (ApiKey::ApiVersions, Answerer::Data),
    (ApiKey::CreateTopics, Answerer::Control),
    (ApiKey::DeleteTopics, Answerer::Control),
    (ApiKey::DeleteRecords, Answerer::Control),
    (ApiKey::InitProducerId, Answerer::Control),
    (ApiKey::OffsetForLeaderEpoch, Answerer::Data),
    (ApiKey::DescribeAcls, Answerer::Control),
    (ApiKey::CreateAcls, Answerer::Control),
    (ApiKey::DeleteAcls, Answerer::Control),
    (ApiKey::DescribeConfigs, Answerer::Control),
    (ApiKey::AlterConfigs, Answerer::Control),
    (ApiKey::AlterReplicaLogDirs, Answerer::Control),
    (ApiKey::DescribeLogDirs, Answerer::Control),
    (ApiKey::CreatePartitions, Answerer::Control),
    (ApiKey::DeleteGroups, Answerer::Control),
    (ApiKey::ElectLeaders, Answerer::Control),
    (ApiKey::IncrementalAlterConfigs, Answerer::Control),
    (ApiKey::AlterPartitionReassignments, Answerer::Control),
    (ApiKey::ListPartitionReassignments, Answerer::Control),
    (ApiKey::OffsetDelete, Answerer::Control),
    (ApiKey::DescribeClientQuotas, Answerer::Control),
    (ApiKey::AlterClientQuotas, Answerer::Control),
    (ApiKey::DescribeUserScramCredentials, Answerer::Control),
    (ApiKey::DescribeQuorum, Answerer::Control),
    (ApiKey::UpdateFeatures, Answerer::Control),
    (ApiKey::DescribeCluster, Answerer::Control),
    (ApiKey::DescribeProducers, Answerer::Control),
    (ApiKey::UnregisterBroker, Answerer::Control),
    (ApiKey::DescribeTransactions, Answerer::Control),
    (ApiKey::ListTransactions, Answerer::Control),
    (ApiKey::ListConfigResources, Answerer::Control),
    (ApiKey::DescribeTopicPartitions, Answerer::Control),
];

/// Every served API with the range of versions that is advertised, in the order of the keys.
pub(crate) fn served() -> impl ExactSizeIterator<Item = (ApiKey, i16, i16)> {
    SERVED.iter().map(|(api, _)| {
        let versions = api.advertised().unwrap_or(api.versions());
        (*api, versions.min, versions.max)
    })
}

/// The API and its answerer if this key is served in this version.
pub(crate) fn find(key: i16, version: i16) -> Option<(ApiKey, Answerer)> {
    let (api, answerer) = SERVED.iter().find(|(api, _)| *api as i16 == key)?;
    let versions = api.advertised().unwrap_or(api.versions());
    (versions.min..=versions.max)
        .contains(&version)
        .then_some((*api, *answerer))
}
