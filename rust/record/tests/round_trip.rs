//! What the builder writes, the reader gives back, whatever the codec; the rules are kept.
#![allow(clippy::unwrap_used, missing_docs)]

use mqlog_record::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

type Owned = (
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    i64,
    Vec<(Vec<u8>, Option<Vec<u8>>)>,
);

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..40), vec(0u8..3, 0..3000)]
}

fn records() -> impl Strategy<Value = Vec<Owned>> {
    let headers = vec((bytes(), option::of(bytes())), 0..4);
    vec(
        (
            option::of(bytes()),
            option::of(bytes()),
            any::<i64>(),
            headers,
        ),
        1..20,
    )
}

fn codecs() -> impl Strategy<Value = Codec> {
    (0u8..5).prop_map(|number| Codec::try_from(number).unwrap())
}

fn fill(builder: &mut BatchBuilder, records: &[Owned]) {
    for (key, value, timestamp, headers) in records {
        let headers: Vec<HeaderRef<'_>> = headers
            .iter()
            .map(|(k, v)| (&k[..], v.as_deref()))
            .collect();
        builder
            .append(key.as_deref(), value.as_deref(), *timestamp, &headers)
            .unwrap();
    }
}

fn read(batch: &[u8]) -> Vec<Owned> {
    let open = OpenBatch::new(batch, 1 << 24).unwrap();
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    open.records()
        .map(|record| {
            let record = record.unwrap();
            let headers = record
                .headers()
                .map(|(k, v)| (k.to_vec(), owned(v)))
                .collect();
            (
                owned(record.key),
                owned(record.value),
                record.timestamp,
                headers,
            )
        })
        .collect()
}

proptest! {
    #[test]
    fn records_survive(codec in codecs(), records in records(), base in 0i64..1 << 60) {
        let mut builder = BatchBuilder::new(codec).base_offset(base).producer(5, 0, 9);
        fill(&mut builder, &records);
        let batch = builder.build().unwrap();
        let header = validate_header(&batch, batch.len()).unwrap();
        prop_assert_eq!(header.next_offset(), base + records.len() as i64);
        prop_assert_eq!(peek_size(&batch), Some(batch.len()));
        let info = validate_records(&batch, 1 << 24).unwrap();
        prop_assert_eq!(info.null_keys, records.iter().any(|r| r.0.is_none()));
        prop_assert_eq!(info.max_timestamp, records.iter().map(|r| r.2).max().unwrap());
        prop_assert_eq!(info.max_timestamp, header.max_timestamp);
        prop_assert_eq!(info.min_timestamp, records.iter().map(|r| r.2).min().unwrap());
        prop_assert_eq!(read(&batch), records);
    }

    #[test]
    fn codecs_survive(codec in codecs(), input in bytes(), times in 0usize..200) {
        let input = input.repeat(times);
        let mut small = b"before".to_vec();
        compress(codec, None, &input, &mut small).unwrap();
        let mut back = b"also".to_vec();
        decompress(codec, &small[6..], input.len(), &mut back).unwrap();
        prop_assert_eq!(&back[4..], &input[..]);
        if !input.is_empty() {
            let mut out = Vec::new();
            let limit = input.len() - 1;
            let refused = decompress(codec, &small[6..], limit, &mut out);
            prop_assert_eq!(refused, Err(RecordError::Bomb { codec, limit }));
        }
    }
}

#[test]
fn levels_are_used() {
    let input: Vec<u8> = (0..200_000u32)
        .flat_map(|i| (i % 1000 * i % 9973).to_string().into_bytes())
        .collect();
    for (codec, low, high) in [(Codec::Gzip, 1, 9), (Codec::Zstd, -5, 22)] {
        let sizes = [low, high].map(|level| {
            let (mut small, mut back) = (Vec::new(), Vec::new());
            compress(codec, Some(level), &input, &mut small).unwrap();
            decompress(codec, &small, input.len(), &mut back).unwrap();
            assert_eq!(back, input);
            small.len()
        });
        assert!(sizes[1] < sizes[0], "{codec}: {sizes:?}");
    }
}

#[test]
fn assign_leaves_the_checksum_alone_and_append_time_renews_it() {
    let mut builder = BatchBuilder::new(Codec::Lz4);
    builder.append(None, Some(b"v"), 1_000, &[]).unwrap();
    let mut batch = builder.build().unwrap();
    let before = BatchHeader::parse(&batch).unwrap();
    assign(&mut batch, 1 << 40, 7);
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!(
        (header.base_offset, header.partition_leader_epoch),
        (1 << 40, 7)
    );
    assert_eq!(header.crc, before.crc);
    assert!(verify_crc(&batch));
    set_log_append_time(&mut batch, 5_000);
    assert!(verify_crc(&batch));
    let open = OpenBatch::new(&batch, 1 << 20).unwrap();
    assert!(open.header().is_log_append_time());
    assert_eq!(open.records().next().unwrap().unwrap().timestamp, 5_000);
}

#[test]
fn gaps_and_empty_batches() {
    let mut builder = BatchBuilder::new(Codec::Gzip).base_offset(100);
    builder.append_at(3, Some(b"a"), None, 0, &[]).unwrap();
    builder.append_at(9, Some(b"b"), None, 0, &[]).unwrap();
    assert!(builder.append_at(9, None, None, 0, &[]).is_err());
    let batch = builder.build().unwrap();
    let open = OpenBatch::new(&batch, 1 << 20).unwrap();
    let offsets: Vec<i64> = open.records().map(|r| r.unwrap().offset).collect();
    assert_eq!(
        (offsets, open.header().next_offset()),
        (vec![103, 109], 110)
    );
    assert_eq!(
        validate_records(&batch, 1 << 20),
        Err(RecordError::OffsetDelta { index: 0, delta: 3 })
    );

    let empty = BatchBuilder::new(Codec::Zstd)
        .base_offset(8)
        .build()
        .unwrap();
    assert_eq!(empty.len(), HEADER_LEN);
    assert!(verify_crc(&empty));
    assert_eq!(OpenBatch::new(&empty, 0).unwrap().records().count(), 0);
    assert_eq!(BatchHeader::parse(&empty).unwrap().next_offset(), 9);
    assert!(matches!(
        validate_header(&empty, 100),
        Err(RecordError::Count { count: 0, .. })
    ));
}

#[test]
fn markers() {
    for marker in [Marker::Commit, Marker::Abort] {
        let content = ControlRecord {
            marker,
            coordinator_epoch: 12,
        };
        let batch = control_batch(content, 77, 3, 1_000).unwrap();
        let header = validate_header(&batch, 1_000).unwrap();
        assert!(header.is_control() && header.is_transactional() && header.has_producer());
        let open = OpenBatch::new(&batch, 1_000).unwrap();
        let record = open.records().next().unwrap().unwrap();
        assert_eq!(ControlRecord::parse(&record), Some(content));
    }
}

#[test]
fn batches_stop_before_a_cut_tail() {
    let mut log = Vec::new();
    for offset in 0..3 {
        let mut builder = BatchBuilder::new(Codec::None).base_offset(offset);
        builder.append(None, Some(b"value"), 0, &[]).unwrap();
        log.extend(builder.build().unwrap());
    }
    let size = log.len() / 3;
    for cut in 0..=log.len() {
        let mut batches = Batches::new(&log[..cut]);
        let offsets: Vec<i64> = batches
            .by_ref()
            .map(|b| b.unwrap().header.base_offset)
            .collect();
        assert_eq!(offsets, (0..(cut / size) as i64).collect::<Vec<_>>());
        assert_eq!(batches.position(), cut / size * size);
    }
    log[size + 16] = 1;
    let mut batches = Batches::new(&log);
    assert!(batches.next().unwrap().unwrap().verify_crc());
    let error = batches.next().unwrap().unwrap_err();
    assert_eq!(
        error,
        BatchError {
            position: size,
            error: RecordError::Magic(1)
        }
    );
    assert!(batches.next().is_none());
}
