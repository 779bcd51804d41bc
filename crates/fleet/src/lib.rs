//! The launcher, which runs all five services in one process, and the tools of operators: demo, topics, ACLs, dead letters, backup, import
//! and export.

pub mod acls;
pub mod app;
pub mod backup;
pub mod connection_log;
mod console;
pub mod dead_letters;
pub mod demo;
pub mod entry;
pub mod export;
pub mod forward;
pub mod grant_role;
pub mod import;
pub mod launch;
pub mod mirror;
mod operator_call;
pub mod people;
pub mod rebuild_views;
pub mod restore;
pub mod secrets;
pub mod system_notice;
pub mod topics;
