//! The hub over real sockets, in a bare axum app without a service.

mod bounds;
mod closing;
mod delivery;
mod stream;
mod support;
