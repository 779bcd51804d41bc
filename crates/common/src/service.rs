//! The services of the fleet.

use schemars::JsonSchema;
use serde::Deserialize;

/// A service of the fleet: a principal on the broker, a name in settings and URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    Config,
    Auth,
    Feed,
    Dm,
    Notice,
}

impl Service {
    pub const ALL: [Self; 5] = [Self::Config, Self::Auth, Self::Feed, Self::Dm, Self::Notice];

    /// Returns the name in URLs, metrics and consumer groups.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config-service",
            Self::Auth => "auth-service",
            Self::Feed => "feed-service",
            Self::Dm => "dm-service",
            Self::Notice => "notice-service",
        }
    }

    /// Returns the name of its principal, its settings and its workload.
    #[must_use]
    pub const fn short_name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Auth => "auth",
            Self::Feed => "feed",
            Self::Dm => "dm",
            Self::Notice => "notice",
        }
    }

    /// Returns the service of that [`Service::name`].
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}
