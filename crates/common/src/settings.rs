//! Layered, typed settings: embedded defaults, a file, the config service, the environment.
//!
//! The shared sections and their commented defaults live in `settings/shared.toml`, those of a service in its
//! own `settings.toml`. Keys are kebab-case; in the environment `SOSOHAPPY_<SERVICE>__SECTION__KEY`, with `_`
//! for `-`. Unknown keys are refused; in the config service, which Spring services share, they are named in a
//! warning and ignored. A renamed key is read under its old name for one release, see [`renamed`]. Nonsense values are refused where they are read, by the functions of [`valid`].
//!
//! A defaults file begins with `live = ["section.key", …]`: settings that take effect as soon as they are re-read. Every
//! other change is reported as "needs restart".

pub mod flags;
pub mod keys;
mod layers;
mod live;
mod remote;
pub mod renamed;
pub mod schema;
mod secret_url;
mod sections;
mod security;
mod sources;
pub mod valid;

pub use flags::Flags;
pub use live::{Live, Refreshed, Refresher};
pub use secret_url::{HttpUrl, SecretUrl};
pub use sections::{
    Access, AccessTokenForm, AccountLimits, AddressLimits, ConfigClient, Credentials, Database, Erasure, Events, Fleet,
    Log, LogFormat, RateLimits, Server, Shared, SpringNoticeLike, TokenRegistry, Tracing,
};
pub use security::{ClientCertificate, Login, Mechanism, OauthClient, Protocol, Sasl, Security, Tls};
use serde::de::DeserializeOwned;
pub use sources::{SettingsError, Sources};

use self::layers::Layers;

/// Reads all layers once; the config service is asked when `config.url` is set.
pub async fn load<S: DeserializeOwned>(sources: &Sources) -> Result<Live<S>, SettingsError> {
    live::load(sources).await
}

/// Reads some sections of all layers but the config service, for tools that are no service.
pub fn sections<S: DeserializeOwned>(sources: &Sources) -> Result<S, SettingsError> {
    Layers::at_hand(sources)?.sections()
}

/// The shared sections from the layers that are at hand (all but the config service): as far as they are needed to log
/// while the config service is waited for.
pub fn peek(sources: &Sources) -> Result<Shared, SettingsError> {
    Layers::at_hand(sources)?.shared()
}
