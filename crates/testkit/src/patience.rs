//! How long a machine that is busy with other things may take.

use std::time::Duration;

/// For anything that must happen. A wait that is too long costs time in a test that fails, and nothing in one that passes.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Limits of services that would be reached on a busy machine: of a call to auth about people that the topics have not brought yet, which is 503
/// then, and of the work on a frame, which is dropped then.
const LIMITS: [(&str, &str, &str); 5] = [
    ("feed", "access.introspection-timeout", "10s"),
    ("dm", "access.introspection-timeout", "10s"),
    ("notice", "access.introspection-timeout", "10s"),
    ("dm", "sockets.frame-timeout", "1m"),
    ("notice", "sockets.frame-timeout", "1m"),
];

/// Returns the limits for the settings of a service (`auth`, `feed`, …). The settings of a test itself override these.
pub(crate) fn limits(service: &str) -> impl Iterator<Item = (&'static str, String)> {
    let of_service = LIMITS.into_iter().filter(move |(of, ..)| *of == service);
    of_service.map(|(_, key, value)| (key, value.to_owned()))
}

/// Returns them for the environment of a process, for each service.
pub(crate) fn limits_by_environment() -> impl Iterator<Item = (String, String)> {
    LIMITS.into_iter().map(|(service, key, value)| {
        let variable = format!("sosohappy_{service}__{}", key.replace('.', "__").replace('-', "_"));
        (variable.to_uppercase(), value.to_owned())
    })
}
