//! Bounds-checked reading of the protocol's primitive types.
//!
//! Nothing here trusts a length: each is compared with the bytes that remain before anything is
//! reserved or sliced. `flexible` says which of the two encodings of lengths applies: fixed-width
//! with -1 for null, or (flexible versions) an unsigned varint of length + 1 with 0 for null.

use crate::error::DecodeError;

/// The longest string Kafka reads or writes, in bytes, in both encodings.
pub const MAX_STRING_BYTES: usize = i16::MAX as usize;

/// A cursor over the bytes of one message.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    field: &'static str,
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident -> $type:ty;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name(&mut self) -> Result<$type, DecodeError> {
            Ok(<$type>::from_be_bytes(self.array()?))
        }
    )*};
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader {
            bytes,
            position: 0,
            field: "message",
        }
    }

    /// Names the field that is read next; errors carry the name.
    #[inline]
    pub fn field(&mut self, name: &'static str) -> &mut Self {
        self.field = name;
        self
    }

    /// The name given last.
    pub fn field_name(&self) -> &'static str {
        self.field
    }

    /// Bytes read so far.
    #[inline]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes not read yet.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    fixed! {
        /// A signed byte.
        i8 -> i8;
        /// A big-endian 16-bit integer.
        i16 -> i16;
        /// A big-endian 32-bit integer.
        i32 -> i32;
        /// A big-endian 64-bit integer.
        i64 -> i64;
        /// A big-endian unsigned 16-bit integer.
        u16 -> u16;
        /// A big-endian unsigned 32-bit integer.
        u32 -> u32;
        /// A big-endian double.
        f64 -> f64;
    }

    /// One byte; anything but 0 is true, as in Kafka.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// Sixteen bytes, in network order.
    #[inline]
    pub fn uuid(&mut self) -> Result<[u8; 16], DecodeError> {
        self.array()
    }

    /// An unsigned varint of at most 32 bits in at most five bytes. Padding within these is
    /// accepted (Kafka does), anything longer is not.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        match self.bytes.get(self.position) {
            Some(&byte) if byte < 0x80 => {
                self.position += 1;
                Ok(u32::from(byte))
            }
            _ => self.long_uvarint(),
        }
    }

    fn long_uvarint(&mut self) -> Result<u32, DecodeError> {
        let start = self.position;
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.i8()? as u8;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| DecodeError::Varint {
                    field: self.field,
                    position: start,
                });
            }
        }
        Err(DecodeError::Varint {
            field: self.field,
            position: start,
        })
    }

    /// `count` bytes as they are.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.position.checked_add(count);
        match end.and_then(|end| Some((end, self.bytes.get(self.position..end)?))) {
            Some((end, slice)) => {
                self.position = end;
                Ok(slice)
            }
            None => Err(DecodeError::Truncated {
                field: self.field,
                position: self.position,
                needed: count,
                remaining: self.remaining(),
            }),
        }
    }

    /// A string that may not be null.
    #[inline]
    pub fn string(&mut self, flexible: bool) -> Result<&'a str, DecodeError> {
        match self.nullable_string(flexible)? {
            Some(text) => Ok(text),
            None => Err(self.unexpected_null()),
        }
    }

    /// A string or null.
    #[inline]
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<&'a str>, DecodeError> {
        let start = self.position;
        let length = if flexible {
            i64::from(self.uvarint()?) - 1
        } else {
            i64::from(self.i16()?)
        };
        let Some(length) = self.checked_length(length, start)? else {
            return Ok(None);
        };
        if length > MAX_STRING_BYTES {
            return Err(self.bad_length(length as i64, start));
        }
        let position = self.position;
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(DecodeError::Utf8 {
                field: self.field,
                position,
            }),
        }
    }

    /// Bytes that may not be null.
    #[inline]
    pub fn bytes(&mut self, flexible: bool) -> Result<&'a [u8], DecodeError> {
        match self.nullable_bytes(flexible)? {
            Some(bytes) => Ok(bytes),
            None => Err(self.unexpected_null()),
        }
    }

    /// Bytes or null; also the encoding of records.
    #[inline]
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, DecodeError> {
        let start = self.position;
        let length = self.long_length(flexible)?;
        match self.checked_length(length, start)? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    /// The element count of an array that may not be null. See [`Reader::nullable_array_len`].
    #[inline]
    pub fn array_len(&mut self, flexible: bool, min_size: usize) -> Result<usize, DecodeError> {
        match self.nullable_array_len(flexible, min_size)? {
            Some(count) => Ok(count),
            None => Err(self.unexpected_null()),
        }
    }

    /// The element count of an array, or null. It is checked against the bytes that remain, each
    /// element taking at least `min_size` (and at least one), so that reserving for it is safe.
    #[inline]
    pub fn nullable_array_len(
        &mut self,
        flexible: bool,
        min_size: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let start = self.position;
        let length = self.long_length(flexible)?;
        let Some(count) = self.checked_length(length, start)? else {
            return Ok(None);
        };
        if count > self.remaining() / min_size.max(1) {
            return Err(DecodeError::Count {
                field: self.field,
                position: self.position,
                count,
                remaining: self.remaining(),
            });
        }
        Ok(Some(count))
    }

    /// Skips a section of tagged fields, if `flexible`.
    #[inline]
    pub fn skip_tags(&mut self, flexible: bool) -> Result<(), DecodeError> {
        self.tags(flexible, |_, _| Ok(()))
    }

    /// Reads a section of tagged fields, if `flexible`: `known` gets each tag with a reader over
    /// its content alone. It need not read a tag that it does not know; one that it starts to
    /// read it must read to the end.
    #[inline]
    pub fn tags(
        &mut self,
        flexible: bool,
        mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if !flexible {
            return Ok(());
        }
        // Each takes at least two bytes, so the loop ends where the bytes do.
        for _ in 0..self.field("tagged fields").uvarint()? {
            let tag = self.field("tag").uvarint()?;
            let size = self.field("tagged field").uvarint()? as usize;
            let start = self.position;
            self.take(size)?;
            let mut content = Reader {
                bytes: &self.bytes[..self.position],
                position: start,
                field: self.field,
            };
            known(tag, &mut content)?;
            if content.position != start && content.remaining() > 0 {
                return Err(DecodeError::TagSize {
                    field: content.field,
                    position: content.position,
                    left: content.remaining(),
                });
            }
        }
        Ok(())
    }

    /// The error for a null that is not legal.
    pub fn unexpected_null(&self) -> DecodeError {
        DecodeError::Null {
            field: self.field,
            position: self.position,
        }
    }

    #[inline]
    fn long_length(&mut self, flexible: bool) -> Result<i64, DecodeError> {
        Ok(if flexible {
            i64::from(self.uvarint()?) - 1
        } else {
            i64::from(self.i32()?)
        })
    }

    #[inline]
    fn checked_length(&self, length: i64, start: usize) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            0.. => Ok(Some(length as usize)),
            _ => Err(self.bad_length(length, start)),
        }
    }

    fn bad_length(&self, length: i64, position: usize) -> DecodeError {
        DecodeError::Length {
            field: self.field,
            position,
            length,
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.bytes[self.position..].first_chunk::<N>() {
            Some(chunk) => {
                self.position += N;
                Ok(*chunk)
            }
            None => Err(DecodeError::Truncated {
                field: self.field,
                position: self.position,
                needed: N,
                remaining: self.remaining(),
            }),
        }
    }
}
