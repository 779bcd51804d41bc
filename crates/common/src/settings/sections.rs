//! The sections every service has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use super::secret_url::{HttpUrl, SecretUrl};
use super::security::{Security, SecurityFields};
use super::{schema, valid};
use crate::Service;
use crate::lenient::comma_list;
use crate::rate::{AtOnce, Rate};

/// The HTTP port of a service and the limits on requests.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Server {
    pub host: std::net::IpAddr,
    pub port: u16,
    /// Connections at once, sockets not counted; more are answered 503 and closed.
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub connections: usize,
    /// From accept to the end of the first header block.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub header_timeout: Duration,
    /// From an answer to the end of the next header block on the same connection. Longer than the load
    /// balancer's, so that the service never closes a connection that the load balancer is about to use.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub keep_alive_timeout: Duration,
    /// From the end of the headers to the end of the body.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub body_timeout: Duration,
    /// From the end of the headers to the head of the answer; 503 then.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub request_timeout: Duration,
    /// The longest time between two bytes that a client reads of its response; the connection is closed then. Not for sockets.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub write_timeout: Duration,
    /// How long the rest of a request that was answered before its body was read is discarded, so that the answer arrives.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub linger_timeout: Duration,
    /// Concurrent connections that linger; others are closed over the unread body.
    pub linger_connections: usize,
    /// Bytes of one request body.
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub body_limit: usize,
    /// Bytes of large bodies held in memory at once by this service. A body reserves its whole length, or is refused with 503.
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub upload_memory: usize,
    /// Bytes of large responses held in memory at once by this service; 503 where none is free within 5 s.
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub response_memory: usize,
    /// Bytes of resident memory of the process above which liveness fails, so that it is restarted; 0 for no limit.
    pub memory_limit: usize,
    /// How long the service is unready but still serves after SIGTERM, so that load balancers stop sending requests.
    #[serde(deserialize_with = "valid::duration_or_zero")]
    #[schemars(schema_with = "schema::duration_or_zero")]
    pub drain_delay: Duration,
    /// Time for requests, sockets and consumers to finish after that.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub drain_budget: Duration,
}

/// Rate limits: calls a minute; more are answered 429. Each replica counts for itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct RateLimits {
    /// Networks of the proxies whose `X-Forwarded-For` is trusted.
    #[serde(deserialize_with = "valid::networks")]
    #[schemars(schema_with = "schema::networks")]
    pub trusted_proxies: Vec<IpNet>,
    pub per_address: AddressLimits,
    pub per_account: AccountLimits,
}

impl RateLimits {
    /// Returns settings without any limit, for tests of other subjects.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            per_address: AddressLimits {
                anonymous: Rate::Off,
                sign_in: Rate::Off,
                read: Rate::Off,
                write: Rate::Off,
                upload: Rate::Off,
                connect: Rate::Off,
            },
            per_account: AccountLimits {
                read: Rate::Off,
                write: Rate::Off,
                upload: Rate::Off,
                uploads_at_once: AtOnce::OFF,
                connect: Rate::Off,
            },
        }
    }
}

/// Calls a minute of one client address (IPv4, or an IPv6 network of 64 bits) by route class.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct AddressLimits {
    pub anonymous: Rate,
    pub sign_in: Rate,
    pub read: Rate,
    pub write: Rate,
    pub upload: Rate,
    pub connect: Rate,
}

/// Calls a minute of one account by route class.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct AccountLimits {
    pub read: Rate,
    pub write: Rate,
    pub upload: Rate,
    /// Uploads in progress at one time.
    pub uploads_at_once: AtOnce,
    pub connect: Rate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    Pretty,
    Json,
}

/// Log level by target, `info,sosohappy_feed=debug`; changes live.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Log {
    #[serde(deserialize_with = "valid::log_directives")]
    #[schemars(schema_with = "schema::log_directives")]
    pub level: String,
    pub format: LogFormat,
}

/// The collector of spans; empty for none.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Tracing {
    /// Base of the collector, `http://127.0.0.1:4318`; spans go to `/v1/traces` below it.
    pub otlp_endpoint: Option<HttpUrl>,
    /// Share of traces kept, 0 to 1.
    #[serde(deserialize_with = "valid::ratio")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_ratio: f64,
    /// Bytes of ended spans that a process keeps in memory; 0 keeps none.
    #[serde(deserialize_with = "valid::size")]
    #[schemars(range(max = valid::MAX_SIZE))]
    pub recent_bytes: usize,
}

/// The bus between services.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Events {
    /// `journal:<file>` or `kafka:<host:port>[,<host:port>…]`.
    pub url: SecretUrl,
    /// The prefix of every topic and group name; empty in production, random in tests.
    pub prefix: String,
    /// Wire names that differ from the defaults, by default name.
    #[serde(default)]
    pub topics: BTreeMap<String, String>,
    /// TLS and SASL of `kafka:`.
    #[serde(default)]
    #[schemars(with = "SecurityFields")]
    pub security: Security,
}

impl Events {
    /// Returns the settings of a bus at this URL with the default names and no security.
    #[must_use]
    pub fn new(url: &str, prefix: &str) -> Self {
        Self {
            url: url.into(),
            prefix: prefix.to_owned(),
            topics: BTreeMap::new(),
            security: Security::default(),
        }
    }
}

/// The legacy Spring services that still run, while they are replaced one at a time.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Fleet {
    /// Services of which a Spring instance runs, alone or beside ours.
    #[serde(deserialize_with = "valid::services")]
    #[schemars(with = "Vec<Service>")]
    pub spring: BTreeSet<Service>,
    pub spring_notice_like: SpringNoticeLike,
    /// The setting of one release ago, `events.access-token-form`: `raw` publishes tokens themselves, whatever `spring` says.
    pub access_token_form: Option<AccessTokenForm>,
}

/// How the Spring notice service reads the author in the value of `noticeLike`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpringNoticeLike {
    /// The last version: `account,date`.
    #[default]
    Account,
    /// The older version with a socket: `nickname,date`.
    Nickname,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccessTokenForm {
    /// `sha256:<hex>` of the token.
    Digest,
    /// The token itself.
    Raw,
}

/// The SQL database of a service.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Database {
    /// `sqlite:<file>` or `mysql://<user>:<password>@<host>/<database>`.
    pub url: SecretUrl,
    /// Connections of this replica.
    #[serde(deserialize_with = "valid::connections")]
    #[schemars(schema_with = "schema::connections")]
    pub max_connections: u32,
}

/// The credentials inside the fleet.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Credentials {
    /// The credential of services.
    #[serde(deserialize_with = "valid::credential")]
    #[schemars(schema_with = "schema::credential")]
    pub service_token: SecretString,
    /// The credential of operators, for changes through management endpoints.
    #[serde(deserialize_with = "valid::credential")]
    #[schemars(schema_with = "schema::credential")]
    pub operator_token: SecretString,
}

/// The client of the config service; none with an empty `url`. A start fails if the config service refuses the credential, or has no
/// configuration of the service (404).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct ConfigClient {
    pub url: Option<HttpUrl>,
    #[serde(deserialize_with = "comma_list")]
    pub profiles: Vec<String>,
    /// How long to wait for it at start.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub wait: Duration,
    /// How often its version is compared with the present one, in case a bus message was missed.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub poll: Duration,
    /// The file with its last valid answer, from which a start continues while it is unavailable (no connection, timeout, 5xx). Unset: a
    /// start without it fails.
    pub copy: Option<PathBuf>,
}

/// How feed, dm and notice authenticate callers.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Access {
    /// Where auth answers introspection, for example `http://127.0.0.1:8890`.
    pub auth_url: HttpUrl,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub introspection_timeout: Duration,
    pub registry: TokenRegistry,
    /// The longest lifetime of an access token: how far back the registry reads.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub token_lifetime: Duration,
}

/// Which live tokens a replica of feed, dm or notice holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenRegistry {
    /// All of the fleet, read from `accessToken` before the replica is ready.
    Complete,
    /// Those that were used at this replica: auth is asked once about each.
    OnDemand,
}

/// How fast the embedded engines forget.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Erasure {
    /// How long after a resignation a byte of the account may stay in a file.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub deadline: Duration,
}

/// The sections that every service has.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Shared {
    pub server: Server,
    pub log: Log,
    pub tracing: Tracing,
    pub credentials: Credentials,
    pub config: ConfigClient,
    pub erasure: Erasure,
}
