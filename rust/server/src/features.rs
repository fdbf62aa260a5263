//! The features that ApiVersions tells: levels of what a cluster can do, in Kafka's numbers.
//!
//! Only `metadata.version` is here, at the one level of Kafka 4.3. What other features stand for
//! (newer group protocols, transactions, share groups) is told when it works. The control plane's
//! `features.py` answers UpdateFeatures by the same number.

use mqlog_protocol::messages::api_versions::{
    ApiVersionsResponse, ApiVersionsResponseFinalizedFeatureKey,
    ApiVersionsResponseSupportedFeatureKey,
};

const METADATA_VERSION: &str = "metadata.version";
/// 4.3-IV0.
const LEVEL: i16 = 30;

/// Adds the features; `epoch` is where the metadata log ends, as in Kafka.
pub(crate) fn tell(epoch: i64, response: &mut ApiVersionsResponse) {
    response.supported_features = vec![ApiVersionsResponseSupportedFeatureKey {
        name: METADATA_VERSION.to_owned(),
        min_version: LEVEL,
        max_version: LEVEL,
    }];
    response.finalized_features_epoch = epoch;
    response.finalized_features = vec![ApiVersionsResponseFinalizedFeatureKey {
        name: METADATA_VERSION.to_owned(),
        max_version_level: LEVEL,
        min_version_level: LEVEL,
    }];
}
