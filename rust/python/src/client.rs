//! A client's core in Python: `Client`, what it is about to know, and the thread it may share.
//!
//! Only `Client.wait` waits, without the interpreter, on a bell that rings whenever something is
//! done.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use mqlog_client::call::{self, Answer, Call, Target};
use mqlog_client::fork::Kept;
use mqlog_client::{Bell, ClientError, Cluster, Purpose};
use mqlog_protocol::ApiKey;
use pyo3::exceptions::{PyLookupError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::client_config::{milliseconds, net};
use crate::client_error::{raised, Raise};
use crate::client_metadata::Metadata;

/// Adds `Client`, `IoThread` and what they give to `mqlog._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Client>()?;
    module.add_class::<IoThread>()?;
    module.add_class::<Pending>()?;
    module.add_class::<Metadata>()
}

/// The thread that touches a client's sockets; several clients may be given the same one.
#[pyclass(frozen, module = "mqlog._native")]
pub struct IoThread(Kept<Arc<mqlog_client::IoThread>>);

#[pymethods]
impl IoThread {
    /// Starts the thread.
    #[new]
    fn new() -> PyResult<IoThread> {
        let thread = mqlog_client::IoThread::start()?;
        Ok(IoThread(Kept::new("I/O thread", thread)))
    }
}

/// What a client stands on: its cluster, and the bell that rings when something is done.
pub struct Core {
    /// The brokers.
    pub cluster: Arc<Cluster>,
    /// Rung when a call is done; who waits for several things has them ring the same one.
    pub bell: Arc<Bell>,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.cluster.close();
    }
}

/// A client of a cluster.
#[pyclass(frozen, module = "mqlog._native")]
pub struct Client(Kept<Core>);

impl Client {
    /// The core, in the process that made it.
    pub fn core(&self, py: Python<'_>) -> PyResult<&Core> {
        self.0.get().or_raise(py)
    }

    fn begin<F>(&self, py: Python<'_>, work: impl FnOnce(Arc<Cluster>) -> F) -> PyResult<Pending>
    where
        F: Future<Output = Result<Outcome, ClientError>> + Send + 'static,
    {
        let core = self.core(py)?;
        if core.cluster.is_closed() {
            return Err(raised(py, &ClientError::Closed("client")));
        }
        let promise = Promise::new(core.bell.clone());
        let pending = Pending(Kept::new("call", promise.0.clone()));
        let future = work(core.cluster.clone());
        core.cluster
            .io()
            .spawn(async move { promise.keep(future.await) });
        Ok(pending)
    }
}

#[pymethods]
impl Client {
    /// Connects to nothing yet. `config` is what `mqlog.client.config` makes of the settings;
    /// `io` a thread that is shared, else it gets one of its own.
    #[new]
    #[pyo3(signature = (config, io=None))]
    fn new(py: Python<'_>, config: &Bound<'_, PyDict>, io: Option<&IoThread>) -> PyResult<Client> {
        let config = net(config)?;
        let io = match io {
            Some(io) => io.0.get().or_raise(py)?.clone(),
            None => mqlog_client::IoThread::start()?,
        };
        let cluster = py.detach(|| Cluster::new(config, io)).or_raise(py)?;
        let core = Core {
            cluster,
            bell: Arc::default(),
        };
        Ok(Client(Kept::new("client", core)))
    }

    /// Begins to find the newest version of an API, `newest` at most, that the target speaks;
    /// connects if need be. The result is an int.
    fn version(
        &self,
        py: Python<'_>,
        target: &Bound<'_, PyAny>,
        purpose: &str,
        api_key: i16,
        newest: i16,
    ) -> PyResult<Pending> {
        let (target, purpose, api) = (to_target(target)?, to_purpose(purpose)?, to_api(api_key)?);
        self.begin(py, move |cluster| async move {
            let version = call::version(&cluster, target, purpose, api, newest);
            version.await.map(Outcome::Version)
        })
    }

    /// Sends one request, whose body is written already for this version. The result is the
    /// answer's body. Without an answer within `answer_ms` (`request_timeout_ms` if None) the
    /// connection is closed.
    #[pyo3(signature = (target, purpose, api_key, version, body, answer_ms=None))]
    #[allow(clippy::too_many_arguments)]
    fn call(
        &self,
        py: Python<'_>,
        target: &Bound<'_, PyAny>,
        purpose: &str,
        api_key: i16,
        version: i16,
        body: &[u8],
        answer_ms: Option<f64>,
    ) -> PyResult<Pending> {
        let call = Call {
            target: to_target(target)?,
            purpose: to_purpose(purpose)?,
            api: to_api(api_key)?,
            version,
            body: body.to_vec().into(),
            limit: None,
            answer_limit: answer_ms.map(milliseconds),
        };
        self.begin(py, move |cluster| async move {
            call::call(&cluster, call).await.map(Outcome::Answer)
        })
    }

    /// Asks for the metadata of some topics, or of all there are; `snapshot` has it when this is
    /// done. `create`: whether asking may make a topic; the client's setting if None.
    #[pyo3(signature = (topics, create=None))]
    fn refresh(
        &self,
        py: Python<'_>,
        topics: Option<Vec<String>>,
        create: Option<bool>,
    ) -> PyResult<Pending> {
        let topics = topics.map(|names| names.into_iter().map(Arc::from).collect());
        self.begin(py, move |cluster| async move {
            let create = create.unwrap_or(cluster.config().allow_auto_create);
            let fetched = cluster.fetch_metadata(topics, create).await;
            fetched.map(|_| Outcome::Nothing)
        })
    }

    /// What is known of the cluster now. Never waits.
    fn snapshot(&self, py: Python<'_>) -> PyResult<Metadata> {
        Ok(Metadata(Kept::new(
            "metadata",
            self.core(py)?.cluster.snapshot(),
        )))
    }

    /// The number of the snapshot: another one when it changed.
    fn revision(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.core(py)?.cluster.snapshot().revision)
    }

    /// Keeps the metadata of these topics, and of no others, fresh. Those not known are asked for
    /// at once.
    fn want(&self, py: Python<'_>, topics: Vec<String>) -> PyResult<()> {
        self.core(py)?.cluster.want_only(topics);
        Ok(())
    }

    /// Has the metadata of wanted topics asked for again soon.
    fn request_update(&self, py: Python<'_>) -> PyResult<()> {
        self.core(py)?.cluster.request_update();
        Ok(())
    }

    /// To be taken before conditions are looked at; for `wait`.
    fn ticket(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.core(py)?.bell.ticket())
    }

    /// Waits until something is done after the ticket was taken, or the time has passed. Runs
    /// signal handlers and raises what they raise.
    fn wait(&self, py: Python<'_>, ticket: u32, timeout_ms: f64) -> PyResult<()> {
        let bell = &self.core(py)?.bell;
        py.detach(|| bell.wait(ticket, milliseconds(timeout_ms)));
        py.check_signals()
    }

    /// Ends the `wait` of any thread.
    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        self.core(py)?.bell.ring();
        Ok(())
    }

    /// Whether any connection is open.
    fn bootstrap_connected(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.core(py)?.cluster.connected() > 0)
    }

    /// Why nothing gets through, if something does not: an exception, not raised.
    fn last_error(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let error = self.core(py)?.cluster.last_error();
        Ok(error.map(|error| raised(py, &error).into_value(py).into_any()))
    }

    /// Counters by name; times in milliseconds.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let cluster = &self.core(py)?.cluster;
        let metrics = PyDict::new(py);
        for (name, value) in cluster.metrics().counts() {
            metrics.set_item(name, value)?;
        }
        let (mean, longest) = cluster.metrics().latency_ms();
        metrics.set_item("request_latency_avg_ms", mean)?;
        metrics.set_item("request_latency_max_ms", longest)?;
        metrics.set_item("connections_open", cluster.connected())?;
        Ok(metrics)
    }

    /// Closes all connections; calls that are not done raise ClosedError. Twice is as good as once.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.core(py)?.cluster.close();
        self.core(py)?.bell.ring();
        Ok(())
    }
}

/// What comes of a call.
#[derive(Debug)]
enum Outcome {
    Nothing,
    Version(i16),
    Answer(Answer),
}

#[derive(Debug)]
struct Shared {
    result: Mutex<Option<Result<Outcome, ClientError>>>,
    bell: Arc<Bell>,
}

/// Who does the work; if it goes without a result, that is the result.
struct Promise(Arc<Shared>);

impl Promise {
    fn new(bell: Arc<Bell>) -> Promise {
        Promise(Arc::new(Shared {
            result: Mutex::new(None),
            bell,
        }))
    }

    fn keep(self, result: Result<Outcome, ClientError>) {
        *self.0.locked() = Some(result);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let closed = || Err(ClientError::Closed("client"));
        self.0.locked().get_or_insert_with(closed);
        self.0.bell.ring();
    }
}

impl Shared {
    fn locked(&self) -> std::sync::MutexGuard<'_, Option<Result<Outcome, ClientError>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something a client is about to know.
#[pyclass(frozen, module = "mqlog._native")]
struct Pending(Kept<Arc<Shared>>);

#[pymethods]
impl Pending {
    /// Whether `result` returns at once.
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.get().or_raise(py)?.locked().is_some())
    }

    /// What it is, or raises what went wrong; waits for it.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        const SLICE_MS: f64 = 100.0;
        let shared = self.0.get().or_raise(py)?;
        loop {
            let ticket = shared.bell.ticket();
            if let Some(result) = &*shared.locked() {
                return match result {
                    Ok(Outcome::Nothing) => Ok(py.None()),
                    Ok(Outcome::Version(version)) => Ok(version.into_pyobject(py)?.into()),
                    Ok(Outcome::Answer(answer)) => Ok(PyBytes::new(py, &answer.body).into()),
                    Err(error) => Err(raised(py, error)),
                };
            }
            py.detach(|| shared.bell.wait(ticket, milliseconds(SLICE_MS)));
            py.check_signals()?;
        }
    }

    /// Who answered: node (below 0 for a bootstrap server) and `HOST:PORT`; None before, and for
    /// what is no answer.
    fn answered_by(&self, py: Python<'_>) -> PyResult<Option<(i32, String)>> {
        match &*self.0.get().or_raise(py)?.locked() {
            Some(Ok(Outcome::Answer(answer))) => {
                Ok(Some((answer.node, answer.address.to_string())))
            }
            _ => Ok(None),
        }
    }
}

fn to_target(target: &Bound<'_, PyAny>) -> PyResult<Target> {
    if let Ok(node) = target.extract() {
        return Ok(Target::Node(node));
    }
    match target.extract()? {
        "any" => Ok(Target::Any),
        "controller" => Ok(Target::Controller),
        other => Err(PyValueError::new_err(format!("target {other:?}"))),
    }
}

fn to_purpose(purpose: &str) -> PyResult<Purpose> {
    match purpose {
        "general" => Ok(Purpose::General),
        "fetch" => Ok(Purpose::Fetch),
        "join" => Ok(Purpose::Join),
        "group" => Ok(Purpose::Group),
        "admin" => Ok(Purpose::Admin),
        other => Err(PyValueError::new_err(format!("purpose {other:?}"))),
    }
}

fn to_api(key: i16) -> PyResult<ApiKey> {
    ApiKey::from_i16(key).ok_or_else(|| PyLookupError::new_err(format!("no API has key {key}")))
}
