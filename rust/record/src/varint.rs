//! The bounds-checked reader of a records section; its integers are zigzag-coded varints.

use crate::RecordError;

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
