//! Messages as Python objects: bytes to the classes of `mqlog.protocol` and back.
//!
//! The wire is read and written by `mqlog_protocol::codec` alone; here a tree of values becomes
//! a tree of objects. The class of each struct is looked up once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mqlog_protocol::codec;
use mqlog_protocol::header::request_header;
use mqlog_protocol::schema::{FieldSpec, FieldType, Kind, MessageSpec, StructSpec};
use mqlog_protocol::{tables, ApiKey, Value};
use pyo3::exceptions::{PyLookupError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBool, PyBytes, PyList, PyString, PyTuple, PyType};
use pyo3::{import_exception, intern};

import_exception!(mqlog.errors, ProtocolError);

/// Larger messages are decoded without the GIL.
const DETACH_BYTES: usize = 64 * 1024;

/// Adds the codec's functions to `mqlog._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(decode, module)?)?;
    module.add_function(wrap_pyfunction!(encode, module)?)?;
    module.add_function(wrap_pyfunction!(encode_request, module)?)?;
    module.add_function(wrap_pyfunction!(decode_named, module)?)?;
    module.add_function(wrap_pyfunction!(encode_named, module)?)
}

/// The body of a request or response as an object. Bytes after it are ignored. `kind` is
/// "request" or "response". ProtocolError if the bytes are not that, LookupError if there is no
/// such API.
#[pyfunction]
fn decode<'py>(
    py: Python<'py>,
    kind: &str,
    api_key: i16,
    version: i16,
    data: PyBackedBytes,
) -> PyResult<Bound<'py, PyAny>> {
    decode_as(py, find(kind, api_key)?, version, &data)
}

/// The body of a request or response from an object. ProtocolError if the version cannot carry
/// one of its values, LookupError if there is no such API.
#[pyfunction]
fn encode<'py>(
    py: Python<'py>,
    kind: &str,
    api_key: i16,
    version: i16,
    message: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    encode_as(py, find(kind, api_key)?, version, message, Vec::new())
}

/// A request with its header, without the length before it.
#[pyfunction]
fn encode_request<'py>(
    py: Python<'py>,
    api_key: i16,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    message: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let spec = find("request", api_key)?;
    let api = ApiKey::from_i16(api_key).ok_or_else(|| unknown_api(api_key))?;
    let mut out = Vec::new();
    request_header(api, version, correlation_id, client_id, &mut out).map_err(refused)?;
    encode_as(py, spec, version, message, out)
}

/// As `decode`, for any message by its name: those inside records have no API.
#[pyfunction]
fn decode_named<'py>(
    py: Python<'py>,
    name: &str,
    version: i16,
    data: PyBackedBytes,
) -> PyResult<Bound<'py, PyAny>> {
    decode_as(py, by_name(name)?, version, &data)
}

/// As `encode`, for any message by its name.
#[pyfunction]
fn encode_named<'py>(
    py: Python<'py>,
    name: &str,
    version: i16,
    message: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    encode_as(py, by_name(name)?, version, message, Vec::new())
}

fn refused(error: impl std::fmt::Display) -> PyErr {
    ProtocolError::new_err(error.to_string())
}

fn unknown_api(api_key: i16) -> PyErr {
    PyLookupError::new_err(format!("no messages for API key {api_key}"))
}

fn find(kind: &str, api_key: i16) -> PyResult<&'static MessageSpec> {
    let kind = match kind {
        "request" => Kind::Request,
        "response" => Kind::Response,
        other => {
            let text = format!("kind={other:?}: expected 'request' or 'response'");
            return Err(PyValueError::new_err(text));
        }
    };
    tables::find(kind, api_key).ok_or_else(|| unknown_api(api_key))
}

fn by_name(name: &str) -> PyResult<&'static MessageSpec> {
    tables::by_name(name)
        .ok_or_else(|| PyLookupError::new_err(format!("no message named {name:?}")))
}

fn decode_as<'py>(
    py: Python<'py>,
    spec: &'static MessageSpec,
    version: i16,
    data: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    let value = if data.len() > DETACH_BYTES {
        py.detach(|| codec::decode(spec, version, data))
    } else {
        codec::decode(spec, version, data)
    };
    let value =
        value.map_err(|error| refused(format_args!("{} v{version}: {error}", spec.name)))?;
    value_to_py(py, spec, &value)
}

fn encode_as<'py>(
    py: Python<'py>,
    spec: &'static MessageSpec,
    version: i16,
    message: &Bound<'py, PyAny>,
    mut out: Vec<u8>,
) -> PyResult<Bound<'py, PyBytes>> {
    let value = py_to_value(spec, message)?;
    codec::encode(spec, version, &value, &mut out)
        .map_err(|error| refused(format_args!("{} v{version}: {error}", spec.name)))?;
    Ok(PyBytes::new(py, &out))
}

/// The object of the message's class that holds `value`.
pub fn value_to_py<'py>(
    py: Python<'py>,
    spec: &'static MessageSpec,
    value: &Value,
) -> PyResult<Bound<'py, PyAny>> {
    let plan = Plan::of(py, spec)?;
    struct_to_py(py, &plan, &spec.root, value)
}

/// The value that an object of the message's class holds.
pub fn py_to_value(spec: &'static MessageSpec, message: &Bound<'_, PyAny>) -> PyResult<Value> {
    let plan = Plan::of(message.py(), spec)?;
    struct_from_py(&plan, &spec.root, message).map_err(|fault| fault.raise(message.py(), spec))
}

/// The classes of one message's structs (by the address of their tables), and the names of
/// their fields.
struct Plan {
    structs: HashMap<usize, (Py<PyType>, Vec<Py<PyString>>)>,
}

/// Plans by the message they are for; a plan never changes, so interpreters of one process that
/// share the classes share it too.
static PLANS: Mutex<Option<HashMap<&'static str, Arc<Plan>>>> = Mutex::new(None);

impl Plan {
    fn of(py: Python<'_>, spec: &'static MessageSpec) -> PyResult<Arc<Plan>> {
        let known = |plans: &HashMap<_, Arc<Plan>>| plans.get(spec.name).cloned();
        if let Some(plan) = lock_plans().as_ref().and_then(known) {
            return Ok(plan);
        }
        // Imports run Python, so the lock is not held; two threads may both do the work.
        let module = py.import(format!("mqlog.protocol.{}", spec.module))?;
        let class = module.getattr(spec.name)?.cast_into::<PyType>()?;
        let mut plan = Plan {
            structs: HashMap::new(),
        };
        plan.add(&class, &class, &spec.root)?;
        let plan = Arc::new(plan);
        lock_plans()
            .get_or_insert_default()
            .insert(spec.name, plan.clone());
        Ok(plan)
    }

    fn add(
        &mut self,
        root: &Bound<'_, PyType>,
        class: &Bound<'_, PyType>,
        spec: &'static StructSpec,
    ) -> PyResult<()> {
        let py = root.py();
        let names = spec
            .fields
            .iter()
            .map(|field| PyString::intern(py, field.name).unbind());
        self.structs
            .insert(address(spec), (class.clone().unbind(), names.collect()));
        for field in spec.fields {
            if let Some(inner) = inner_struct(field.kind) {
                let class = root.getattr(inner.name)?.cast_into::<PyType>()?;
                self.add(root, &class, inner)?;
            }
        }
        Ok(())
    }

    fn get(&self, spec: &StructSpec) -> PyResult<&(Py<PyType>, Vec<Py<PyString>>)> {
        let found = self.structs.get(&address(spec));
        found.ok_or_else(|| PyLookupError::new_err(format!("no class for {}", spec.name)))
    }
}

fn lock_plans() -> std::sync::MutexGuard<'static, Option<HashMap<&'static str, Arc<Plan>>>> {
    PLANS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn address(spec: &StructSpec) -> usize {
    std::ptr::from_ref(spec).addr()
}

fn inner_struct(kind: FieldType) -> Option<&'static StructSpec> {
    match kind {
        FieldType::Struct(spec) => Some(spec),
        FieldType::Array(element) => inner_struct(*element),
        _ => None,
    }
}

fn struct_to_py<'py>(
    py: Python<'py>,
    plan: &Plan,
    spec: &StructSpec,
    value: &Value,
) -> PyResult<Bound<'py, PyAny>> {
    let Value::Struct(values) = value else {
        return Err(refused(format_args!(
            "{}: got {}",
            spec.name,
            value.type_name()
        )));
    };
    let fields = spec.fields.iter().zip(values);
    let arguments = fields
        .map(|(field, value)| any_to_py(py, plan, field.kind, value))
        .collect::<PyResult<Vec<_>>>()?;
    plan.get(spec)?
        .0
        .bind(py)
        .call1(PyTuple::new(py, arguments)?)
}

fn any_to_py<'py>(
    py: Python<'py>,
    plan: &Plan,
    kind: FieldType,
    value: &Value,
) -> PyResult<Bound<'py, PyAny>> {
    Ok(match (value, kind) {
        (Value::Null, _) => py.None().into_bound(py),
        (Value::Bool(value), _) => PyBool::new(py, *value).to_owned().into_any(),
        (Value::Int(value), _) => value.into_pyobject(py)?.into_any(),
        (Value::Float(value), _) => value.into_pyobject(py)?.into_any(),
        (Value::Str(text), _) => PyString::new(py, text).into_any(),
        (Value::Bytes(bytes), _) => PyBytes::new(py, bytes).into_any(),
        (Value::Uuid(id), _) => PyBytes::new(py, id).into_any(),
        (Value::Array(items), FieldType::Array(element)) => {
            let items = items.iter().map(|item| any_to_py(py, plan, *element, item));
            PyList::new(py, items.collect::<PyResult<Vec<_>>>()?)?.into_any()
        }
        (Value::Struct(_), FieldType::Struct(spec)) => struct_to_py(py, plan, spec, value)?,
        (other, _) => {
            return Err(refused(format_args!(
                "{}: got {}",
                kind.name(),
                other.type_name()
            )))
        }
    })
}

/// Where in the object a value is not what its field can hold.
enum Fault {
    Value { path: String, problem: String },
    Python(PyErr),
}

impl From<PyErr> for Fault {
    fn from(error: PyErr) -> Self {
        Fault::Python(error)
    }
}

impl Fault {
    fn new(field: &str, expected: &str, got: &Bound<'_, PyAny>) -> Fault {
        let class = got.get_type();
        let name = class
            .name()
            .map_or_else(|_| "?".to_owned(), |name| name.to_string());
        Fault::Value {
            path: field.to_owned(),
            problem: format!("expected {expected}, got {name}"),
        }
    }

    fn within(self, field: &str) -> Fault {
        match self {
            Fault::Value { path, problem } => Fault::Value {
                path: format!("{field}.{path}"),
                problem,
            },
            other => other,
        }
    }

    fn raise(self, py: Python<'_>, spec: &MessageSpec) -> PyErr {
        match self {
            Fault::Value { path, problem } => {
                refused(format_args!("{}.{path}: {problem}", spec.name))
            }
            Fault::Python(error) => {
                let wrapped = refused(format_args!("{}: {error}", spec.name));
                wrapped.set_cause(py, Some(error));
                wrapped
            }
        }
    }
}

fn struct_from_py(
    plan: &Plan,
    spec: &'static StructSpec,
    object: &Bound<'_, PyAny>,
) -> Result<Value, Fault> {
    let py = object.py();
    let (class, names) = plan.get(spec)?;
    if !object.is_instance(class.bind(py))? {
        let text = class
            .bind(py)
            .getattr(intern!(py, "__qualname__"))?
            .to_string();
        return Err(Fault::new("(object)", &text, object));
    }
    let values =
        spec.fields.iter().zip(names).map(|(field, name)| {
            any_from_py(plan, field, field.kind, &object.getattr(name.bind(py))?)
        });
    Ok(Value::Struct(values.collect::<Result<_, _>>()?))
}

fn any_from_py(
    plan: &Plan,
    field: &FieldSpec,
    kind: FieldType,
    object: &Bound<'_, PyAny>,
) -> Result<Value, Fault> {
    let wrong = |expected| Fault::new(field.name, expected, object);
    if object.is_none() {
        return Ok(Value::Null);
    }
    Ok(match kind {
        FieldType::Bool => Value::Bool(
            object
                .cast::<PyBool>()
                .map_err(|_| wrong("bool"))?
                .is_true(),
        ),
        FieldType::Float64 => Value::Float(object.extract().map_err(|_| wrong("float"))?),
        FieldType::Str => {
            let text = object.cast::<PyString>().map_err(|_| wrong("str"))?;
            Value::Str(
                text.to_str()
                    .map_err(|_| wrong("str without surrogates"))?
                    .to_owned(),
            )
        }
        FieldType::Bytes | FieldType::Records => {
            let bytes: PyBackedBytes = object.extract().map_err(|_| wrong("bytes"))?;
            Value::Bytes(bytes.to_vec())
        }
        FieldType::Uuid => {
            let bytes: PyBackedBytes = object.extract().map_err(|_| wrong("16 bytes"))?;
            let id = <[u8; 16]>::try_from(&bytes[..]);
            Value::Uuid(id.map_err(|_| wrong("16 bytes"))?)
        }
        FieldType::Struct(spec) => {
            struct_from_py(plan, spec, object).map_err(|fault| fault.within(field.name))?
        }
        FieldType::Array(element) => {
            let is_sequence =
                object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>();
            if !is_sequence {
                return Err(wrong("list"));
            }
            let items = object
                .try_iter()?
                .map(|item| any_from_py(plan, field, *element, &item?));
            Value::Array(items.collect::<Result<_, Fault>>()?)
        }
        _ => Value::Int(object.extract().map_err(|_| wrong("an int of 64 bits"))?),
    })
}
