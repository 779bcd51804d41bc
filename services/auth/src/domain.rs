//! Validated types and rules; no I/O.

pub mod challenge;
pub mod claims;
pub mod code;
pub mod email;
pub mod hash;
pub mod id_token;
pub mod legacy;
pub mod moderation;
pub mod muted_word;
pub mod nickname_claim;
pub mod notification;
pub mod page;
pub mod person;
pub mod profile;
pub mod provider;
pub mod session;
pub mod stamp;
pub mod system_notice;
