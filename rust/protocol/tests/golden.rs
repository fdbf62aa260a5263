//! Kafka's own frames through our codecs: every message in every version.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use mqlog_protocol::messages::{api_versions, list_offsets, metadata, offset_for_leader_epoch};
use mqlog_protocol::{codec, tables};

#[test]
fn every_message_has_a_frame_in_every_version() {
    let golden: BTreeSet<_> = common::all()
        .into_iter()
        .map(|g| (g.name, g.version))
        .collect();
    for spec in tables::ALL {
        for version in spec.versions.min..=spec.versions.max {
            assert!(
                golden.contains(&(spec.name.to_owned(), version)),
                "{} v{version}",
                spec.name
            );
        }
    }
}

#[test]
fn what_kafka_wrote_is_written_again_byte_for_byte() {
    for golden in common::all() {
        let spec = tables::by_name(&golden.name).unwrap();
        let value = codec::decode(spec, golden.version, &golden.body)
            .unwrap_or_else(|error| panic!("{} v{}: {error}", golden.name, golden.version));
        let mut again = Vec::new();
        codec::encode(spec, golden.version, &value, &mut again).unwrap();
        assert_eq!(again, golden.body, "{} v{}", golden.name, golden.version);
    }
}

#[test]
fn bytes_after_a_message_are_ignored_and_missing_ones_are_not() {
    for golden in common::all() {
        let spec = tables::by_name(&golden.name).unwrap();
        let whole = codec::decode(spec, golden.version, &golden.body).unwrap();
        let longer = [&golden.body[..], &[0xff; 3]].concat();
        assert_eq!(codec::decode(spec, golden.version, &longer).unwrap(), whole);
        for end in 0..golden.body.len() {
            let cut = codec::decode(spec, golden.version, &golden.body[..end]);
            assert!(
                cut.is_err(),
                "{} v{} cut at {end}",
                golden.name,
                golden.version
            );
        }
    }
}

macro_rules! typed {
    ($($module:ident::$type:ident)*) => {$({
        for golden in common::of(stringify!($type)) {
            let message = $module::$type::decode(golden.version, &golden.body).unwrap();
            let mut again = Vec::new();
            message.encode(golden.version, &mut again).unwrap();
            assert_eq!(again, golden.body, "{} v{}", golden.name, golden.version);
            for end in 0..golden.body.len() {
                assert!($module::$type::decode(golden.version, &golden.body[..end]).is_err());
            }
        }
    })*};
}

#[test]
fn typed_messages_agree_with_kafka() {
    typed! {
        api_versions::ApiVersionsRequest api_versions::ApiVersionsResponse
        list_offsets::ListOffsetsRequest list_offsets::ListOffsetsResponse
        metadata::MetadataRequest metadata::MetadataResponse
        offset_for_leader_epoch::OffsetForLeaderEpochRequest
        offset_for_leader_epoch::OffsetForLeaderEpochResponse
    }
}
