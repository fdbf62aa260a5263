//! Writes one record into a records section: the only encoder of records there is.

/// A header of a record: its key and its value, which may be null.
pub type HeaderRef<'a> = (&'a [u8], Option<&'a [u8]>);

/// What a record has beyond its offset and its time.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null.
    pub value: Option<&'a [u8]>,
    /// The headers, in order.
    pub headers: &'a [HeaderRef<'a>],
}

/// The longest that a record's length, attributes, time, offset and three counts become, and what
/// a varint is written over.
const FIXED: usize = 5 + 1 + 10 + 5 + 3 * 5 + 8;

impl Content<'_> {
    /// Room that [`put_record`] needs for this: at least what it takes, and a few bytes more.
    #[inline]
    pub fn size_bound(&self) -> usize {
        let headers = self.headers.iter().fold(0usize, |size, (key, value)| {
            size.saturating_add(key.len() + 10 + value.map_or(0, <[u8]>::len))
        });
        self.key
            .map_or(0, <[u8]>::len)
            .saturating_add(self.value.map_or(0, <[u8]>::len))
            .saturating_add(FIXED)
            .saturating_add(headers)
    }

    /// Bytes of the record less its own length field.
    #[inline]
    fn body_len(&self, offset_delta: i32, timestamp_delta: i64) -> usize {
        let mut len = 1
            + varint_len(timestamp_delta)
            + varint_len(i64::from(offset_delta))
            + bytes_len(self.key)
            + bytes_len(self.value)
            + varint_len(self.headers.len() as i64);
        for (key, value) in self.headers {
            len += bytes_len(Some(key)) + bytes_len(*value);
        }
        len
    }
}

/// Writes a record to the start of `room` and says how long it is; `None` if there may not be
/// room enough, which [`Content::size_bound`] tells beforehand. Both deltas are to the batch's
/// base.
#[inline]
pub fn put_record(
    room: &mut [u8],
    offset_delta: i32,
    timestamp_delta: i64,
    what: &Content<'_>,
) -> Option<usize> {
    if room.len() < what.size_bound() {
        return None;
    }
    if what.headers.is_empty() {
        if let Some(len) = put_short(room, offset_delta, timestamp_delta, what) {
            return Some(len);
        }
    }
    put_long(room, offset_delta, timestamp_delta, what)
}

fn put_long(
    room: &mut [u8],
    offset_delta: i32,
    timestamp_delta: i64,
    what: &Content<'_>,
) -> Option<usize> {
    let body = what.body_len(offset_delta, timestamp_delta);
    let mut out = Cursor { room, at: 0 };
    out.varint(body as i64)?;
    // Attributes, of which none is in use.
    out.varint(0)?;
    out.varint(timestamp_delta)?;
    out.varint(i64::from(offset_delta))?;
    out.bytes(what.key)?;
    out.bytes(what.value)?;
    out.varint(what.headers.len() as i64)?;
    for (key, value) in what.headers {
        out.bytes(Some(key))?;
        out.bytes(*value)?;
    }
    Some(out.at)
}

/// A record without headers whose integers are short, as nearly all are: its fields up to the key
/// are put together in a register and stored at once. `None` if one of them is long.
#[inline]
fn put_short(
    room: &mut [u8],
    offset_delta: i32,
    timestamp_delta: i64,
    what: &Content<'_>,
) -> Option<usize> {
    let (key, value) = (what.key.unwrap_or_default(), what.value.unwrap_or_default());
    let value_len = Short::new(what.value.map_or(-1, |value| value.len() as i64))?;
    let fields = Short::new(timestamp_delta)?
        .then(Short::new(i64::from(offset_delta))?)
        .then(Short::new(what.key.map_or(-1, |key| key.len() as i64))?);
    // Attributes before them and the count of headers at the end are a zero byte each.
    let body = 1 + fields.len + key.len() + value_len.len + value.len() + 1;
    let fields = Short::new(body as i64)?.then(Short::new(0)?).then(fields);
    *room.first_chunk_mut::<16>()? = fields.bits.to_le_bytes();
    let mut at = fields.len;
    if !key.is_empty() {
        room.get_mut(at..at + key.len())?.copy_from_slice(key);
        at += key.len();
    }
    let rest = room.get_mut(at..)?;
    *rest.first_chunk_mut::<4>()? = (value_len.bits as u32).to_le_bytes();
    let (value_room, rest) = rest
        .get_mut(value_len.len..)?
        .split_at_mut_checked(value.len())?;
    value_room.copy_from_slice(value);
    *rest.first_mut()? = 0;
    Some(at + value_len.len + value.len() + 1)
}

/// Varints of up to three bytes each, one after the other.
#[derive(Debug, Clone, Copy)]
struct Short {
    bits: u128,
    len: usize,
}

impl Short {
    #[inline]
    fn new(value: i64) -> Option<Short> {
        let raw = zigzag(value);
        let (bits, len) = if raw < 0x80 {
            (raw, 1)
        } else if raw < 0x4000 {
            (raw & 0x7f | 0x80 | (raw & 0x3f80) << 1, 2)
        } else if raw < 0x20_0000 {
            let low = raw & 0x7f | (raw & 0x3f80) << 1;
            (low | 0x8080 | (raw & 0x1f_c000) << 2, 3)
        } else {
            return None;
        };
        let bits = u128::from(bits);
        Some(Short { bits, len })
    }

    /// The two of them: five at most, so that no bit is lost.
    #[inline]
    fn then(self, next: Short) -> Short {
        Short {
            bits: self.bits | next.bits << (8 * self.len),
            len: self.len + next.len,
        }
    }
}

struct Cursor<'a> {
    room: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    /// Short ones are stored as a word of which only the first bytes count: nothing is looked at
    /// byte by byte, and the next field overwrites the rest.
    #[inline]
    fn varint(&mut self, value: i64) -> Option<()> {
        let Some(short) = Short::new(value) else {
            return self.long_varint(zigzag(value));
        };
        let room = self.room.get_mut(self.at..)?.first_chunk_mut::<4>()?;
        *room = (short.bits as u32).to_le_bytes();
        self.at += short.len;
        Some(())
    }

    fn long_varint(&mut self, mut rest: u64) -> Option<()> {
        while rest >= 0x80 {
            *self.room.get_mut(self.at)? = rest as u8 | 0x80;
            self.at += 1;
            rest >>= 7;
        }
        *self.room.get_mut(self.at)? = rest as u8;
        self.at += 1;
        Some(())
    }

    #[inline]
    fn bytes(&mut self, bytes: Option<&[u8]>) -> Option<()> {
        let Some(bytes) = bytes else {
            return self.varint(-1);
        };
        self.varint(bytes.len() as i64)?;
        let end = self.at + bytes.len();
        self.room.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bytes of `value` as a zigzag varint: 1-10.
#[inline]
fn varint_len(value: i64) -> usize {
    // A division of the bits by 7, rounded up, which holds for 1 to 64 of them.
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

#[inline]
fn bytes_len(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => 1,
        Some(bytes) => varint_len(bytes.len() as i64) + bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::varint::Reader;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_of_every_length(value: i64, shift in 0u32..64) {
            for value in [value >> shift, i64::MIN, i64::MAX, -1, 0, 63, 64, -64, -65, 8191, 8192] {
                let mut room = [0; 16];
                let mut out = Cursor { room: &mut room, at: 0 };
                out.varint(value).unwrap();
                let len = out.at;
                prop_assert_eq!(len, varint_len(value));
                let mut reader = Reader::new(&room[..len]);
                prop_assert_eq!(reader.varlong().unwrap(), value);
                prop_assert_eq!(reader.remaining(), 0);
            }
        }
    }

    proptest! {
        #[test]
        fn the_short_way_writes_the_same(
            offset in 0..20_000,
            time in -9_000i64..20_000,
            key in proptest::option::of(0usize..70),
            value in proptest::option::of(0usize..70),
            edge in prop::sample::select(vec![0, 8_192 - 80, (1 << 20) - 80]),
        ) {
            let bytes: Vec<u8> = (0..edge + 80).map(|at| at as u8).collect();
            let content = Content {
                key: key.map(|len| &bytes[..len]),
                value: value.map(|len| &bytes[..edge + len]),
                headers: &[],
            };
            let mut short = vec![1; content.size_bound()];
            let mut long = vec![2; content.size_bound()];
            for (offset, time) in [(offset, time), (offset << 6, time << 7), (i32::MAX, i64::MIN)] {
                let len = put_record(&mut short, offset, time, &content).unwrap();
                prop_assert_eq!(put_long(&mut long, offset, time, &content), Some(len));
                prop_assert_eq!(&short[..len], &long[..len]);
            }
        }
    }

    #[test]
    fn no_room_is_no_panic() {
        let content = Content {
            key: Some(b"key"),
            value: None,
            headers: &[(b"a", Some(b"b"))],
        };
        let needed = content.size_bound();
        for len in 0..needed {
            assert_eq!(put_record(&mut vec![0; len], 0, 0, &content), None);
        }
        assert!(put_record(&mut vec![0; needed], i32::MAX, i64::MIN, &content).is_some());
    }
}
