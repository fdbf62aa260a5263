//! Batches written by others (Apache Kafka, kafka-python), read as their own readers read them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;

use mqlog_record::*;
use serde_json::Value;

fn hex(bytes: Option<&[u8]>) -> Value {
    let digits = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    bytes.map(digits).into()
}

fn described(record: &Record<'_>) -> Value {
    let headers: Vec<Value> = record
        .headers()
        .map(|(name, value)| {
            Value::from(vec![
                String::from_utf8(name.to_vec()).unwrap().into(),
                hex(value),
            ])
        })
        .collect();
    serde_json::json!({
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": hex(record.key),
        "value": hex(record.value),
        "headers": headers,
    })
}

fn described_batch(batch: &Batch<'_>) -> Value {
    let header = &batch.header;
    let open = batch.open(1 << 20).unwrap();
    serde_json::json!({
        "position": batch.position,
        "base_offset": header.base_offset,
        "last_offset_delta": header.last_offset_delta,
        "leader_epoch": header.partition_leader_epoch,
        "crc": header.crc,
        "attributes": header.attributes,
        "first_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "records_count": header.records_count,
        "records": open.records().map(|r| described(&r.unwrap())).collect::<Vec<_>>(),
    })
}

#[test]
fn read_as_their_writers_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/batches");
    let expected = fs::read_to_string(folder.join("batches.json")).unwrap();
    let expected: serde_json::Map<String, Value> = serde_json::from_str(&expected).unwrap();
    assert!(expected.len() >= 20);
    for (name, batches) in expected {
        let bytes = fs::read(folder.join(format!("{name}.batch"))).unwrap();
        let mut walk = Batches::new(&bytes);
        let found: Vec<Value> = walk
            .by_ref()
            .map(|batch| {
                let batch = batch.unwrap();
                assert!(batch.verify_crc(), "{name}");
                described_batch(&batch)
            })
            .collect();
        assert_eq!(Value::from(found), batches, "{name}");
        assert_eq!(walk.position(), bytes.len(), "{name}");
        // Producers' own batches pass the broker's checks; compacted ones have gaps.
        if name != "java-compacted" {
            for batch in Batches::new(&bytes).map(Result::unwrap) {
                validate_header(batch.bytes, 1 << 20).unwrap();
                validate_records(batch.bytes, 1 << 20).unwrap();
            }
        }
    }
}
