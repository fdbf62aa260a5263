//! SASL: handshake, exchange, and doing both again before a session ends (KIP-368).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mqlog_protocol::messages::sasl_authenticate::{
    SaslAuthenticateRequest, SaslAuthenticateResponse,
};
use mqlog_protocol::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use mqlog_protocol::{ApiKey, ErrorCode};

use crate::config::{SaslConfig, SaslMechanism};
use crate::connection::Connection;
use crate::exchange::Shared;
use crate::random::between;
use crate::request::Request;
use crate::scram::{Hash, Scram};
use crate::ClientError;

impl SaslMechanism {
    /// Its registered name.
    pub fn name(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Says who we are. How long that is believed; zero for ever.
pub(crate) async fn authenticate(
    connection: &Connection,
    config: &SaslConfig,
    limit: Duration,
) -> Result<Duration, ClientError> {
    let exchange = Exchange {
        connection,
        config,
        limit,
    };
    exchange.handshake().await?;
    match config.mechanism {
        SaslMechanism::Plain => {
            let token = format!("\0{}\0{}", config.username, config.password);
            Ok(exchange.step(token.into_bytes()).await?.1)
        }
        SaslMechanism::ScramSha256 => exchange.scram(Hash::Sha256).await,
        SaslMechanism::ScramSha512 => exchange.scram(Hash::Sha512).await,
    }
}

struct Exchange<'a> {
    connection: &'a Connection,
    config: &'a SaslConfig,
    limit: Duration,
}

impl Exchange<'_> {
    fn refused(&self, reason: String, hint: &str) -> ClientError {
        ClientError::Authentication {
            address: self.connection.address().clone(),
            reason,
            hint: hint.to_owned(),
        }
    }

    async fn send(&self, api: ApiKey, version: i16, body: Vec<u8>) -> Result<Bytes, ClientError> {
        let request = Request::new(api, version, vec![Bytes::from(body)], self.limit);
        self.connection.shared.send(request, false).await
    }

    async fn handshake(&self) -> Result<(), ClientError> {
        let version = self.connection.version(ApiKey::SaslHandshake, 1)?;
        if version < 1 {
            // Version 0 goes on without Kafka's framing; brokers before 1.0 know no other.
            return Err(self.connection.unsupported(ApiKey::SaslHandshake, 1, 1));
        }
        let ours = self.config.mechanism.name();
        let mut body = Vec::new();
        let request = SaslHandshakeRequest {
            mechanism: ours.to_owned(),
        };
        request
            .encode(version, &mut body)
            .map_err(|error| ClientError::encode(&error))?;
        let body = self.send(ApiKey::SaslHandshake, version, body).await?;
        let answer = SaslHandshakeResponse::decode(version, &body)
            .map_err(|error| ClientError::decode(self.connection.address(), &error))?;
        match ErrorCode::from_i16(answer.error_code) {
            Some(ErrorCode::None) => Ok(()),
            Some(ErrorCode::UnsupportedSaslMechanism) => Err(self.refused(
                format!(
                    "it does not offer {ours}, but {}",
                    answer.mechanisms.join(", ")
                ),
                "set sasl_mechanism to one of these",
            )),
            Some(ErrorCode::IllegalSaslState) => Err(self.refused(
                "this listener uses no SASL".to_owned(),
                "use security_protocol=PLAINTEXT or SSL, or the port of the SASL listener",
            )),
            code => Err(self.refused(
                code.unwrap_or(ErrorCode::UnknownServerError).to_string(),
                "",
            )),
        }
    }

    /// One token there, one back.
    async fn step(&self, token: Vec<u8>) -> Result<(Vec<u8>, Duration), ClientError> {
        let version = self.connection.version(ApiKey::SaslAuthenticate, 2)?;
        let mut body = Vec::new();
        SaslAuthenticateRequest { auth_bytes: token }
            .encode(version, &mut body)
            .map_err(|error| ClientError::encode(&error))?;
        let body = self.send(ApiKey::SaslAuthenticate, version, body).await?;
        let answer = SaslAuthenticateResponse::decode(version, &body)
            .map_err(|error| ClientError::decode(self.connection.address(), &error))?;
        let lifetime = u64::try_from(answer.session_lifetime_ms).unwrap_or(0);
        match ErrorCode::from_i16(answer.error_code) {
            Some(ErrorCode::None) => Ok((answer.auth_bytes, Duration::from_millis(lifetime))),
            code => {
                let code = code.unwrap_or(ErrorCode::UnknownServerError);
                let said = answer.error_message.filter(|text| !text.is_empty());
                let reason = said.unwrap_or_else(|| code.message().to_owned());
                Err(self.refused(reason, self.look_at()))
            }
        }
    }

    fn look_at(&self) -> &'static str {
        match self.config.mechanism {
            SaslMechanism::Plain => "check sasl_plain_username and sasl_plain_password",
            _ => {
                "check sasl_plain_username and sasl_plain_password, and that the user has \
                 credentials for this sasl_mechanism"
            }
        }
    }

    async fn scram(&self, hash: Hash) -> Result<Duration, ClientError> {
        let failed = |reason: String| self.refused(reason, self.look_at());
        let (scram, first) = Scram::start(hash, &self.config.username).map_err(failed)?;
        let (challenge, _) = self.step(first).await?;
        let password = self.config.password.clone();
        // Thousands of rounds of hashing: not on the thread that all connections share.
        let hashed = tokio::task::spawn_blocking(move || scram.respond(&challenge, &password));
        let hashed = hashed.await.map_err(|_| ClientError::Closed("client"))?;
        let (scram, proof) = hashed.map_err(failed)?;
        let (last, lifetime) = self.step(proof).await?;
        scram.finish(&last).map_err(failed)?;
        Ok(lifetime)
    }
}

/// Has a connection authenticate again before each session ends. Requests wait meanwhile.
pub(crate) fn keep_authenticated(
    connection: &Connection,
    config: &SaslConfig,
    lifetime: Duration,
    limit: Duration,
) {
    if lifetime.is_zero() {
        return;
    }
    let shared = Arc::downgrade(&connection.shared);
    let config = config.clone();
    let mut lifetime = lifetime;
    let renewal = tokio::spawn(async move {
        while !lifetime.is_zero() {
            // Some time before its end, and not all connections at once.
            tokio::time::sleep(lifetime.mul_f64(between(0.85, 0.95))).await;
            let Some(shared) = shared.upgrade().filter(|shared| !shared.is_over()) else {
                return;
            };
            match again(shared, &config, limit).await {
                Some(next) => lifetime = next,
                None => return,
            }
        }
    });
    // Set once: each connection has one.
    let _ = connection.shared.renewal.set(renewal.abort_handle());
}

async fn again(shared: Arc<Shared>, config: &SaslConfig, limit: Duration) -> Option<Duration> {
    shared.hold();
    let connection = Connection { shared };
    match authenticate(&connection, config, limit).await {
        Ok(lifetime) => {
            connection.shared.release();
            Some(lifetime)
        }
        Err(error) => {
            connection.close(error);
            None
        }
    }
}
