//! Likes.

pub mod update;
