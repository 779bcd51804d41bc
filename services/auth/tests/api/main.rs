//! The auth service from outside, on both engine sets.

mod block;
mod connections;
mod cost;
mod email;
mod fleet;
mod moderation;
mod names;
mod people;
mod profile;
mod proof;
mod providers;
mod resign;
mod session;
mod subscriber;
mod support;
mod time;
