//! A connection to a broker: TCP, TLS, SASL, and one request at a time.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::{RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes};
use rsasl::prelude::{Mechname, SASLClient, SASLConfig};
use rustls_platform_verifier::BuilderVerifierExt as _;
use secrecy::ExposeSecret as _;
use sosohappy_common::settings::{Login, Mechanism, Sasl, Security, Tls};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::{AdminError, refusal};

/// The time limit for a connection, including its authentication, and for each request.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The largest accepted response, in bytes. A description of several thousand ACLs is smaller than a mebibyte.
const MAX_RESPONSE: i32 = 16 << 20;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    /// The correlation id of the last request; its response has the same one.
    correlation: i32,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

fn unavailable(error: impl fmt::Display) -> AdminError {
    AdminError::Unavailable(error.to_string())
}

impl Connection {
    pub(crate) async fn open(broker: &str, security: &Security) -> Result<Self, AdminError> {
        tokio::time::timeout(TIMEOUT, Self::connect(broker, security))
            .await
            .map_err(|_| unavailable(format!("{broker} does not respond")))?
    }

    async fn connect(broker: &str, security: &Security) -> Result<Self, AdminError> {
        let tcp = TcpStream::connect(broker)
            .await
            .map_err(|error| unavailable(format!("{broker}: {error}")))?;
        let stream: Box<dyn Stream> = match &security.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
                    .map_err(|error| AdminError::Settings(format!("{host}: {error}")))?;
                let connector = TlsConnector::from(Arc::new(tls_config(tls)?));
                let stream = connector.connect(name, tcp).await;
                Box::new(stream.map_err(|error| unavailable(format!("{broker}: {error}")))?)
            }
        };
        let mut connection = Self { stream, correlation: 0 };
        if let Some(sasl) = &security.sasl {
            connection.authenticate(sasl).await?;
        }
        Ok(connection)
    }

    /// Sends a request and returns its response.
    pub(crate) async fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, AdminError> {
        tokio::time::timeout(TIMEOUT, self.exchange(request, version))
            .await
            .map_err(|_| unavailable("the broker does not respond"))?
    }

    async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, AdminError> {
        // A request is a length of 4 bytes, a header and a body. The header's own version depends on the API and its version.
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("fleet")));
        let mut body = Vec::new();
        header
            .encode(&mut body, R::header_version(version))
            .map_err(unavailable)?;
        request.encode(&mut body, version).map_err(unavailable)?;
        let length = i32::try_from(body.len()).map_err(unavailable)?;
        self.stream
            .write_all(&length.to_be_bytes())
            .await
            .map_err(unavailable)?;
        self.stream.write_all(&body).await.map_err(unavailable)?;
        self.stream.flush().await.map_err(unavailable)?;

        let length = self.stream.read_i32().await.map_err(unavailable)?;
        if !(0..=MAX_RESPONSE).contains(&length) {
            return Err(unavailable(format!("invalid response length: {length} bytes")));
        }
        let mut response = vec![0; usize::try_from(length).map_err(unavailable)?];
        self.stream.read_exact(&mut response).await.map_err(unavailable)?;
        let mut response = response.as_slice();
        let header =
            ResponseHeader::decode(&mut response, R::Response::header_version(version)).map_err(unavailable)?;
        if header.correlation_id != self.correlation {
            return Err(unavailable("the response has the correlation id of another request"));
        }
        R::Response::decode(&mut response, version).map_err(unavailable)
    }

    async fn authenticate(&mut self, sasl: &Sasl) -> Result<(), AdminError> {
        let (Sasl::Plain(login) | Sasl::ScramSha256(login) | Sasl::ScramSha512(login)) = sasl else {
            return Err(AdminError::Settings(
                "OAUTHBEARER is supported by services only: use SCRAM, PLAIN or a client certificate".to_owned(),
            ));
        };
        let handshake =
            SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(sasl.mechanism().name()));
        let response = self.call(&handshake, 1).await?;
        if response.error_code != 0 {
            return Err(refusal(response.error_code, None));
        }
        self.log_in(sasl.mechanism(), login).await
    }

    /// Exchanges SASL messages (RFC 4422) until the mechanism is finished.
    async fn log_in(&mut self, mechanism: Mechanism, login: &Login) -> Result<(), AdminError> {
        let failed = |error: &dyn fmt::Display| AdminError::Unauthenticated(error.to_string());
        let password = login.password.expose_secret().to_owned();
        let config =
            SASLConfig::with_credentials(None, login.username.clone(), password).map_err(|error| failed(&error))?;
        let name = Mechname::parse(mechanism.name().as_bytes()).map_err(|error| failed(&error))?;
        let mut session = SASLClient::new(config)
            .start_suggested(&[name])
            .map_err(|error| failed(&error))?;
        let mut challenge: Option<Vec<u8>> = None;
        loop {
            let mut message = Vec::new();
            let state = session
                .step(challenge.as_deref(), &mut message)
                .map_err(|error| failed(&error))?;
            // The last challenge, as SCRAM's server signature, may need no reply.
            if state.is_finished() && message.is_empty() {
                return Ok(());
            }
            let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
            let response = self.call(&request, 1).await?;
            if response.error_code != 0 {
                return Err(failed(&response.error_message.as_deref().unwrap_or("no reason given")));
            }
            if state.is_finished() {
                return Ok(());
            }
            challenge = Some(response.auth_bytes.to_vec());
        }
    }
}

fn tls_config(tls: &Tls) -> Result<ClientConfig, AdminError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unavailable)?;
    let builder = match &tls.ca {
        None => builder.with_platform_verifier().map_err(unavailable)?,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("ca", path)? {
                roots.add(authority).map_err(|error| unusable("ca", path, error))?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let Some(client) = &tls.client else {
        return Ok(builder.with_no_client_auth());
    };
    if client.key_password.is_some() {
        return Err(AdminError::Settings(
            "encrypted client keys are not supported".to_owned(),
        ));
    }
    let chain = certificates("certificate", &client.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&client.key).map_err(|error| unusable("key", &client.key, error))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable("certificate", &client.certificate, error))
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, AdminError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(key, path, error))
}

/// Returns the error of a file that a setting names and that cannot be read, or is invalid.
fn unusable(key: &str, path: &Path, error: impl fmt::Display) -> AdminError {
    AdminError::Settings(format!("{key}: {}: {error}", path.display()))
}
