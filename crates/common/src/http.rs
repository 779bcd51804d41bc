//! The HTTP side of a service: reading parameters, one error shape, middleware, management, documents, serving.

mod actuator;
mod body_limit;
mod client_address;
mod conditional;
pub mod credential;
pub mod docs;
mod linger;
mod memory_limit;
mod operations;
pub mod params;
pub mod problem;
pub mod rate_limit;
mod request_limits;
mod request_log;
pub mod response_memory;
pub mod serve;
#[cfg(test)]
pub(crate) mod testing;
mod write_timeout;

pub use body_limit::read_failed;
pub use client_address::ClientAddress;
pub use conditional::none_match_names;
pub use operations::operations;
pub use params::{Files, Params, Upload, WholeBody};
pub use problem::Problem;
pub use rate_limit::Class;
pub use response_memory::ResponseMemory;

pub use crate::correlation::{Correlation, correlation};
