//! Zigzag variable-length integers, and the bounds-checked reader of a records section.

use crate::RecordError;

/// Appends `value`, zigzag-coded: 1-10 bytes.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes that `put_varint` appends.
pub(crate) fn varint_len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (70 - (zigzag | 1).leading_zeros() as usize) / 7
}

/// Walks bytes that nobody has checked; every read is against what remains.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, position: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    pub(crate) fn skip_byte(&mut self) -> Result<(), RecordError> {
        self.take(1).map(|_| ())
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let bytes = self.rest().get(..len).ok_or(RecordError::Length {
            length: len as i64,
            position: self.position,
            remaining: self.remaining(),
        })?;
        self.position += len;
        Ok(bytes)
    }

    /// A 32-bit varint; 5 bytes at most, and no bit beyond the 32nd.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<i32, RecordError> {
        let raw = self.unsigned(5)?;
        let raw = u32::try_from(raw).map_err(|_| RecordError::Varint(self.position))?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A 64-bit varint; 10 bytes at most, and no bit beyond the 64th.
    #[inline]
    pub(crate) fn varlong(&mut self) -> Result<i64, RecordError> {
        let raw = self.unsigned(10)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    #[inline]
    fn unsigned(&mut self, longest: usize) -> Result<u64, RecordError> {
        let mut value = 0u64;
        for (i, &byte) in self.rest().iter().take(longest).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * i);
            if byte < 0x80 {
                self.position += i + 1;
                return Ok(value);
            }
        }
        Err(RecordError::Varint(self.position))
    }

    /// A varint length followed by that many bytes; -1 is null.
    #[inline]
    pub(crate) fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        let position = self.position;
        match self.varint()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => self.take(length).map(Some),
                Err(_) => Err(self.bad_length(i64::from(length), position)),
            },
        }
    }

    /// A varint length, never negative, followed by that many bytes.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], RecordError> {
        let position = self.position;
        self.nullable_bytes()?
            .ok_or_else(|| self.bad_length(-1, position))
    }

    pub(crate) fn bad_length(&self, length: i64, position: usize) -> RecordError {
        RecordError::Length {
            length,
            position,
            remaining: self.remaining(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(value: i64, small in -300i64..300) {
            for value in [value, small, value >> 32, i64::MIN, i64::MAX] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                prop_assert_eq!(out.len(), varint_len(value));
                prop_assert_eq!(Reader::new(&out).varlong().unwrap(), value);
                let as_int = Reader::new(&out).varint();
                prop_assert_eq!(as_int.ok(), i32::try_from(value).ok());
            }
        }
    }

    #[test]
    fn overlong_and_cut_off_are_refused() {
        assert!(Reader::new(&[0x80; 9]).varlong().is_err());
        assert!(Reader::new(&[0xff; 11]).varlong().is_err());
        assert!(Reader::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0])
            .varint()
            .is_err());
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f])
            .varint()
            .is_err());
        assert!(Reader::new(&[]).varint().is_err());
    }
}
