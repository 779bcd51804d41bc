//! The rules of Spring Cloud Config: parsing of requests and files, selection and precedence of files, and the forms of a response. No I/O.

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
