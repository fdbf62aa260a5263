//! Bytes made to hurt: each is refused with the right error, in bounded memory, without a panic.
#![allow(clippy::unwrap_used, missing_docs)]

use mqlog_record::*;

/// A small seeded generator (xorshift), so that a failure can be replayed.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

fn sample(codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec).producer(1, 0, 0);
    for i in 0..40i64 {
        let value = format!("value {i} ").repeat(i as usize);
        let headers: &[HeaderRef<'_>] = &[(b"h", None), (b"h", Some(b"x"))];
        builder
            .append(Some(b"key"), Some(value.as_bytes()), i * 1_000, headers)
            .unwrap();
    }
    builder.build().unwrap()
}

/// Recomputes length and checksum, so that what is inside gets looked at.
fn resealed(mut batch: Vec<u8>) -> Vec<u8> {
    let length = (batch.len() - LENGTH_OVERHEAD) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// A batch without producer whose header says `codec` and `count`, around these bytes.
fn wrap(codec: Codec, count: i32, body: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(None, None, 0, &[]).unwrap();
    let mut batch = builder.build().unwrap();
    batch.truncate(HEADER_LEN);
    batch[22] = codec as u8;
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    batch.extend_from_slice(body);
    resealed(batch)
}

fn mutate(random: &mut Seeded, batch: &mut Vec<u8>) {
    for _ in 0..1 + random.below(4) {
        let at = random.below(batch.len());
        match random.below(6) {
            0 => batch[at] ^= 1 << random.below(8),
            1 => batch[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => batch.truncate(at.max(HEADER_LEN)),
            3 => batch.insert(at, random.below(256) as u8),
            4 => {
                let end = (at + random.below(12)).min(batch.len());
                batch[at..end].fill(0xff);
            }
            _ => {
                let end = (at + random.below(40)).min(batch.len());
                let copy = batch[at..end].to_vec();
                batch.extend(copy);
            }
        }
    }
}

/// Everything a reader may do with bytes; only that it comes back matters.
fn exercise(bytes: &[u8]) -> bool {
    let limit = 1 << 20;
    for batch in Batches::new(bytes).flatten() {
        if let Ok(open) = batch.open(limit) {
            assert!(open.body().len() <= limit.max(bytes.len()));
            for record in open.records().flatten() {
                assert!(record.headers().count() <= bytes.len() + limit);
                ControlRecord::parse(&record);
            }
        }
        let _ = (
            batch.header.last_offset(),
            batch.header.next_offset(),
            batch.header.codec(),
        );
    }
    validate_header(bytes, limit).is_ok() && validate_records(bytes, limit).is_ok()
}

#[test]
fn mutated_batches_never_panic() {
    let mut random = Seeded(0x9e37_79b9_7f4a_7c15);
    for codec in Codec::ALL {
        let good = sample(codec);
        assert!(exercise(&good));
        let mut accepted = 0;
        for _ in 0..3_000 {
            let mut batch = good.clone();
            mutate(&mut random, &mut batch);
            exercise(&batch);
            accepted += u32::from(exercise(&resealed(batch)));
        }
        // Most changes must be noticed once the batch is opened; some only alter a value.
        assert!(accepted < 2_000, "{codec}: {accepted} of 3000 accepted");
    }
}

#[test]
fn every_flipped_byte_fails_the_checksum() {
    let good = sample(Codec::Lz4);
    for at in 17..good.len() {
        let mut batch = good.clone();
        batch[at] ^= 0x10;
        let error = validate_header(&batch, good.len()).unwrap_err();
        assert!(
            matches!(error, RecordError::Crc { .. }),
            "byte {at}: {error}"
        );
        assert!(error.is_corrupt());
    }
}

#[test]
fn headers_that_break_the_rules() {
    let changed = |at: usize, bytes: &[u8]| {
        let mut batch = sample(Codec::None);
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        validate_header(&batch, 1 << 20)
    };
    assert!(changed(0, &[]).is_ok());
    assert!(matches!(changed(16, &[1]), Err(RecordError::Magic(1))));
    assert!(matches!(
        changed(8, &[0xff; 4]),
        Err(RecordError::BatchLength(-1))
    ));
    assert!(matches!(
        changed(8, &[0, 0, 0, 48]),
        Err(RecordError::BatchLength(48))
    ));
    assert!(matches!(
        changed(8, &[0, 0, 0, 49]),
        Err(RecordError::SizeMismatch { .. })
    ));
    assert!(matches!(
        changed(22, &[5]),
        Err(RecordError::UnknownCodec(5))
    ));
    assert!(matches!(
        changed(57, &[0, 0, 0, 41]),
        Err(RecordError::Count { count: 41, .. })
    ));
    assert!(matches!(
        changed(57, &[0x80, 0, 0, 0]),
        Err(RecordError::Count { .. })
    ));
    assert!(matches!(
        changed(51, &[0xff, 0xff]),
        Err(RecordError::Producer { .. })
    ));
    assert!(matches!(
        changed(53, &[0xff; 4]),
        Err(RecordError::Producer { .. })
    ));
    let many = wrap(Codec::None, 3, &[0; 20]);
    assert_eq!(
        validate_header(&many, 1 << 20),
        Err(RecordError::CountBytes {
            count: 3,
            bytes: 20
        })
    );
    assert!(validate_header(&wrap(Codec::Zstd, i32::MAX, &[0; 20]), 1 << 20).is_ok());
    let batch = sample(Codec::None);
    assert_eq!(
        validate_header(&batch, 100),
        Err(RecordError::TooLarge {
            size: batch.len(),
            limit: 100
        })
    );
}

#[test]
fn record_lengths_beyond_the_bytes() {
    let bodies: [&[u8]; 9] = [
        &[],                                          // no record at all
        &[0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0],     // length 2^31 - 1
        &[1, 0, 0, 0, 0, 0, 0],                       // length -1
        &[0],                                         // length 0
        &[12, 0, 0, 0, 0xfe, 0xff, 0x7f, 0],          // key longer than the record
        &[12, 0, 0, 0, 3, 1, 0],                      // key length -2
        &[18, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0x0f], // headers count huge
        &[14, 0, 0, 0, 1, 1, 0, 9],                   // a byte after the headers
        &[12, 0, 0, 0, 1, 1, 0, 9],                   // a byte after the record
    ];
    for body in bodies {
        let batch = wrap(Codec::None, 1, body);
        assert!(validate_records(&batch, 1 << 20).is_err(), "{body:?}");
    }
    assert!(validate_records(&wrap(Codec::None, 1, &[12, 0, 0, 0, 1, 1, 0]), 1 << 20).is_ok());
}

#[test]
fn bombs_are_cut_at_the_limit() {
    let zeros = vec![0u8; 64 << 20];
    let limit = 1 << 20;
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut small = Vec::new();
        compress(codec, None, &zeros, &mut small).unwrap();
        let batch = wrap(codec, 1, &small);
        let refused = validate_records(&batch, limit);
        assert_eq!(refused, Err(RecordError::Bomb { codec, limit }));
        let mut out = Vec::new();
        assert!(decompress(codec, &small, limit, &mut out).is_err());
        assert!(
            out.capacity() <= 4 * limit,
            "{codec} held {} bytes",
            out.capacity()
        );
    }
}

#[test]
fn false_claims_reserve_nothing() {
    // A raw snappy block that declares 2^32 - 1 bytes, and a zstd frame that declares 2^40.
    let snappy = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    let zstd = [
        0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0,
    ];
    for (codec, input) in [(Codec::Snappy, &snappy[..]), (Codec::Zstd, &zstd[..])] {
        let mut out = Vec::new();
        assert!(decompress(codec, input, usize::MAX >> 2, &mut out).is_err());
        assert!(
            out.capacity() < 1 << 22,
            "{codec} held {} bytes",
            out.capacity()
        );
    }
}

#[test]
fn a_frame_cut_anywhere_is_noticed() {
    let input = b"some text that repeats, some text that repeats. ".repeat(40);
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut small = Vec::new();
        compress(codec, None, &input, &mut small).unwrap();
        for cut in 0..small.len() {
            let mut out = Vec::new();
            let result = decompress(codec, &small[..cut], 1 << 20, &mut out);
            // Cut to nothing, or behind the stream header, snappy and zstd have whole blocks.
            assert!(result.is_err() || out.is_empty(), "{codec} cut at {cut}");
        }
    }
}

#[test]
fn zstd_windows_are_bounded() {
    // Magic, descriptor without content size, window 2^27, then a raw last block of one byte.
    let window = |log: u8| [0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3, 9, 0, 0, b'x'];
    let mut out = Vec::new();
    assert!(decompress(Codec::Zstd, &window(27), 1 << 20, &mut out).is_err());
    assert!(decompress(Codec::Zstd, &window(23), 1 << 20, &mut out).is_ok());
    assert_eq!(out, b"x");
}

/// Several blocks that refer to each other, some stored as they are: the decoder's hardest case.
#[test]
fn mutated_lz4_frames_of_any_kind_never_panic() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use std::io::Write;

    let mut random = Seeded(0x2545_f491_4f6c_dd1d);
    let mut input = Vec::new();
    for part in 0..6 {
        input.extend((0..20_000).map(|_| random.below(256) as u8));
        input.extend(b"a text that repeats, block after block. ".repeat(900 + part));
    }
    for mode in [BlockMode::Linked, BlockMode::Independent] {
        let info = FrameInfo::new()
            .block_mode(mode)
            .block_size(BlockSize::Max64KB);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        for piece in input.chunks(7_000) {
            encoder.write_all(piece).unwrap();
            if random.below(3) == 0 {
                encoder.flush().unwrap();
            }
        }
        let good = encoder.finish().unwrap();
        let mut out = Vec::new();
        decompress(Codec::Lz4, &good, input.len(), &mut out).unwrap();
        assert_eq!(out, input);
        let mut refused = 0;
        for _ in 0..400 {
            let mut bad = good.clone();
            mutate(&mut random, &mut bad);
            out.clear();
            refused += u32::from(decompress(Codec::Lz4, &bad, 1 << 20, &mut out).is_err());
            assert!(out.len() <= (1 << 20) + 1);
        }
        assert!(refused > 100, "{mode:?}: {refused} of 400 refused");
    }
}
