//! The HTTP side of a service: reading parameters, one error shape, middleware, management, documents, serving.

mod actuator;
pub mod answers;
pub mod credential;
pub mod docs;
mod intake;
mod linger;
mod observe;
mod operations;
pub mod params;
pub mod problem;
mod progress;
pub mod serve;
#[cfg(test)]
pub(crate) mod testing;

pub use answers::Answers;
pub use operations::operations;
pub use params::{Files, Params, Upload};
pub use problem::Problem;

pub use crate::correlation::{Correlation, correlation};
