//! Bytes that nobody should send: each costs bounded memory and ends in an error or a value.

#![allow(clippy::unwrap_used)]

mod common;

use mqlog_protocol::codec::{decode, decode_within, encode};
use mqlog_protocol::fetch::{FetchRequest, FetchScratch};
use mqlog_protocol::messages::metadata::MetadataRequest;
use mqlog_protocol::produce::{ProduceRequest, ProduceScratch};
use mqlog_protocol::reader::Reader;
use mqlog_protocol::{tables, DecodeError, Value};
use proptest::prelude::*;

/// How many values a tree holds.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) | Value::Struct(items) => {
            items.len() + items.iter().map(count).sum::<usize>()
        }
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_frames_of_every_message_stay_within_the_budget(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for golden in common::all().into_iter().filter(|golden| !golden.body.is_empty()) {
            let mut body = golden.body;
            for (at, byte) in &damage {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            let spec = tables::by_name(&golden.name).unwrap();
            if let Ok(value) = decode(spec, golden.version, &body) {
                prop_assert!(count(&value) <= 1024 + 16 * body.len(), "{}", golden.name);
            }
        }
    }

    #[test]
    fn any_bytes_as_any_request(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for spec in tables::ALL {
            for version in spec.versions.min..=spec.versions.max {
                let _ = decode(spec, version, &bytes);
            }
        }
        let (mut produce, mut fetch) = (ProduceScratch::default(), FetchScratch::default());
        for version in -1..20 {
            let _ = ProduceRequest::parse_into(version, &bytes, &mut produce);
            let _ = FetchRequest::parse_into(version, &bytes, &mut fetch);
        }
    }

    #[test]
    fn varints_are_what_they_should_be(value in any::<u32>(), more in any::<[u8; 3]>()) {
        let mut bytes = Vec::new();
        mqlog_protocol::writer::Writer::new(&mut bytes).uvarint(value);
        let length = bytes.len();
        bytes.extend(more);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.uvarint(), Ok(value));
        prop_assert_eq!(reader.position(), length);
    }
}

#[test]
fn counts_beyond_the_bytes_are_refused_before_anything_is_reserved() {
    // CreateTopics v7 with two thousand million topics in five bytes.
    let spec = tables::request(19).unwrap();
    let error = decode(spec, 7, &[0xff, 0xff, 0xff, 0xff, 0x07]).unwrap_err();
    assert!(
        matches!(
            error,
            DecodeError::Count {
                field: "topics",
                ..
            }
        ),
        "{error}"
    );
    // Metadata v1, both codecs: a count that fits an int32, and a negative one.
    for (count, legal) in [(i32::MAX, false), (-2, false), (-1, true), (0, true)] {
        let body = count.to_be_bytes();
        assert_eq!(decode(tables::request(3).unwrap(), 1, &body).is_ok(), legal);
        assert_eq!(MetadataRequest::decode(1, &body).is_ok(), legal);
    }
}

#[test]
fn null_is_refused_where_the_version_has_none() {
    // Metadata v0 knows no null list of topics, v1 does.
    let body = (-1i32).to_be_bytes();
    let spec = tables::request(3).unwrap();
    assert!(matches!(
        decode(spec, 0, &body),
        Err(DecodeError::Null {
            field: "topics",
            ..
        })
    ));
    assert!(matches!(
        MetadataRequest::decode(0, &body),
        Err(DecodeError::Null { .. })
    ));
}

#[test]
fn varints_that_go_on_are_refused() {
    let overlong = [0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
    assert!(matches!(
        Reader::new(&overlong).uvarint(),
        Err(DecodeError::Varint { .. })
    ));
    let too_large = [0xff, 0xff, 0xff, 0xff, 0x1f];
    assert!(matches!(
        Reader::new(&too_large).uvarint(),
        Err(DecodeError::Varint { .. })
    ));
    assert_eq!(
        Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).uvarint(),
        Ok(u32::MAX)
    );
    assert_eq!(
        Reader::new(&[0x81, 0x00]).uvarint(),
        Ok(1),
        "padding is legal in Kafka"
    );
}

#[test]
fn a_budget_of_values_is_kept() {
    // ListTransactions v0: an array of int64 behind an empty array of strings.
    let spec = tables::request(66).unwrap();
    let mut body = vec![1, 101];
    body.extend([0; 800]);
    body.push(0);
    assert!(decode_within(spec, 0, &body, 200).is_ok());
    let error = decode_within(spec, 0, &body, 99).unwrap_err();
    assert!(
        matches!(error, DecodeError::Budget { limit: 99, .. }),
        "{error}"
    );
}

#[test]
fn unknown_tagged_fields_are_skipped_and_known_ones_must_fill_their_size() {
    let spec = tables::request(1).unwrap();
    let mut body = Vec::new();
    encode(spec, 12, &Value::default_struct(&spec.root), &mut body).unwrap();
    assert_eq!(body.pop(), Some(0), "no tagged fields");
    let with = |tags: &[u8]| decode(spec, 12, &[&body[..], tags].concat());
    let cluster_id = |value: Value| match value {
        Value::Struct(fields) => fields.into_iter().next(),
        _ => None,
    };
    // Tag 0 is the cluster id, a compact string; tag 99 means nothing.
    let both = with(&[2, 0, 2, 2, b'c', 99, 3, 1, 2, 3]).unwrap();
    assert_eq!(cluster_id(both), Some(Value::Str("c".to_owned())));
    assert_eq!(cluster_id(with(&[1, 99, 0]).unwrap()), Some(Value::Null));
    let left_over = with(&[1, 0, 3, 2, b'c', 0]).unwrap_err();
    assert!(
        matches!(left_over, DecodeError::TagSize { left: 1, .. }),
        "{left_over}"
    );
    let beyond = with(&[1, 99, 100, 0]).unwrap_err();
    assert!(
        matches!(
            beyond,
            DecodeError::Truncated {
                needed: 100,
                remaining: 1,
                ..
            }
        ),
        "{beyond}"
    );
}
