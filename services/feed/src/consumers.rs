//! The events feed listens to, one file each.

pub mod resigned;
