//! The events feed listens to, one file each.

pub mod moderated;
pub mod resigned;
pub mod viewed;
