//! The HTTP side of a service: reading parameters, one error shape, middleware, management, documents, serving.

mod actuator;
mod body_limit;
pub mod credential;
pub mod docs;
mod linger;
mod operations;
pub mod params;
pub mod problem;
mod request_log;
pub mod response_memory;
pub mod serve;
#[cfg(test)]
pub(crate) mod testing;
mod write_timeout;

pub use operations::operations;
pub use params::{Files, Params, Upload};
pub use problem::Problem;
pub use response_memory::ResponseMemory;

pub use crate::correlation::{Correlation, correlation};
