//! Headers, API keys, error codes, and what a version cannot carry.

#![allow(clippy::unwrap_used)]

use mqlog_protocol::codec::encode;
use mqlog_protocol::header::{
    begin_response, end_frame, parse_response_header, request_header, RequestHeader,
};
use mqlog_protocol::schema::{FieldSpec, MessageSpec, Versions};
use mqlog_protocol::{tables, ApiKey, EncodeError, ErrorCode, Value};

#[test]
fn keys_and_codes_have_no_gaps() {
    for (index, api) in ApiKey::all().enumerate() {
        assert_eq!(api as usize, index);
        assert_eq!(ApiKey::from_i16(index as i16), Some(api));
    }
    assert_eq!(ApiKey::from_i16(-1), None);
    assert_eq!(ApiKey::from_i16(93), None);
    for (index, error) in ErrorCode::all().enumerate() {
        assert_eq!(i32::from(error.code()), index as i32 - 1);
        assert_eq!(ErrorCode::from_i16(error.code()), Some(error));
    }
    assert_eq!(ErrorCode::from_i16(-2), None);
    assert_eq!(ErrorCode::from_i16(134), None);
    assert_eq!(
        ErrorCode::NotController.to_string().split(':').next(),
        Some("NOT_CONTROLLER (41)")
    );
    assert!(ErrorCode::NotController.retriable() && !ErrorCode::InvalidRecord.retriable());
}

#[test]
fn what_kafka_advertises_is_what_the_tables_have() {
    // Produce is stated from 0 although 0 to 2 are refused.
    let stated = ApiKey::all().filter_map(|api| Some((api, api.advertised()?)));
    for (api, stated) in stated {
        let oldest = if api == ApiKey::Produce {
            0
        } else {
            api.versions().min
        };
        assert_eq!(
            stated,
            Versions {
                min: oldest,
                max: api.versions().max
            },
            "{}",
            api.name()
        );
    }
    assert_eq!(
        ApiKey::all()
            .filter(|api| api.advertised().is_some())
            .count(),
        75
    );
    assert_eq!(ApiKey::GetTelemetrySubscriptions.advertised(), None);
}

#[test]
fn headers_follow_the_version() {
    // (API, version, request header bytes after the client id, response header bytes)
    let cases = [
        (ApiKey::Metadata, 8, 0, 4),
        (ApiKey::Metadata, 9, 1, 5),
        (ApiKey::ApiVersions, 2, 0, 4),
        (ApiKey::ApiVersions, 3, 1, 4),
        (ApiKey::SaslHandshake, 1, 0, 4),
    ];
    for (api, version, tags, response) in cases {
        let mut frame = Vec::new();
        request_header(api, version, 77, Some("me"), &mut frame).unwrap();
        assert_eq!(frame.len(), 12 + tags, "{api:?} v{version}");
        let header = RequestHeader::parse(&frame).unwrap();
        assert_eq!((header.api(), header.api_version), (Some(api), version));
        assert_eq!((header.correlation_id, header.client_id), (77, Some("me")));
        assert_eq!(header.body_offset, frame.len());

        let mut out = vec![1, 2, 3];
        let start = begin_response(api, version, 77, &mut out);
        assert_eq!(out.len(), 3 + 4 + response);
        assert_eq!(end_frame(start, 1000, &mut out), Ok(4 + response + 1000));
        assert_eq!(out[3..7], (response as i32 + 1000).to_be_bytes());
        assert_eq!(
            parse_response_header(api, version, &out[7..]),
            Ok((77, response))
        );
    }
}

#[test]
fn headers_of_unknown_apis_and_versions_are_still_read() {
    for (key, version) in [(999i16, 5i16), (18, 99), (-1, 0), (0, 2)] {
        let mut frame = [key.to_be_bytes(), version.to_be_bytes()].concat();
        frame.extend([0, 0, 0, 9, 0xff, 0xff]);
        let header = RequestHeader::parse(&frame).unwrap();
        assert_eq!((header.api_key, header.api_version), (key, version));
        assert_eq!((header.correlation_id, header.client_id), (9, None));
        assert_eq!(header.body_offset, 10);
    }
    assert!(RequestHeader::parse(&[0, 3, 0, 1, 0, 0, 0, 9, 0, 5, b'x']).is_err());
}

/// A message of defaults but for one field of its root.
fn with(spec: &MessageSpec, name: &str, value: Value) -> Value {
    let pick = |field: &FieldSpec| {
        if field.name == name {
            value.clone()
        } else {
            Value::default_of(field)
        }
    };
    assert!(spec.root.fields.iter().any(|field| field.name == name));
    Value::Struct(spec.root.fields.iter().map(pick).collect())
}

#[test]
fn a_value_that_a_version_lacks_is_dropped_or_refused_as_the_tables_say() {
    let fetch = tables::request(1).unwrap();
    let plain = Value::default_struct(&fetch.root);
    let (mut expected, mut got) = (Vec::new(), Vec::new());
    encode(fetch, 4, &plain, &mut expected).unwrap();
    encode(
        fetch,
        4,
        &with(fetch, "rack_id", Value::Str("r".into())),
        &mut got,
    )
    .unwrap();
    assert_eq!(got, expected, "rack_id is ignorable");

    let create = tables::request(19).unwrap();
    let delete = tables::request(20).unwrap();
    let ids = Value::Array(vec![Value::default_struct(
        match delete.root.fields[0].kind {
            mqlog_protocol::schema::FieldType::Array(
                mqlog_protocol::schema::FieldType::Struct(s),
            ) => s,
            _ => panic!("topics are structs"),
        },
    )]);
    let error = encode(delete, 5, &with(delete, "topics", ids), &mut got).unwrap_err();
    assert_eq!(
        error,
        EncodeError::NotInVersion {
            field: "topics",
            version: 5
        }
    );

    let error = encode(create, 7, &with(create, "topics", Value::Null), &mut got).unwrap_err();
    assert_eq!(
        error,
        EncodeError::Null {
            field: "topics",
            version: 7
        }
    );
    let error = encode(
        create,
        7,
        &with(create, "timeout_ms", Value::Int(1 << 31)),
        &mut got,
    );
    assert!(matches!(
        error,
        Err(EncodeError::Range {
            field: "timeout_ms",
            ..
        })
    ));
    let error = encode(
        create,
        7,
        &with(create, "timeout_ms", Value::Bool(true)),
        &mut got,
    );
    assert!(matches!(
        error,
        Err(EncodeError::Type {
            field: "timeout_ms",
            ..
        })
    ));
    let error = encode(create, 1, &Value::default_struct(&create.root), &mut got).unwrap_err();
    assert!(matches!(
        error,
        EncodeError::Version {
            version: 1,
            min: 2,
            max: 7,
            ..
        }
    ));
    let long = Value::Str("x".repeat(40_000));
    let find = tables::request(10).unwrap();
    let error = encode(find, 3, &with(find, "key", long), &mut got).unwrap_err();
    assert_eq!(
        error,
        EncodeError::TooLong {
            field: "key",
            length: 40_000,
            limit: 32_767
        }
    );
}
