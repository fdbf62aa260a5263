//! What can be wrong with bytes that come in, and with values that go out.

use thiserror::Error;

/// Bytes that are not the message they claim to be. Positions count from the first byte given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside the field.
    #[error("{field} at byte {position}: needs {needed} bytes, {remaining} remain")]
    Truncated {
        /// The field being read.
        field: &'static str,
        /// Where it starts.
        position: usize,
        /// How many bytes it takes.
        needed: usize,
        /// How many there are.
        remaining: usize,
    },
    /// A varint goes on beyond five bytes or does not fit 32 bits.
    #[error("{field} at byte {position}: a varint of more than 32 bits")]
    Varint {
        /// The field being read.
        field: &'static str,
        /// Where it starts.
        position: usize,
    },
    /// A length or count that no message can have.
    #[error("{field} at byte {position}: length {length} is not legal")]
    Length {
        /// The field being read.
        field: &'static str,
        /// Where it starts.
        position: usize,
        /// The length on the wire.
        length: i64,
    },
    /// More elements are announced than the remaining bytes can hold.
    #[error("{field} at byte {position}: {count} elements cannot fit into {remaining} bytes")]
    Count {
        /// The field being read.
        field: &'static str,
        /// Where its elements start.
        position: usize,
        /// The count on the wire.
        count: usize,
        /// How many bytes there are.
        remaining: usize,
    },
    /// Null where the version does not allow it.
    #[error("{field} at byte {position}: null is not allowed here")]
    Null {
        /// The field being read.
        field: &'static str,
        /// Where it ends.
        position: usize,
    },
    /// A string that is not UTF-8.
    #[error("{field} at byte {position}: not UTF-8")]
    Utf8 {
        /// The field being read.
        field: &'static str,
        /// Where its bytes start.
        position: usize,
    },
    /// A tagged field whose content is shorter than its size says.
    #[error("{field} at byte {position}: {left} bytes are left over in a tagged field")]
    TagSize {
        /// The tagged field.
        field: &'static str,
        /// Where its content ends.
        position: usize,
        /// How many bytes were not read.
        left: usize,
    },
    /// The message would unfold into more values than the decoder's budget allows.
    #[error("{field} at byte {position}: the message holds more than {limit} values")]
    Budget {
        /// The field being read.
        field: &'static str,
        /// Where decoding stopped.
        position: usize,
        /// The budget.
        limit: usize,
    },
    /// A version that the message does not have.
    #[error("{message} has no version {version} (it has {min}..={max})")]
    Version {
        /// The message.
        message: &'static str,
        /// The version asked for.
        version: i16,
        /// The oldest it has.
        min: i16,
        /// The newest it has.
        max: i16,
    },
}

/// A value that its message, or this version of it, cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string, byte field, array or frame larger than its length field can say.
    #[error("{field}: length {length} exceeds {limit}")]
    TooLong {
        /// The field being written.
        field: &'static str,
        /// Its length.
        length: usize,
        /// The largest possible.
        limit: usize,
    },
    /// A value other than the default, in a version that does not have the field.
    #[error("{field}: version {version} cannot carry a value other than the default")]
    NotInVersion {
        /// The field being written.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// Null where the version does not allow it.
    #[error("{field}: null is not allowed in version {version}")]
    Null {
        /// The field being written.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// A value of another type than the field's.
    #[error("{field}: expected {expected}, got {got}")]
    Type {
        /// The field being written.
        field: &'static str,
        /// The field's type.
        expected: &'static str,
        /// What was given.
        got: &'static str,
    },
    /// An integer outside the range of the field's type.
    #[error("{field}: {value} is outside the range of {expected}")]
    Range {
        /// The field being written.
        field: &'static str,
        /// The number given.
        value: i64,
        /// The field's type.
        expected: &'static str,
    },
    /// A version that the message does not have.
    #[error("{message} has no version {version} (it has {min}..={max})")]
    Version {
        /// The message.
        message: &'static str,
        /// The version asked for.
        version: i16,
        /// The oldest it has.
        min: i16,
        /// The newest it has.
        max: i16,
    },
}
