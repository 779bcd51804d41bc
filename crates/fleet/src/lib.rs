//! The launcher: all five services in one process, and `demo`, a scripted client that behaves like the app.

pub mod acls;
pub mod app;
pub mod dead_letters;
pub mod demo;
pub mod entry;
pub mod export;
pub mod forward;
pub mod import;
pub mod launch;
pub mod secrets;
pub mod topics;
