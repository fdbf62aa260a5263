//! The table-driven codec: bytes to [`Value`] and back, for every message there is.
//!
//! Decoding is safe on hostile bytes: depth is bounded by the tables (no struct is recursive),
//! counts by the bytes that remain, and the number of values by a budget in proportion to the
//! bytes. As in Kafka, unknown tagged fields are skipped and bytes after the message ignored.
//! Unlike Kafka, a string that is not UTF-8 is refused instead of being altered.

use crate::error::{DecodeError, EncodeError};
use crate::reader::Reader;
use crate::schema::{FieldSpec, FieldType, MessageSpec, StructSpec};
use crate::value::Value;
use crate::writer::Writer;

/// The most values one message may unfold into, whatever its size.
pub const MAX_VALUES: usize = 1 << 24;

/// Decodes the body of a message. Bytes after it are ignored.
pub fn decode(spec: &MessageSpec, version: i16, bytes: &[u8]) -> Result<Value, DecodeError> {
    // No legal message unfolds into more values per byte than a handful of absent fields.
    let budget = bytes
        .len()
        .saturating_mul(8)
        .saturating_add(1024)
        .min(MAX_VALUES);
    decode_within(spec, version, bytes, budget)
}

/// As [`decode`], with a budget of values (each takes 32 bytes) chosen by the caller.
pub fn decode_within(
    spec: &MessageSpec,
    version: i16,
    bytes: &[u8],
    max_values: usize,
) -> Result<Value, DecodeError> {
    check_version(spec, version)?;
    let flexible = spec.flexible(version);
    let mut decoder = Decoder {
        version,
        flexible,
        left: max_values,
        limit: max_values,
    };
    decoder.fields(&mut Reader::new(bytes), &spec.root)
}

fn check_version(spec: &MessageSpec, version: i16) -> Result<(), DecodeError> {
    if spec.versions.contains(version) {
        return Ok(());
    }
    let (message, min, max) = (spec.name, spec.versions.min, spec.versions.max);
    Err(DecodeError::Version {
        message,
        version,
        min,
        max,
    })
}

struct Decoder {
    version: i16,
    flexible: bool,
    left: usize,
    limit: usize,
}

impl Decoder {
    fn fields(&mut self, reader: &mut Reader<'_>, spec: &StructSpec) -> Result<Value, DecodeError> {
        self.spend(reader, spec.fields.len())?;
        let mut values = Vec::with_capacity(spec.fields.len());
        for field in spec.fields {
            let here =
                field.versions.contains(self.version) && !field.tagged.contains(self.version);
            values.push(if here {
                self.field(reader, field)?
            } else {
                Value::default_of(field)
            });
        }
        reader.tags(self.flexible, |tag, content| {
            let known = spec
                .fields
                .iter()
                .zip(&mut values)
                .find(|(field, _)| field.tag == tag && field.tagged.contains(self.version));
            if let Some((field, value)) = known {
                *value = self.field(content, field)?;
            }
            Ok(())
        })?;
        Ok(Value::Struct(values))
    }

    fn field(&mut self, reader: &mut Reader<'_>, field: &FieldSpec) -> Result<Value, DecodeError> {
        reader.field(field.name);
        let flexible = self.flexible && !field.inflexible;
        let value = self.value(reader, field.kind, flexible, field)?;
        if value == Value::Null && !field.nullable.contains(self.version) {
            return Err(reader.field(field.name).unexpected_null());
        }
        Ok(value)
    }

    fn value(
        &mut self,
        reader: &mut Reader<'_>,
        kind: FieldType,
        flexible: bool,
        field: &FieldSpec,
    ) -> Result<Value, DecodeError> {
        Ok(match kind {
            FieldType::Bool => Value::Bool(reader.bool()?),
            FieldType::Int8 => Value::Int(reader.i8()?.into()),
            FieldType::Int16 => Value::Int(reader.i16()?.into()),
            FieldType::Uint16 => Value::Int(reader.u16()?.into()),
            FieldType::Int32 => Value::Int(reader.i32()?.into()),
            FieldType::Uint32 => Value::Int(reader.u32()?.into()),
            FieldType::Int64 => Value::Int(reader.i64()?),
            FieldType::Float64 => Value::Float(reader.f64()?),
            FieldType::Uuid => Value::Uuid(reader.uuid()?),
            FieldType::Str => reader
                .nullable_string(flexible)?
                .map_or(Value::Null, |text| Value::Str(text.to_owned())),
            FieldType::Bytes | FieldType::Records => reader
                .nullable_bytes(flexible)?
                .map_or(Value::Null, |bytes| Value::Bytes(bytes.to_owned())),
            FieldType::Array(element) => self.array(reader, *element, flexible, field)?,
            FieldType::Struct(spec) => self.structure(reader, spec, field)?,
        })
    }

    /// A struct that may be null is announced by one byte.
    fn structure(
        &mut self,
        reader: &mut Reader<'_>,
        spec: &StructSpec,
        field: &FieldSpec,
    ) -> Result<Value, DecodeError> {
        if field.nullable.contains(self.version) && reader.i8()? < 0 {
            return Ok(Value::Null);
        }
        self.fields(reader, spec)
    }

    fn array(
        &mut self,
        reader: &mut Reader<'_>,
        element: FieldType,
        flexible: bool,
        field: &FieldSpec,
    ) -> Result<Value, DecodeError> {
        let min_size = min_size(element, self.version, self.flexible);
        let Some(count) = reader.nullable_array_len(flexible, min_size)? else {
            return Ok(Value::Null);
        };
        self.spend(reader, count)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            let item = match element {
                FieldType::Struct(spec) => self.fields(reader, spec)?,
                _ => self.value(reader, element, flexible, field)?,
            };
            if item == Value::Null {
                return Err(reader.unexpected_null());
            }
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn spend(&mut self, reader: &Reader<'_>, values: usize) -> Result<(), DecodeError> {
        match self.left.checked_sub(values) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(DecodeError::Budget {
                field: reader.field_name(),
                position: reader.position(),
                limit: self.limit,
            }),
        }
    }
}

/// The fewest bytes one element of an array can take.
fn min_size(kind: FieldType, version: i16, flexible: bool) -> usize {
    match kind {
        FieldType::Bool | FieldType::Int8 => 1,
        FieldType::Int16 | FieldType::Uint16 => 2,
        FieldType::Int32 | FieldType::Uint32 => 4,
        FieldType::Int64 | FieldType::Float64 => 8,
        FieldType::Uuid => 16,
        _ if flexible && !matches!(kind, FieldType::Struct(_)) => 1,
        FieldType::Str => 2,
        FieldType::Bytes | FieldType::Records | FieldType::Array(_) => 4,
        FieldType::Struct(spec) => {
            let here = spec.fields.iter().filter(|field| {
                field.versions.contains(version) && !field.tagged.contains(version)
            });
            let size = here.map(|field| match field.kind {
                FieldType::Struct(_) if field.nullable.contains(version) => 1,
                kind => min_size(kind, version, flexible && !field.inflexible),
            });
            size.sum::<usize>() + usize::from(flexible)
        }
    }
}

/// Appends the body of a message to `out`. On an error `out` holds a part of it.
pub fn encode(
    spec: &MessageSpec,
    version: i16,
    value: &Value,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if !spec.versions.contains(version) {
        let (message, min, max) = (spec.name, spec.versions.min, spec.versions.max);
        return Err(EncodeError::Version {
            message,
            version,
            min,
            max,
        });
    }
    let encoder = Encoder {
        version,
        flexible: spec.flexible(version),
    };
    encoder.fields(&mut Writer::new(out), &spec.root, value)
}

struct Encoder {
    version: i16,
    flexible: bool,
}

impl Encoder {
    fn fields(
        &self,
        writer: &mut Writer<'_>,
        spec: &StructSpec,
        value: &Value,
    ) -> Result<(), EncodeError> {
        let values = match value {
            Value::Struct(values) if values.len() == spec.fields.len() => values,
            other => return Err(mismatch(spec.name, spec.name, other)),
        };
        let mut tagged = Vec::new();
        for (field, value) in spec.fields.iter().zip(values) {
            if !field.versions.contains(self.version) {
                if !field.ignorable && !value.is_default(field) {
                    let (field, version) = (field.name, self.version);
                    return Err(EncodeError::NotInVersion { field, version });
                }
            } else if !field.tagged.contains(self.version) {
                self.field(writer, field, value)?;
            } else if !value.is_default(field) {
                tagged.push((field, value));
            }
        }
        if self.flexible {
            tagged.sort_by_key(|(field, _)| field.tag);
            writer.uvarint(tagged.len() as u32);
            for (field, value) in tagged {
                writer.tagged(field.tag, |content| self.field(content, field, value))?;
            }
        }
        Ok(())
    }

    fn field(
        &self,
        writer: &mut Writer<'_>,
        field: &FieldSpec,
        value: &Value,
    ) -> Result<(), EncodeError> {
        let nullable = field.nullable.contains(self.version);
        if *value == Value::Null && !nullable {
            return Err(EncodeError::Null {
                field: field.name,
                version: self.version,
            });
        }
        if let (FieldType::Struct(_), true) = (field.kind, nullable) {
            if *value == Value::Null {
                writer.i8(-1);
                return Ok(());
            }
            writer.i8(1);
        }
        let flexible = self.flexible && !field.inflexible;
        self.value(writer, field.name, field.kind, flexible, value)
    }

    fn value(
        &self,
        writer: &mut Writer<'_>,
        name: &'static str,
        kind: FieldType,
        flexible: bool,
        value: &Value,
    ) -> Result<(), EncodeError> {
        match (kind, value) {
            (FieldType::Bool, Value::Bool(value)) => writer.bool(*value),
            (FieldType::Int8, Value::Int(n)) => writer.i8(narrow(name, kind, *n)?),
            (FieldType::Int16, Value::Int(n)) => writer.i16(narrow(name, kind, *n)?),
            (FieldType::Uint16, Value::Int(n)) => writer.u16(narrow(name, kind, *n)?),
            (FieldType::Int32, Value::Int(n)) => writer.i32(narrow(name, kind, *n)?),
            (FieldType::Uint32, Value::Int(n)) => writer.u32(narrow(name, kind, *n)?),
            (FieldType::Int64, Value::Int(n)) => writer.i64(*n),
            (FieldType::Float64, Value::Float(value)) => writer.f64(*value),
            (FieldType::Uuid, Value::Uuid(id)) => writer.uuid(id),
            (FieldType::Str, Value::Str(text)) => writer.string(flexible, name, Some(text))?,
            (FieldType::Str, Value::Null) => writer.string(flexible, name, None)?,
            (FieldType::Bytes | FieldType::Records, Value::Bytes(bytes)) => {
                writer.bytes(flexible, name, Some(bytes))?;
            }
            (FieldType::Bytes | FieldType::Records | FieldType::Array(_), Value::Null) => {
                writer.length(flexible, name, None)?;
            }
            (FieldType::Struct(spec), value) => self.fields(writer, spec, value)?,
            (FieldType::Array(element), Value::Array(items)) => {
                writer.length(flexible, name, Some(items.len()))?;
                for item in items {
                    if *item == Value::Null {
                        return Err(EncodeError::Null {
                            field: name,
                            version: self.version,
                        });
                    }
                    self.value(writer, name, *element, flexible, item)?;
                }
            }
            (_, other) => return Err(mismatch(name, kind.name(), other)),
        }
        Ok(())
    }
}

fn mismatch(field: &'static str, expected: &'static str, got: &Value) -> EncodeError {
    EncodeError::Type {
        field,
        expected,
        got: got.type_name(),
    }
}

fn narrow<T: TryFrom<i64>>(
    field: &'static str,
    kind: FieldType,
    value: i64,
) -> Result<T, EncodeError> {
    T::try_from(value).map_err(|_| EncodeError::Range {
        field,
        value,
        expected: kind.name(),
    })
}
