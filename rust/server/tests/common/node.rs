//! Messages by field name: built from and taken apart into [`Node`]s with the codec's own tables.

use mqlog_protocol::schema::{FieldSpec, FieldType, Kind, StructSpec};
use mqlog_protocol::{codec, tables, ApiKey, Value};

/// A value with the names of its fields.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Str(String),
    Bytes(Vec<u8>),
    Uuid([u8; 16]),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    pub fn get(&self, name: &str) -> &Node {
        match self {
            Node::Map(fields) => match fields.iter().find(|(field, _)| field == name) {
                Some((_, node)) => node,
                None => panic!("no field {name} in {self:?}"),
            },
            other => panic!("{name} of {other:?}"),
        }
    }

    pub fn at(&self, index: usize) -> &Node {
        &self.list()[index]
    }

    pub fn list(&self) -> &[Node] {
        match self {
            Node::List(items) => items,
            other => panic!("not a list: {other:?}"),
        }
    }

    pub fn int(&self, name: &str) -> i64 {
        match self.get(name) {
            Node::Int(n) => *n,
            other => panic!("{name} is {other:?}"),
        }
    }

    pub fn bytes(&self, name: &str) -> &[u8] {
        match self.get(name) {
            Node::Bytes(bytes) => bytes,
            Node::Null => &[],
            other => panic!("{name} is {other:?}"),
        }
    }

    pub fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Node::Str(text) => text,
            other => panic!("{name} is {other:?}"),
        }
    }
}

impl From<i64> for Node {
    fn from(n: i64) -> Node {
        Node::Int(n)
    }
}

impl From<bool> for Node {
    fn from(b: bool) -> Node {
        Node::Bool(b)
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Node {
        Node::Str(text.to_owned())
    }
}

impl From<Vec<u8>> for Node {
    fn from(bytes: Vec<u8>) -> Node {
        Node::Bytes(bytes)
    }
}

impl From<[u8; 16]> for Node {
    fn from(id: [u8; 16]) -> Node {
        Node::Uuid(id)
    }
}

impl From<Vec<Node>> for Node {
    fn from(items: Vec<Node>) -> Node {
        Node::List(items)
    }
}

/// `node! { field: value, ... }`
#[macro_export]
macro_rules! node {
    ($($name:ident: $value:expr),* $(,)?) => {
        $crate::common::node::Node::Map(vec![
            $((stringify!($name).to_owned(), $crate::common::node::Node::from($value)),)*
        ])
    };
}

/// The body of a request.
pub fn encode(api: ApiKey, version: i16, node: &Node) -> Vec<u8> {
    let spec = tables::find(Kind::Request, api as i16).unwrap();
    let mut out = Vec::new();
    codec::encode(spec, version, &to_struct(&spec.root, node), &mut out).unwrap();
    out
}

/// A response from its body.
pub fn decode(api: ApiKey, version: i16, body: &[u8]) -> Node {
    let spec = tables::find(Kind::Response, api as i16).unwrap();
    from_struct(&spec.root, &codec::decode(spec, version, body).unwrap())
}

fn to_struct(spec: &StructSpec, node: &Node) -> Value {
    let Node::Map(given) = node else {
        panic!("{} is not {node:?}", spec.name)
    };
    for (name, _) in given {
        assert!(
            spec.fields.iter().any(|f| f.name == name),
            "{} has no {name}",
            spec.name
        );
    }
    let value = |field: &FieldSpec| match given.iter().find(|(name, _)| name == field.name) {
        Some((_, node)) => to_value(&field.kind, node),
        None => Value::default_of(field),
    };
    Value::Struct(spec.fields.iter().map(value).collect())
}

fn to_value(kind: &FieldType, node: &Node) -> Value {
    match (kind, node) {
        (_, Node::Null) => Value::Null,
        (_, Node::Bool(b)) => Value::Bool(*b),
        (_, Node::Int(n)) => Value::Int(*n),
        (_, Node::Str(text)) => Value::Str(text.clone()),
        (_, Node::Bytes(bytes)) => Value::Bytes(bytes.clone()),
        (_, Node::Uuid(id)) => Value::Uuid(*id),
        (FieldType::Array(of), Node::List(items)) => {
            Value::Array(items.iter().map(|item| to_value(of, item)).collect())
        }
        (FieldType::Struct(spec), map) => to_struct(spec, map),
        (kind, node) => panic!("{kind:?} from {node:?}"),
    }
}

fn from_struct(spec: &StructSpec, value: &Value) -> Node {
    let Value::Struct(values) = value else {
        panic!("{} is {value:?}", spec.name)
    };
    let named = spec.fields.iter().zip(values);
    Node::Map(
        named
            .map(|(f, v)| (f.name.to_owned(), from_value(&f.kind, v)))
            .collect(),
    )
}

fn from_value(kind: &FieldType, value: &Value) -> Node {
    match (kind, value) {
        (_, Value::Null) => Node::Null,
        (_, Value::Bool(b)) => Node::Bool(*b),
        (_, Value::Int(n)) => Node::Int(*n),
        (_, Value::Float(f)) => panic!("no message here has a float: {f}"),
        (_, Value::Str(text)) => Node::Str(text.clone()),
        (_, Value::Bytes(bytes)) => Node::Bytes(bytes.clone()),
        (_, Value::Uuid(id)) => Node::Uuid(*id),
        (FieldType::Array(of), Value::Array(items)) => {
            Node::List(items.iter().map(|item| from_value(of, item)).collect())
        }
        (FieldType::Struct(spec), value) => from_struct(spec, value),
        (kind, value) => panic!("{kind:?} from {value:?}"),
    }
}
