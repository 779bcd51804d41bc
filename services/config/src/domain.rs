//! Spring Cloud Config's rules: what is asked for, which files answer, in which order, in which form.

pub mod activation;
pub mod canary;
pub mod check;
pub mod cipher;
pub mod diff;
pub mod environment;
pub mod finding;
pub mod flat;
mod json_numbers;
pub mod keyring;
pub mod placeholders;
pub mod positions;
pub mod query;
pub mod schema;
pub mod snapshot;
pub mod webhook;
pub mod yaml;
