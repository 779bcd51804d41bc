//! Rules for every route of the fleet, checked with the API documents that the services generate.

mod documents;
mod logs;
mod openapi;
mod refusals;
mod routes;

use std::path::Path;

use sosohappy_fleet::app::Addresses;
use sosohappy_testkit::{Cluster, Ports};

/// Returns the folder of this workspace's binaries.
fn binaries() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fleet"))
        .parent()
        .expect("a binary is in a folder")
}

fn addresses(ports: Ports) -> Addresses {
    Addresses::local(ports.auth, ports.feed, ports.dm, ports.notice)
}

/// Checks that change nothing share a fleet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_and_pages_describe_the_routes() {
    let fleet = Cluster::embedded(binaries()).await;
    documents::every_documented_route_exists(&fleet).await;
    documents::the_api_page_and_its_scripts_are_in_the_binary(&fleet).await;
    openapi::the_documents_are_valid_openapi(&fleet).await;
    openapi::documented_service_and_operator_credentials_are_required(&fleet).await;
}
