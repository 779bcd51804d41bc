//! How long a machine that is busy with other things may take.

use std::time::Duration;

/// For anything that must happen. A wait that is too long costs time in a test that fails, and nothing in one that passes.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Of a call to auth about people that the topics have not brought yet; with the default, a busy machine answers 503.
const INTROSPECTION: (&str, &str) = ("access.introspection-timeout", "10s");

/// Those that ask auth.
const ASKING: [&str; 3] = ["feed", "dm", "notice"];

/// Returns the time limits for the settings of a service (`auth`, `feed`, …). The settings of a test itself override these.
pub(crate) fn limits(service: &str) -> impl Iterator<Item = (&'static str, String)> {
    let (key, value) = INTROSPECTION;
    ASKING.contains(&service).then(|| (key, value.to_owned())).into_iter()
}

/// Returns them for the environment of a process, for each service.
pub(crate) fn limits_by_environment() -> impl Iterator<Item = (String, String)> {
    ASKING.into_iter().map(|service| {
        let (key, value) = INTROSPECTION;
        let variable = format!("sosohappy_{service}__{}", key.replace('.', "__").replace('-', "_"));
        (variable.to_uppercase(), value.to_owned())
    })
}
