//! What a table says about a message: its fields, their types, versions and defaults.
//!
//! The tables themselves are in [`crate::tables`], generated from `tools/protocol/messages.txt`.

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// From a client to a broker.
    Request,
    /// From a broker to a client.
    Response,
    /// Before a request or response.
    Header,
    /// Inside a record or another message; it is not framed itself.
    Data,
}

/// A range of versions, both ends included; empty if `min > max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub min: i16,
    /// The newest.
    pub max: i16,
}

impl Versions {
    /// No version at all.
    pub const NONE: Versions = Versions { min: 0, max: -1 };

    /// Whether `version` is in the range.
    #[inline]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// One message.
#[derive(Debug)]
pub struct MessageSpec {
    /// Kafka's name, such as `FetchRequest`.
    pub name: &'static str,
    /// The module that holds it, in Rust and in Python.
    pub module: &'static str,
    /// The API it belongs to, or -1.
    pub api_key: i16,
    /// What it is for.
    pub kind: Kind,
    /// The versions that exist and are stable.
    pub versions: Versions,
    /// The first flexible version, `i16::MAX` if there is none.
    pub flexible_from: i16,
    /// Its fields.
    pub root: StructSpec,
}

impl MessageSpec {
    /// Whether `version` uses compact lengths and tagged fields.
    #[inline]
    pub const fn flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }
}

/// The fields of a message, or of a part of it. Structs are never recursive.
#[derive(Debug)]
pub struct StructSpec {
    /// Kafka's name, such as `FetchTopic`.
    pub name: &'static str,
    /// In the order of the wire; a decoded struct holds its values in the same order.
    pub fields: &'static [FieldSpec],
}

/// One field.
#[derive(Debug)]
pub struct FieldSpec {
    /// Its name in snake_case.
    pub name: &'static str,
    /// Its type.
    pub kind: FieldType,
    /// Where it exists.
    pub versions: Versions,
    /// Where it may be null.
    pub nullable: Versions,
    /// Where it is a tagged field.
    pub tagged: Versions,
    /// The number of its tag, if it has one.
    pub tag: u32,
    /// Its value where it does not exist.
    pub default: DefaultValue,
    /// Whether another value may be dropped silently where it does not exist.
    pub ignorable: bool,
    /// Whether it keeps the old encoding in flexible versions.
    pub inflexible: bool,
}

/// The type of a field.
#[derive(Debug, Clone, Copy)]
pub enum FieldType {
    /// One byte.
    Bool,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Unsigned, 16 bits.
    Uint16,
    /// Signed, 32 bits.
    Int32,
    /// Unsigned, 32 bits.
    Uint32,
    /// Signed, 64 bits.
    Int64,
    /// A double.
    Float64,
    /// UTF-8.
    Str,
    /// Anything.
    Bytes,
    /// Record batches.
    Records,
    /// Sixteen bytes.
    Uuid,
    /// Other fields.
    Struct(&'static StructSpec),
    /// Any number of one of the types above.
    Array(&'static FieldType),
}

impl FieldType {
    /// The type's name, for errors.
    pub const fn name(self) -> &'static str {
        match self {
            FieldType::Bool => "bool",
            FieldType::Int8 => "int8",
            FieldType::Int16 => "int16",
            FieldType::Uint16 => "uint16",
            FieldType::Int32 => "int32",
            FieldType::Uint32 => "uint32",
            FieldType::Int64 => "int64",
            FieldType::Float64 => "float64",
            FieldType::Str => "string",
            FieldType::Bytes => "bytes",
            FieldType::Records => "records",
            FieldType::Uuid => "uuid",
            FieldType::Struct(spec) => spec.name,
            FieldType::Array(_) => "array",
        }
    }
}

/// The value of a field that is not there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DefaultValue {
    /// Zero, false, empty, or a struct of defaults.
    Zero,
    /// Null.
    Null,
    /// True.
    True,
    /// A number.
    Int(i64),
    /// A string.
    Str(&'static str),
}

/// A field without attributes; the tables add them.
pub(crate) const fn field(name: &'static str, kind: FieldType, min: i16, max: i16) -> FieldSpec {
    FieldSpec {
        name,
        kind,
        versions: Versions { min, max },
        nullable: Versions::NONE,
        tagged: Versions::NONE,
        tag: 0,
        default: DefaultValue::Zero,
        ignorable: false,
        inflexible: false,
    }
}

impl FieldSpec {
    pub(crate) const fn nullable(mut self, min: i16, max: i16) -> Self {
        self.nullable = Versions { min, max };
        self
    }

    pub(crate) const fn tagged(mut self, tag: u32, min: i16, max: i16) -> Self {
        self.tag = tag;
        self.tagged = Versions { min, max };
        self
    }

    pub(crate) const fn default(mut self, default: DefaultValue) -> Self {
        self.default = default;
        self
    }

    pub(crate) const fn ignorable(mut self) -> Self {
        self.ignorable = true;
        self
    }

    pub(crate) const fn inflexible(mut self) -> Self {
        self.inflexible = true;
        self
    }
}
