//! Writing the protocol's primitive types to a growing buffer; the mirror of [`crate::reader`].

use crate::error::EncodeError;
use crate::reader::MAX_STRING_BYTES;

/// Appends to a buffer that the caller owns and reuses.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident($type:ty);)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name(&mut self, value: $type) {
            self.out.extend_from_slice(&value.to_be_bytes());
        }
    )*};
}

impl<'a> Writer<'a> {
    /// Appends to what `out` holds.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Writer { out }
    }

    /// Everything in the buffer, which may begin before this writer did.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    fixed! {
        /// A signed byte.
        i8(i8);
        /// A big-endian 16-bit integer.
        i16(i16);
        /// A big-endian 32-bit integer.
        i32(i32);
        /// A big-endian 64-bit integer.
        i64(i64);
        /// A big-endian unsigned 16-bit integer.
        u16(u16);
        /// A big-endian unsigned 32-bit integer.
        u32(u32);
        /// A big-endian double.
        f64(f64);
    }

    /// One byte, 0 or 1.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.out.push(u8::from(value));
    }

    /// Sixteen bytes, in network order.
    #[inline]
    pub fn uuid(&mut self, value: &[u8; 16]) {
        self.out.extend_from_slice(value);
    }

    /// Bytes as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// An unsigned varint, one to five bytes.
    #[inline]
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    /// A string, or null.
    pub fn string(
        &mut self,
        flexible: bool,
        field: &'static str,
        value: Option<&str>,
    ) -> Result<(), EncodeError> {
        let Some(text) = value else {
            if flexible {
                self.uvarint(0);
            } else {
                self.i16(-1);
            }
            return Ok(());
        };
        let length = text.len();
        if length > MAX_STRING_BYTES {
            return Err(EncodeError::TooLong {
                field,
                length,
                limit: MAX_STRING_BYTES,
            });
        }
        if flexible {
            self.uvarint(length as u32 + 1);
        } else {
            self.i16(length as i16);
        }
        self.raw(text.as_bytes());
        Ok(())
    }

    /// Bytes or records, or null.
    pub fn bytes(
        &mut self,
        flexible: bool,
        field: &'static str,
        value: Option<&[u8]>,
    ) -> Result<(), EncodeError> {
        self.length(flexible, field, value.map(<[u8]>::len))?;
        self.raw(value.unwrap_or_default());
        Ok(())
    }

    /// The length of bytes or the count of an array, or null.
    #[inline]
    pub fn length(
        &mut self,
        flexible: bool,
        field: &'static str,
        value: Option<usize>,
    ) -> Result<(), EncodeError> {
        const LIMIT: usize = i32::MAX as usize - 1;
        match value {
            Some(length) if length > LIMIT => {
                return Err(EncodeError::TooLong {
                    field,
                    length,
                    limit: LIMIT,
                })
            }
            Some(length) if flexible => self.uvarint(length as u32 + 1),
            Some(length) => self.i32(length as i32),
            None if flexible => self.uvarint(0),
            None => self.i32(-1),
        }
        Ok(())
    }

    /// An empty section of tagged fields, if `flexible`.
    #[inline]
    pub fn no_tags(&mut self, flexible: bool) {
        if flexible {
            self.out.push(0);
        }
    }

    /// One tagged field: `content` writes what it holds.
    pub fn tagged(
        &mut self,
        tag: u32,
        content: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut inner = Vec::new();
        content(&mut Writer::new(&mut inner))?;
        self.uvarint(tag);
        // A frame is far below 4 GiB; what is not is refused when its length is written.
        self.uvarint(u32::try_from(inner.len()).unwrap_or(u32::MAX));
        self.raw(&inner);
        Ok(())
    }
}
