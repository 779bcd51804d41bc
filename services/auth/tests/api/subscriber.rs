//! The one tracing subscriber of this binary, for the tests that read logs.

use std::sync::Once;

use sosohappy_testkit::statements;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::email;

/// Starts to record what the tests of this process log.
pub fn subscribe() {
    static SUBSCRIBED: Once = Once::new();
    SUBSCRIBED.call_once(|| {
        tracing_subscriber::registry()
            .with(statements::layer())
            .with(email::layer())
            .init();
    });
}
