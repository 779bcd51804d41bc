//! Rules for every route of the fleet, checked with the API documents that the services generate.

mod documents;
mod logs;
mod openapi;
mod refusals;
mod routes;

use std::path::Path;

use sosohappy_fleet::app::Addresses;
use sosohappy_testkit::Ports;

/// Returns the folder of this workspace's binaries.
fn binaries() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fleet"))
        .parent()
        .expect("a binary is in a folder")
}

fn addresses(ports: Ports) -> Addresses {
    Addresses::local(ports.auth, ports.feed, ports.dm, ports.notice)
}
