//! The foundation of every service of the fleet: settings, telemetry, lifecycle, HTTP and time.
//!
//! This crate has no business rule, topic or table.

pub mod account;
pub mod clock;
pub mod context;
pub mod correlation;
pub mod crash_point;
pub mod faults;
pub mod file_lock;
pub mod health;
pub mod http;
pub mod json;
mod lenient;
pub mod lifecycle;
pub mod metrics;
pub mod nickname;
pub mod rate;
pub mod run;
mod service;
pub mod settings;
pub mod telemetry;
pub mod text;
pub mod tls;
pub mod wake;

pub use account::Account;
pub use context::Context;
pub use crash_point::crash_point;
pub use http::problem::Problem;
pub use nickname::{Look, Nickname, NicknameKey, NicknameLooks};
pub use run::run;
pub use service::Service;
pub use wake::WakeHandle;
