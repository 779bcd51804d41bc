//! For the other services of the fleet, with the service credential.

pub mod introspect;
pub mod lookup;
