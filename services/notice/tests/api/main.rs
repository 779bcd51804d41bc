//! The notice service from the outside: events in, frames and receipts out, on both engine sets.

mod connect;
mod devices;
mod fleet;
mod follows;
mod inbox;
mod likes;
mod notices;
mod preferences;
mod providers;
mod pushes;
mod redelivery;
mod resign;
mod revocations;
mod stream;
