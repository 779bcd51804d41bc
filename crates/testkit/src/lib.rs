//! The test environment of the services: engines with databases and topics that are deleted after the test, a fake auth for the other
//! services, running services, sockets.
//!
//! ```ignore
//! async fn saves_a_post(bed: Bed) {
//!     let kim = bed.person("kim@example.com+kakao", "kim").await;
//!     let feed = bed.start(sosohappy_feed::build(...)).await;
//!     ...
//! }
//! on_both_engines!(saves_a_post);
//! ```

mod bed;
mod broker;
mod cluster;
mod commands;
mod counting_bus;
mod engines;
mod eventually;
mod fake_auth;
mod fake_provider;
mod fake_smtp;
mod folder;
mod held_bus;
mod lazy_bus;
mod limits;
mod offsets;
mod patience;
mod ports;
pub mod push_providers;
mod running;
mod socket;
pub mod spring;
pub mod statements;

pub use bed::{Bed, Person, publish_heartbeats};
pub use broker::Broker;
pub use cluster::{BalancedCluster, Cluster, Ports, Process, resident_of};
pub use commands::Commands;
pub use counting_bus::CountingBus;
pub use engines::{EngineSet, LocalEngines};
pub use eventually::eventually;
pub use fake_provider::{CallAnswer, FakeProvider, KeysAnswer, ProviderCall, ProviderKey};
pub use fake_smtp::{FakeSmtp, ReceivedMail, SmtpBehavior, SmtpTls};
pub use held_bus::HeldBus;
pub use offsets::Offsets;
pub use patience::PATIENCE;
pub use ports::ReservedPorts;
pub use running::Running;
pub use socket::Socket;

/// Generates a test for each engine set from `async fn name(bed: Bed)`: `name::embedded` and `name::real`.
#[macro_export]
macro_rules! on_both_engines {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn embedded() {
                super::$test($crate::Bed::new($crate::EngineSet::Embedded).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn real() {
                if $crate::EngineSet::real_is_there() {
                    super::$test($crate::Bed::new($crate::EngineSet::Real).await).await;
                }
            }
        }
    )+};
}
