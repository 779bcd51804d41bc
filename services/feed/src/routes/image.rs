//! Pictures of posts.

pub mod find;
pub mod show;
