//! Settings that disable rate limits: all clients of a test or a benchmark share one address, and send more requests than people do.
//!
//! A test's own settings override these.

/// Keys of every service.
const OFF: &[&str] = &[
    "rate-limits.per-address.anonymous",
    "rate-limits.per-address.sign-in",
    "rate-limits.per-address.read",
    "rate-limits.per-address.write",
    "rate-limits.per-address.upload",
    "rate-limits.per-address.connect",
    "rate-limits.per-account.read",
    "rate-limits.per-account.write",
    "rate-limits.per-account.upload",
    "rate-limits.per-account.uploads-at-once",
    "rate-limits.per-account.connect",
];
const OFF_AT_AUTH: &[&str] = &[
    "sign-in.failures-of-all-per-minute",
    "sign-in.failures-per-minute",
    "email.codes-per-minute",
    "moderation.reports-per-minute",
    "sessions.reissues-per-minute",
];
const OFF_WITH_SOCKETS: &[&str] = &["sockets.frames-per-minute"];

/// Returns the settings that disable the limits of a service (`auth`, `feed`, …).
pub(crate) fn off(service: &str) -> impl Iterator<Item = (&'static str, String)> {
    let own = match service {
        "auth" => OFF_AT_AUTH,
        "dm" | "notice" => OFF_WITH_SOCKETS,
        _ => &[],
    };
    OFF.iter().chain(own).map(|key| (*key, "off".to_owned()))
}

/// Returns the environment variables that disable the limits of every service.
pub(crate) fn off_by_environment() -> impl Iterator<Item = (String, String)> {
    ["config", "auth", "feed", "dm", "notice"]
        .into_iter()
        .flat_map(|service| {
            off(service).map(move |(key, value)| {
                let variable = format!("sosohappy_{service}__{}", key.replace('.', "__").replace('-', "_"));
                (variable.to_uppercase(), value)
            })
        })
}
