//! TLS with a broker: whom we trust, who we say we are, and what a failure means.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, WebPkiServerVerifier};
use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    Error, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;

use crate::config::TlsConfig;
use crate::ClientError;

/// What all TLS connections of a client share.
#[derive(Debug)]
pub(crate) struct TlsContext(Arc<ClientConfig>);

impl TlsContext {
    /// Reads certificates and keys. The error names the setting.
    pub(crate) fn new(config: &TlsConfig) -> Result<TlsContext, ClientError> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(config)?);
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| fault_of_setting("security_protocol", &error))?;
        let verifier: Arc<dyn ServerCertVerifier> = if config.check_hostname {
            WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| fault_of_setting("ssl_cafile", &error))?
        } else {
            Arc::new(AnyName { roots, provider })
        };
        // Not dangerous: both verifiers check the chain.
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let tls = match &config.cert_pem {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let key = config.key_pem.as_ref().unwrap_or(pem);
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
                    fault_of_setting(
                        "ssl_keyfile",
                        &"no private key in it; it must be PEM (PKCS#8, PKCS#1 or SEC1) and not \
                          encrypted",
                    )
                })?;
                builder
                    .with_client_auth_cert(certificates("ssl_certfile", pem)?, key)
                    .map_err(|error| fault_of_setting("ssl_certfile", &error))?
            }
        };
        Ok(TlsContext(Arc::new(tls)))
    }
}

fn fault_of_setting(setting: &'static str, problem: &dyn std::fmt::Display) -> ClientError {
    ClientError::Setting {
        setting,
        problem: problem.to_string(),
    }
}

fn certificates(
    setting: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| fault_of_setting(setting, &error))?;
    match read.is_empty() {
        true => Err(fault_of_setting(
            setting,
            &"no certificate in it; it must be PEM",
        )),
        false => Ok(read),
    }
}

fn roots(config: &TlsConfig) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    match &config.ca_pem {
        Some(pem) => {
            for certificate in certificates("ssl_cafile", pem)? {
                roots
                    .add(certificate)
                    .map_err(|error| fault_of_setting("ssl_cafile", &error))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err(fault_of_setting(
                    "ssl_cafile",
                    &"not given, and this system has no trusted certificates",
                ));
            }
        }
    }
    Ok(roots)
}

/// Checks all but the name: for brokers reached by an address that their certificate does not say.
#[derive(Debug)]
struct AnyName {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

struct Raw<'a>(&'a TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Agrees on TLS with the other end of a fresh connection.
pub(crate) async fn handshake(
    context: &TlsContext,
    stream: &TcpStream,
    host: &str,
    address: &Arc<str>,
) -> Result<ClientConnection, ClientError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| ClientError::Tls {
        address: address.clone(),
        reason: format!("{host:?} is no name that a certificate can be for"),
        hint: String::new(),
    })?;
    let failed = |error: &Error| explain(address, error);
    let mut tls = ClientConnection::new(context.0.clone(), name).map_err(|error| failed(&error))?;
    let mut received = 0;
    while tls.is_handshaking() || tls.wants_write() {
        if tls.wants_write() {
            match tls.write_tls(&mut Raw(stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream
                        .writable()
                        .await
                        .map_err(|error| cut(address, received, &error))?;
                }
                written => {
                    written.map_err(|error| cut(address, received, &error))?;
                }
            }
            continue;
        }
        match tls.read_tls(&mut Raw(stream)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stream
                    .readable()
                    .await
                    .map_err(|error| cut(address, received, &error))?;
            }
            Err(error) => return Err(cut(address, received, &error)),
            Ok(0) => return Err(cut(address, received, &io::ErrorKind::BrokenPipe.into())),
            Ok(count) => {
                received += count;
                if let Err(error) = tls.process_new_packets() {
                    // The alert that says why, if it goes at once: nobody waits for it.
                    let _ = tls.write_tls(&mut Raw(stream));
                    return Err(failed(&error));
                }
            }
        }
    }
    Ok(tls)
}

const PLAIN_PORT: &str = "this port may speak no TLS: use security_protocol=PLAINTEXT or \
     SASL_PLAINTEXT, or the port of the TLS listener";

fn cut(address: &Arc<str>, received: usize, error: &io::Error) -> ClientError {
    ClientError::Tls {
        address: address.clone(),
        reason: format!("{} during the handshake", crate::open::plain(error)),
        hint: match received {
            // Kafka reads our first bytes as the length of a huge request, and closes.
            0 => PLAIN_PORT.to_owned(),
            _ => String::new(),
        },
    }
}

/// The error of rustls in an error of reading, if it is one.
pub(crate) fn fault(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// What went wrong, and which setting to look at.
pub(crate) fn explain(address: &Arc<str>, error: &Error) -> ClientError {
    use AlertDescription as Alert;
    let (reason, hint) = match error {
        Error::InvalidCertificate(fault) => certificate(fault),
        Error::InvalidMessage(_) => (
            "its answer is not TLS".to_owned(),
            "use security_protocol=PLAINTEXT or SASL_PLAINTEXT, or the port of the TLS listener",
        ),
        Error::AlertReceived(Alert::CertificateRequired) => (
            "it wants a client certificate".to_owned(),
            "set ssl_certfile and ssl_keyfile",
        ),
        Error::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied),
        ) => (
            format!("it refused our certificate ({alert:?})"),
            "look at ssl_certfile and ssl_keyfile, and at the authorities the broker trusts",
        ),
        Error::AlertReceived(
            alert
            @ (Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity),
        ) => (
            format!("it has no TLS version or cipher in common with us ({alert:?})"),
            "brokers need TLS 1.2 or 1.3; one that wants a client certificate may end so too \
             (ssl_certfile)",
        ),
        other => (other.to_string(), ""),
    };
    ClientError::Tls {
        address: address.clone(),
        reason,
        hint: hint.to_owned(),
    }
}

fn certificate(fault: &CertificateError) -> (String, &'static str) {
    use CertificateError as Fault;
    match fault {
        Fault::UnknownIssuer => (
            "its certificate is signed by an authority that is not trusted".to_owned(),
            "set ssl_cafile to the PEM file of the authority that signed it",
        ),
        Fault::NotValidForName => name(None),
        Fault::NotValidForNameContext {
            expected,
            presented,
        } => name(Some((expected, presented))),
        Fault::Expired | Fault::ExpiredContext { .. } => (
            "its certificate has expired".to_owned(),
            "renew the broker's certificate; if it is valid, look at this machine's clock",
        ),
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => (
            "its certificate is not valid yet".to_owned(),
            "look at the clocks of this machine and of the one that made the certificate",
        ),
        Fault::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => (
            "its certificate is an authority's own".to_owned(),
            "have the broker's certificate signed by the authority in ssl_cafile",
        ),
        other => (
            format!("its certificate is not accepted: {other}"),
            "look at the broker's certificate and at ssl_cafile",
        ),
    }
}

fn name(context: Option<(&ServerName<'_>, &Vec<String>)>) -> (String, &'static str) {
    let reason = match context {
        None => "its certificate is for another host name".to_owned(),
        Some((expected, presented)) => {
            // The names come as `DnsName("...")` or `IpAddress(...)`.
            let names: Vec<&str> = presented
                .iter()
                .map(|name| match name.split_once('(') {
                    Some((_, inside)) => inside.trim_matches(|c| "\"()".contains(c)),
                    None => name,
                })
                .collect();
            let names = match names.is_empty() {
                true => "no name".to_owned(),
                false => names.join(", "),
            };
            format!(
                "its certificate is for {names}, not for {}",
                expected.to_str()
            )
        }
    };
    (
        reason,
        "connect by a name in the certificate's subjectAltName, or set ssl_check_hostname=False",
    )
}
