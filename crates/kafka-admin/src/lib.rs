//! The administration of Kafka that rdkafka has no functions for: access control lists, and the accounts of SCRAM.
//!
//! Speaks Kafka's protocol on one connection, with the same `events.security` as the services. For tools and tests; services do not
//! change who may do what.

mod acls;
mod connection;
mod scram;

use sosohappy_common::settings::Security;

pub use acls::Found;
use connection::Connection;

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// `events.security` asks for what this client does not do, or names a file that cannot be used.
    #[error("events.security: {0}")]
    Settings(String),
    #[error("kafka is unavailable: {0}")]
    Unavailable(String),
    /// The broker refuses the credentials.
    #[error("kafka refused the credentials: {0}")]
    Unauthenticated(String),
    /// The broker refuses a request.
    #[error("kafka refused: {0}")]
    Refused(String),
}

/// A connection to a broker, which passes changes on to the controller.
#[derive(Debug)]
pub struct Admin {
    connection: Connection,
}

impl Admin {
    /// Connects to the first of these brokers (`host:port[,host:port…]`) that answers.
    pub async fn connect(brokers: &str, security: &Security) -> Result<Self, AdminError> {
        let mut last = AdminError::Unavailable("no broker is named".to_owned());
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

/// A refusal in Kafka's words: the code by its name, and the reason if there is one.
fn refusal(code: i16, message: Option<&str>) -> AdminError {
    let name = kafka_protocol::ResponseError::try_from_code(code)
        .map_or_else(|| format!("error {code}"), |error| format!("{error:?}"));
    AdminError::Refused(message.map_or_else(|| name.clone(), |message| format!("{name}: {message}")))
}
