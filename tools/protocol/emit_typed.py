"""Rust: typed structs for the few messages that Rust itself reads and writes."""

from __future__ import annotations

import re

from emit_rust import NOTE
from model import Field, Message, Span, messages, snake

TYPED = (
    "ApiVersions", "InitProducerId", "Metadata", "ListOffsets", "OffsetForLeaderEpoch",
    "SaslAuthenticate", "SaslHandshake", "FindCoordinator", "Heartbeat", "LeaveGroup",
)  # fmt: skip

OWNED = {
    "bool": "bool", "int8": "i8", "int16": "i16", "uint16": "u16", "int32": "i32",
    "uint32": "u32", "int64": "i64", "float64": "f64", "string": "String",
    "bytes": "Vec<u8>", "records": "Vec<u8>", "uuid": "[u8; 16]",
}  # fmt: skip
SIZES = {"bool": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "uuid": 16}


def type_name(message: Message, struct: str) -> str:
    """A struct's name: its message's, then what its own does not share with that."""
    if struct == message.name:
        return struct
    words, taken = (re.findall(r"[A-Z][a-z0-9]*", name) for name in (struct, message.name))
    while len(words) > 1 and taken and words[0] == taken.pop(0):
        words = words[1:]
    return message.name + "".join(words)


def rust_type(message: Message, field: Field) -> str:
    """The type of a field."""
    inner = type_name(message, field.element) if field.struct else OWNED[field.element]
    if field.array:
        inner = f"Vec<{inner}>"
    return f"Option<{inner}>" if field.nullable.max >= 0 else inner


def default(field: Field) -> str:
    """The value of a field that is not there."""
    optional = field.nullable.max >= 0
    if field.default == "null" or (field.default == "" and field.element == "records"):
        return "None"
    plain = field.default or "Default::default()"
    if field.default and field.element == "string":
        plain = f'"{field.default}".to_owned()'
    return f"Some({plain})" if optional else plain


def not_default(field: Field) -> str:
    """A test for a value that a version without the field cannot carry."""
    empty = field.array or field.element in ("string", "bytes")
    if empty and field.nullable.max < 0 and not field.default:
        return f"!self.{field.name}.is_empty()"
    if field.element == "bool" and field.nullable.max < 0:
        return f"!self.{field.name}" if field.default else f"self.{field.name}"
    if default(field) == "None":
        return f"self.{field.name}.is_some()"
    return f"self.{field.name} != {default(field)}"


def partly_null(message: Message, field: Field) -> str:
    """A test for versions that have the field but no null in it; empty if there are none."""
    here = Span(
        max(field.versions.min, message.versions.min), min(field.versions.max, message.versions.max)
    )
    if field.nullable.max < here.max:
        raise ValueError(f"{message.name}.{field.name}: null ends before the field does")
    return f"version < {field.nullable.min}" if field.nullable.min > here.min else ""


def condition(versions: Span, message: Message) -> str:
    """A test of `version`; empty if it is always true."""
    low = versions.min > message.versions.min
    high = versions.max < message.versions.max
    if low and high:
        return f"({versions.min}..={versions.max}).contains(&version)"
    return f"version >= {versions.min}" if low else f"version <= {versions.max}" if high else ""


def read_one(message: Message, field: Field) -> str:
    """An expression that reads one element, or fails."""
    if field.struct:
        return f"{type_name(message, field.element)}::read(reader, version)"
    if field.element in ("string", "bytes"):
        return f"reader.{field.element}(flexible).map(ToOwned::to_owned)"
    return f"reader.{'uuid' if field.element == 'uuid' else OWNED[field.element]}()"


def min_size(message: Message, field: Field) -> int:
    """A lower bound, over all versions, of the bytes an element takes."""
    if not field.struct:
        return SIZES.get(field.element, 1)
    whole = message.versions
    size = 0
    for one in message.structs[field.element]:
        always = one.versions.min <= whole.min and one.versions.max >= whole.max
        if always and one.tagged.max < 0:
            size += 1 if one.array or one.struct else SIZES.get(one.element, 1)
    return max(size, 1)


def read(message: Message, field: Field) -> str:
    """An expression that reads the field where it exists."""
    optional = field.nullable.max >= 0
    if field.array:
        length = "nullable_array_len" if optional else "array_len"
        count = f"reader.{length}(flexible, {min_size(message, field)})?"
        items = f"(0..count).map(|_| {read_one(message, field)}).collect::<Result<_, _>>()?"
        if optional:
            value = f"match {count} {{ Some(count) => Some({items}), None => None }}"
        else:
            value = f"{{ let count = {count}; {items} }}"
    elif optional and field.element in ("string", "bytes"):
        value = f"reader.nullable_{field.element}(flexible)?.map(str::to_owned)"
    else:
        value = read_one(message, field) + "?"
        value = f"Some({value})" if optional else value
    strict = partly_null(message, field) if optional else ""
    if strict:
        return f"not_null(reader, {strict}, |reader| Ok({value}))?"
    return value


def write_value(field: Field, value: str) -> str:
    """A statement that writes one element; `value` is a reference."""
    if field.struct:
        return f"{value}.write(writer, version)?;"
    if field.element in ("string", "bytes"):
        return f'writer.{field.element}(flexible, "{field.name}", Some({value}))?;'
    if field.element == "uuid":
        return f"writer.uuid({value});"
    return f"writer.{OWNED[field.element]}(*{value});"


def write(message: Message, field: Field) -> str:
    """Statements that write the field where it exists."""
    name, optional = f"self.{field.name}", field.nullable.max >= 0
    check = ""
    if optional and (strict := partly_null(message, field)):
        check = (
            f"if {name}.is_none() && {strict} {{ "
            f'return Err(EncodeError::Null {{ field: "{field.name}", version }}); }}'
        )
    if field.array:
        body = write_value(field, "item")
        count = f"{name}.as_ref().map(Vec::len)" if optional else f"Some({name}.len())"
        items = f"{name}.iter().flatten()" if optional else f"&{name}"
        return (
            f'{check} writer.length(flexible, "{field.name}", {count})?;'
            f"for item in {items} {{ {body} }}"
        )
    if optional and field.element in ("string", "bytes"):
        return f'{check} writer.{field.element}(flexible, "{field.name}", {name}.as_deref())?;'
    return write_value(field, f"&{name}").replace("*&", "")


def tagged_parts(message: Message, fields: list[Field]) -> tuple[str, str]:
    """Statements that read and write the tagged fields of a struct."""
    fields = sorted((one for one in fields if one.tagged.max >= 0), key=lambda one: one.tag)
    if not fields:
        return "reader.skip_tags(flexible)?;", "writer.no_tags(flexible);"
    arms = "".join(
        f'{one.tag} => {{ reader.field("{one.name}"); this.{one.name} = {read(message, one)}; }}'
        for one in fields
    )
    reading = "reader.tags(flexible, |tag, reader| { match tag {" + arms + "_ => {} } Ok(()) })?;"
    count = " + ".join(f"u32::from(self.{one.name} != default.{one.name})" for one in fields)
    writing = f"let default = Self::default(); if flexible {{ writer.uvarint({count});"
    for one in fields:
        writing += (
            f"if self.{one.name} != default.{one.name} {{ writer.tagged({one.tag}, |writer| {{"
            f"{write(message, one)} Ok(()) }})?; }}"
        )
    return reading, writing + "}"


def structure(message: Message, struct: str) -> str:
    """One struct with its reader and writer."""
    fields, name = message.structs[struct], type_name(message, struct)
    plain = [one for one in fields if one.tagged.max < 0]
    reading, writing = "", ""
    for one in plain:
        test = condition(one.versions, message)
        get = f'reader.field("{one.name}"); this.{one.name} = {read(message, one)};'
        reading += f"if {test} {{ {get} }}\n" if test else get + "\n"
        put = write(message, one)
        if test:
            missing = ""
            if not one.ignorable:
                missing = (
                    f"else if {not_default(one)} {{ return Err("
                    f'EncodeError::NotInVersion {{ field: "{one.name}", version }}); }}'
                )
            put = f"if {test} {{ {put} }} {missing}"
        writing += put + "\n"
    read_tags, write_tags = tagged_parts(message, fields)
    members = "".join(
        f"/// `{one.name}`\npub {one.name}: {rust_type(message, one)},\n" for one in fields
    )
    defaults = "".join(f"{one.name}: {default(one)},\n" for one in fields)
    plain_default = all(default(one) in ("None", "Default::default()") for one in fields)
    derive = ", Default" if plain_default else ""
    implement = (
        ""
        if plain_default
        else f"impl Default for {name} {{ fn default() -> Self {{ Self {{ {defaults} }} }} }}"
    )
    flexible = min(message.flexible, message.versions.max + 1)
    known = f"let flexible = version >= {flexible};"
    return f"""
/// `{struct}` of `{message.name}`
#[derive(Debug, Clone, PartialEq{derive})]
pub struct {name} {{ {members} }}

{implement}

impl {name} {{
    fn read(reader: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {{
        {known}
        let mut this = Self::default();
        {reading}
        {read_tags}
        Ok(this)
    }}

    fn write(&self, writer: &mut Writer<'_>, version: i16) -> Result<(), EncodeError> {{
        {known}
        {writing}
        {write_tags}
        Ok(())
    }}
}}
"""


def entry(message: Message) -> str:
    """The public way in and out of a message."""
    low, high = message.versions.min, message.versions.max
    fault = f'Version {{ message: "{message.name}", version, min: {low}, max: {high} }}'
    test = f"if !({low}..={high}).contains(&version)"
    return f"""
impl {message.name} {{
    /// Reads a body; bytes after it are ignored.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {{
        {test} {{ return Err(DecodeError::{fault}); }}
        Self::read(&mut Reader::new(body), version)
    }}

    /// Appends a body to `out`. On an error `out` holds a part of it.
    pub fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {{
        {test} {{ return Err(EncodeError::{fault}); }}
        self.write(&mut Writer::new(out), version)
    }}
}}
"""


def typed() -> dict[str, str]:
    """One file for each typed API."""
    by_name = {message.name: message for message in messages()}
    files = {}
    for api in TYPED:
        body = ""
        for message in (by_name[f"{api}Request"], by_name[f"{api}Response"]):
            body += entry(message)
            body += "".join(structure(message, struct) for struct in message.structs)
        helper = "use super::not_null;\n" if "not_null(" in body else ""
        files[f"messages/{snake(api)}.rs"] = (
            f"{NOTE}//! `{api}`, both directions.\n\n"
            "#![allow(clippy::field_reassign_with_default, clippy::redundant_field_names)]\n\n"
            f"{helper}use crate::error::{{DecodeError, EncodeError}};\n"
            f"use crate::reader::Reader;\nuse crate::writer::Writer;\n{body}"
        )
    return files
