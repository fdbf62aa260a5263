//! Opening a connection: name, TCP, TLS, versions, SASL, in the time there is for all of it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mqlog_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use mqlog_protocol::schema::Versions;
use mqlog_protocol::{ApiKey, DecodeError, ErrorCode};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{timeout, Instant};

use crate::config::NetConfig;
use crate::connection::Connection;
use crate::exchange::Peer;
use crate::frame::Frames;
use crate::io::lock;
use crate::metrics::Metrics;
use crate::recycle::Recycler;
use crate::request::Request;
use crate::tls::TlsContext;
use crate::{fork, pump, sasl, tls, transport, ClientError};

/// The version of ApiVersions that is tried first.
const NEWEST: i16 = 4;
/// APIs that a broker may name.
const MOST_APIS: usize = 256;

/// What all connections of a client share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) config: NetConfig,
    pub(crate) tls: Option<TlsContext>,
    pub(crate) recycler: Arc<Recycler>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Where to.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) node: i32,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

impl Place {
    /// `HOST:PORT`, as one writes it.
    pub(crate) fn address(&self) -> Arc<str> {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port).into()
        } else {
            format!("{}:{}", self.host, self.port).into()
        }
    }
}

/// Opens a connection, authenticated and ready for requests.
pub(crate) async fn open(common: &Common, place: &Place) -> Result<Connection, ClientError> {
    let limit = common.config.connect_timeout;
    let stage = Mutex::new("resolving its name");
    let attempt = Attempt {
        common,
        place,
        address: place.address(),
        stage: &stage,
        deadline: Instant::now() + limit,
    };
    let opened = timeout(limit, attempt.run()).await;
    opened.unwrap_or_else(|_| {
        Err(ClientError::Connect {
            address: place.address(),
            reason: format!(
                "no answer within {} ms (socket_connection_setup_timeout_ms) while {}",
                limit.as_millis(),
                lock(&stage)
            ),
            hint: String::new(),
        })
    })
}

struct Attempt<'a> {
    common: &'a Common,
    place: &'a Place,
    address: Arc<str>,
    stage: &'a Mutex<&'static str>,
    deadline: Instant,
}

impl Attempt<'_> {
    async fn run(&self) -> Result<Connection, ClientError> {
        let unfinished = match self.start(NEWEST).await {
            Err(ClientError::Disconnected { .. }) => {
                // Very old brokers close at a version that they do not know.
                self.start(0).await.map_err(|error| self.silent(error))?
            }
            started => started?,
        };
        if let Some(config) = &self.common.config.sasl {
            self.at("authenticating");
            let connection = &unfinished.connection;
            let lifetime = sasl::authenticate(connection, config, self.left()).await?;
            let limit = self.common.config.request_timeout;
            sasl::keep_authenticated(connection, config, lifetime, limit);
        }
        Ok(unfinished.finish())
    }

    fn left(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.max(Duration::from_millis(1))
    }

    fn at(&self, stage: &'static str) {
        *lock(self.stage) = stage;
    }

    /// A connection that knows its versions. It is closed if this is given up.
    async fn start(&self, version: i16) -> Result<Unfinished, ClientError> {
        self.at("connecting");
        let stream = self.tcp().await?;
        let registered = fork::register(stream.as_raw_fd());
        let tls = match &self.common.tls {
            Some(context) => {
                self.at("agreeing on TLS");
                Some(tls::handshake(context, &stream, &self.place.host, &self.address).await?)
            }
            None => None,
        };
        let config = &self.common.config;
        let (source, sink) = transport::split(stream, tls);
        let peer = Peer {
            node: self.place.node,
            address: self.address.clone(),
            client_id: config.client_id.as_str().into(),
            tls: config.tls.is_some(),
            sasl: config.sasl.is_some(),
            max_idle: config.connections_max_idle,
        };
        let frames = Frames::new(
            source,
            self.common.recycler.clone(),
            config.receive_max_bytes,
        );
        let connection = Connection::new(peer, sink.clone(), self.common.metrics.clone());
        tokio::spawn(pump::run(
            connection.shared.clone(),
            frames,
            sink,
            registered,
        ));
        let unfinished = Unfinished {
            connection,
            finished: false,
        };
        self.at("asking for its API versions");
        self.agree(&unfinished.connection, version).await?;
        Ok(unfinished)
    }

    async fn tcp(&self) -> Result<TcpStream, ClientError> {
        let failed = |reason: String| ClientError::Connect {
            address: self.address.clone(),
            reason,
            hint: String::new(),
        };
        let addresses = self.resolve().await.map_err(failed)?;
        self.at("connecting");
        let mut reasons = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            // An address that swallows packets leaves time for the others.
            let left = self.deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - index).unwrap_or(1);
            let reason = match timeout(share, connect(*address, &self.common.config)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => plain(&error),
                Err(_) => format!("no answer within {} ms", share.as_millis()),
            };
            if !reasons.iter().any(|(_, known)| *known == reason) {
                reasons.push((address, reason));
            }
        }
        Err(failed(match reasons.as_slice() {
            [(_, only)] => only.clone(),
            several => several
                .iter()
                .map(|(address, reason)| format!("{address}: {reason}"))
                .collect::<Vec<_>>()
                .join(", "),
        }))
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let (host, port) = (&*self.place.host, self.place.port);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        self.at("resolving its name");
        let unknown = "the name cannot be resolved";
        match tokio::net::lookup_host((host, port)).await {
            Ok(found) => {
                let found: Vec<_> = found.collect();
                match found.is_empty() {
                    true => Err(unknown.to_owned()),
                    false => Ok(found),
                }
            }
            Err(error) => Err(format!("{unknown}: {}", plain(&error))),
        }
    }

    /// Learns the broker's versions.
    async fn agree(&self, connection: &Connection, version: i16) -> Result<(), ClientError> {
        let (said, answer) = self.ask(connection, version).await?;
        let mut told = answer;
        if told.error_code == ErrorCode::UnsupportedVersion.code() && said > 0 {
            // Its answer, in version 0, says what it can do.
            let named = told
                .api_keys
                .iter()
                .find(|api| api.api_key == ApiKey::ApiVersions as i16);
            let next = named.map_or(0, |api| api.max_version.clamp(0, said - 1));
            told = self.ask(connection, next).await?.1;
        }
        match ErrorCode::from_i16(told.error_code) {
            Some(ErrorCode::None) => {}
            code => {
                let code = code.unwrap_or(ErrorCode::UnknownServerError);
                return Err(connection
                    .shared
                    .protocol(format!("it answers ApiVersions with {code}")));
            }
        }
        let mut versions = Vec::new();
        for api in told.api_keys.iter().take(MOST_APIS) {
            let Some(key) = ApiKey::from_i16(api.api_key) else {
                continue;
            };
            let index = key as usize;
            if versions.len() <= index {
                versions.resize(index + 1, None);
            }
            versions[index] = Some(Versions {
                min: api.min_version,
                max: api.max_version,
            });
        }
        // Set once: there is one handshake.
        let _ = connection.shared.versions.set(versions);
        Ok(())
    }

    async fn ask(
        &self,
        connection: &Connection,
        version: i16,
    ) -> Result<(i16, ApiVersionsResponse), ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: "mqlog".to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let mut body = Vec::new();
        request
            .encode(version, &mut body)
            .map_err(|error| ClientError::encode(&error))?;
        let body = vec![Bytes::from(body)];
        let request = Request::new(ApiKey::ApiVersions, version, body, self.left());
        let body = connection.send(request).await?;
        let answer = decode(version, &body)
            .map_err(|error| ClientError::decode(connection.address(), &error))?;
        Ok((version, answer))
    }

    /// A broker that closes at its first request, in whatever version.
    fn silent(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Disconnected {
                address,
                reason,
                hint,
            } if hint.is_empty() => ClientError::Disconnected {
                address,
                reason,
                hint: match self.common.config.tls {
                    None => "Kafka before 0.10 ends so, having no ApiVersions, and is too old; a \
                             port that speaks TLS may too: check security_protocol (SSL or \
                             SASL_SSL?) and that the port is a Kafka listener's"
                        .to_owned(),
                    Some(_) => "Kafka before 0.10 ends so, having no ApiVersions, and is too old; \
                                check that the port is a Kafka listener's"
                        .to_owned(),
                },
            },
            other => other,
        }
    }
}

/// An answer that says "not this version" is in version 0 whatever was asked.
fn decode(version: i16, body: &[u8]) -> Result<ApiVersionsResponse, DecodeError> {
    let unsupported = ErrorCode::UnsupportedVersion.code().to_be_bytes();
    let version = match body.starts_with(&unsupported) {
        true => 0,
        false => version,
    };
    ApiVersionsResponse::decode(version, body)
}

async fn connect(address: SocketAddr, config: &NetConfig) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    // Before connecting, as the window's scale is agreed on then.
    if let Some(bytes) = config.send_buffer {
        socket.set_send_buffer_size(size(bytes))?;
    }
    if let Some(bytes) = config.receive_buffer {
        socket.set_recv_buffer_size(size(bytes))?;
    }
    socket.set_keepalive(true)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    // On loopback a port that nobody listens on may come to be connected to itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Closes a connection whose handshake is given up.
struct Unfinished {
    connection: Connection,
    finished: bool,
}

impl Unfinished {
    fn finish(mut self) -> Connection {
        self.finished = true;
        self.connection.clone()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            self.connection.close(ClientError::Closed("connection"));
        }
    }
}

/// An error of the system in a reader's words.
pub(crate) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "the other end reset it".to_owned(),
        io::ErrorKind::BrokenPipe => "the other end closed it".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to the host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "no route to its network".to_owned(),
        io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => {
            let text = error.to_string();
            match text.split_once(" (os error") {
                Some((words, _)) => words.to_lowercase(),
                None => text,
            }
        }
    }
}
