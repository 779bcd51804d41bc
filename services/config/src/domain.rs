//! Spring Cloud Config's rules: what is asked for, which files answer, in which order, in which form.

pub mod cipher;
pub mod environment;
pub mod flat;
pub mod placeholders;
pub mod query;
pub mod snapshot;
