//! The bytes of an `image-<offset>` file.
//!
//! `"MQIM" u16 version u16 reserved i64 offset u32 count {u32 length, record}* u32 crc32c of all
//! before`. The records are the image's own; `offset` is the metadata log's next offset after them.

use crate::error::{ApplyError, DecodeError};
use crate::image::Image;
use crate::record::MetaRecord;
use crate::wire::{put_bytes, FieldReader};

const MAGIC: &[u8; 4] = b"MQIM";
/// Newest image version this build reads and the one it writes.
pub const IMAGE_VERSION: u16 = 1;

/// Why a file is not a readable image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Not the beginning of an image.
    #[error("does not begin with MQIM")]
    Magic,
    /// Written by a newer mqlog: never skipped for an older image.
    #[error("image version {0} is newer than this mqlog reads")]
    Newer(u16),
    /// Damaged.
    #[error("checksum does not match")]
    Checksum,
    /// A record inside cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A record inside does not fit.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// The file for an image that stands for everything below `offset`.
pub fn encode_image(image: &Image, offset: i64) -> Vec<u8> {
    let records = image.to_records();
    let mut out = Vec::with_capacity(64 + records.len() * 64);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&IMAGE_VERSION.to_le_bytes());
    out.extend_from_slice(&0u16.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&(records.len() as u32).to_le_bytes());
    let mut body = Vec::new();
    for record in &records {
        body.clear();
        record.encode(&mut body);
        put_bytes(&mut out, &body);
    }
    let crc = mqlog_record::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// The image in a file, and the offset it stands for.
pub fn decode_image(bytes: &[u8]) -> Result<(Image, i64), SnapshotError> {
    let mut header = FieldReader::new("(image)", bytes);
    if &header.array::<4>("magic")? != MAGIC {
        return Err(SnapshotError::Magic);
    }
    let version = header.u16("version")?;
    if version > IMAGE_VERSION {
        return Err(SnapshotError::Newer(version));
    }
    let split = bytes.len().checked_sub(4).ok_or(SnapshotError::Checksum)?;
    let (covered, crc) = bytes.split_at(split);
    if crc != mqlog_record::crc32c(covered).to_le_bytes() {
        return Err(SnapshotError::Checksum);
    }
    let mut fields = FieldReader::new("(image)", covered);
    fields.take(8, "header")?;
    let offset = fields.i64("offset")?;
    let count = fields.u32("count")?;
    let mut image = Image::default();
    for _ in 0..count {
        image.apply(&MetaRecord::decode(fields.bytes("record")?)?)?;
    }
    fields.end()?;
    Ok((image, offset))
}
