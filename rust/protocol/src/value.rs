//! A message as a tree of values, for everything that has no typed struct of its own.

use crate::schema::{DefaultValue, FieldSpec, FieldType, StructSpec};

/// One value. A struct's values stand in the order of its spec's fields, every field present:
/// one that a version does not have holds its default.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// `bool`
    Bool(bool),
    /// Every integer type.
    Int(i64),
    /// `float64`
    Float(f64),
    /// `string`
    Str(String),
    /// `bytes` and `records`
    Bytes(Vec<u8>),
    /// `uuid`
    Uuid([u8; 16]),
    /// An array.
    Array(Vec<Value>),
    /// A struct or a message.
    Struct(Vec<Value>),
}

impl Value {
    /// The kind of value, for errors.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a bool",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Str(_) => "a string",
            Value::Bytes(_) => "bytes",
            Value::Uuid(_) => "a uuid",
            Value::Array(_) => "an array",
            Value::Struct(_) => "a struct",
        }
    }

    /// What `field` holds where it does not exist.
    pub fn default_of(field: &FieldSpec) -> Value {
        match (field.default, field.kind) {
            (DefaultValue::Null, _) => Value::Null,
            (DefaultValue::True, _) => Value::Bool(true),
            (DefaultValue::Int(number), _) => Value::Int(number),
            (DefaultValue::Str(text), _) => Value::Str(text.to_owned()),
            (DefaultValue::Zero, kind) => match kind {
                FieldType::Bool => Value::Bool(false),
                FieldType::Float64 => Value::Float(0.0),
                FieldType::Str => Value::Str(String::new()),
                FieldType::Bytes => Value::Bytes(Vec::new()),
                FieldType::Records => Value::Null,
                FieldType::Uuid => Value::Uuid([0; 16]),
                FieldType::Array(_) => Value::Array(Vec::new()),
                FieldType::Struct(spec) => Value::default_struct(spec),
                _ => Value::Int(0),
            },
        }
    }

    /// A struct whose fields all hold their defaults.
    pub fn default_struct(spec: &StructSpec) -> Value {
        Value::Struct(spec.fields.iter().map(Value::default_of).collect())
    }

    /// Whether this is what [`Value::default_of`] gives, without building that.
    pub fn is_default(&self, field: &FieldSpec) -> bool {
        match (self, field.default) {
            (Value::Null, DefaultValue::Null) => true,
            (Value::Null, _) => matches!(field.kind, FieldType::Records),
            (Value::Bool(value), default) => *value == (default == DefaultValue::True),
            (Value::Int(value), DefaultValue::Int(default)) => *value == default,
            (Value::Str(text), DefaultValue::Str(default)) => text == default,
            (_, DefaultValue::Null | DefaultValue::True) => false,
            (_, DefaultValue::Int(_) | DefaultValue::Str(_)) => false,
            (Value::Int(value), DefaultValue::Zero) => *value == 0,
            (Value::Float(value), DefaultValue::Zero) => *value == 0.0,
            (Value::Str(text), DefaultValue::Zero) => text.is_empty(),
            (Value::Bytes(bytes), DefaultValue::Zero) => {
                bytes.is_empty() && !matches!(field.kind, FieldType::Records)
            }
            (Value::Uuid(id), DefaultValue::Zero) => *id == [0; 16],
            (Value::Array(items), DefaultValue::Zero) => items.is_empty(),
            (Value::Struct(values), DefaultValue::Zero) => match field.kind {
                FieldType::Struct(spec) => all_default(values, spec),
                _ => false,
            },
        }
    }
}

fn all_default(values: &[Value], spec: &StructSpec) -> bool {
    values.len() == spec.fields.len()
        && values
            .iter()
            .zip(spec.fields)
            .all(|(value, field)| value.is_default(field))
}
