//! The administration of Kafka that rdkafka does not support: access control lists, and SCRAM users.
//!
//! Uses Kafka's protocol on one connection, with the same `events.security` as the services. For tools and tests only: services do
//! not change permissions.

mod acls;
mod connection;
mod scram;

use sosohappy_common::settings::Security;

pub use acls::BrokerAcl;
use connection::Connection;

/// The error of a connection or an administrative request.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// `events.security` asks for an unsupported feature, or names a file that is missing or invalid.
    #[error("events.security: {0}")]
    Settings(String),
    /// The broker does not respond, or its response is not valid.
    #[error("kafka is unavailable: {0}")]
    Unavailable(String),
    /// The broker refused the credentials.
    #[error("kafka refused the credentials: {0}")]
    Unauthenticated(String),
    /// The broker refused a request.
    #[error("kafka refused: {0}")]
    Refused(String),
}

/// A client of one broker, which forwards changes to the controller.
#[derive(Debug)]
pub struct Admin {
    connection: Connection,
}

impl Admin {
    /// Connects to the first of these brokers (`host:port[,host:port…]`) that is available.
    pub async fn connect(brokers: &str, security: &Security) -> Result<Self, AdminError> {
        let mut last = AdminError::Unavailable("no broker given".to_owned());
        for broker in brokers.split(',').map(str::trim).filter(|broker| !broker.is_empty()) {
            match Connection::open(broker, security).await {
                Ok(connection) => return Ok(Self { connection }),
                Err(error @ AdminError::Unavailable(_)) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

/// Returns the error of a refused request: the name of Kafka's error code, and the message if there is one.
fn refusal(code: i16, message: Option<&str>) -> AdminError {
    let name = kafka_protocol::ResponseError::try_from_code(code)
        .map_or_else(|| format!("error {code}"), |error| format!("{error:?}"));
    AdminError::Refused(message.map_or_else(|| name.clone(), |message| format!("{name}: {message}")))
}
