//! HTTP clients, all on the one TLS backend of a process: rustls with ring.

use std::sync::Once;

/// Makes ring the provider of every TLS client of this process: of `reqwest`, and of the crates that use it for object storage, git
/// repositories and traces. Called before the first client is built; later calls do nothing.
pub fn install_provider() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // Fails only if the process has another provider already, which serves as well.
        let _other = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Returns a builder of HTTP clients.
#[expect(clippy::disallowed_methods, reason = "the provider is installed")]
pub fn client_builder() -> reqwest::ClientBuilder {
    install_provider();
    reqwest::Client::builder()
}

/// Returns an HTTP client with the defaults of `reqwest`.
///
/// # Panics
/// As `reqwest::Client::new`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the provider is installed")]
pub fn client() -> reqwest::Client {
    install_provider();
    reqwest::Client::new()
}
