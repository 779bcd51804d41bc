//! The events dm listens to, one file each.

pub mod resigned;
pub mod sent;
