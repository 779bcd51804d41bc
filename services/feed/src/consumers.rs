//! The events that feed consumes, one file each.

pub mod moderated;
pub mod resigned;
pub mod suspended;
pub mod viewed;
