//! What people are told, and in which words; no I/O.

pub mod notice;
pub mod push;

pub use notice::{Content, Notice};
pub use push::{PushContent, PushText, Target, WaitingPush};
