//! Authentication and authorization of callers: the `Caller`, the token registry, introspection, and the rule that a caller acts
//! only for themselves.
//!
//! A service puts its closed routes through [`protect()`]; handlers take [`Act`] (or [`ActUpload`]) and so cannot read
//! parameters without the owner rule having been applied. feed, dm and notice get everything behind it from [`identity`].

pub mod act;
pub mod authenticate;
mod blocks;
pub mod caller;
pub mod directory;
mod heartbeats;
pub mod introspection;
mod metrics;
mod moderation;
pub mod muted_words;
pub mod names;
pub mod protect;
pub mod registry;
pub mod revalidation;
pub mod revocations;

use std::sync::Arc;

use sosohappy_bus::Bus;
use sosohappy_common::Context;
use sosohappy_common::settings::{Access, Credentials, Live};
use sosohappy_events::Mixed;
use sosohappy_events::topic::LONGEST_TOKEN;
use sosohappy_store::Directory;

pub use act::{Act, ActUpload, Acting, Actor};
pub use authenticate::{Authenticator, Denied};
pub use blocks::current_blocks;
pub use caller::{Admin, Bearer, Caller, Moderator};
pub use directory::DirectoryNames;
pub use introspection::AuthClient;
pub use moderation::acknowledge_order;
pub use muted_words::MutedWordLists;
pub use names::{Names, Profile};
pub use protect::{Identity, identify, protect};
pub use registry::Registry;
pub use revalidation::Revalidation;
pub use revocations::Revocations;

/// The most records that readers of tokens and revocations apply at once: a day of them is read before a replica is ready.
pub(crate) const READ_AT_ONCE: usize = 256;

/// Starts all that a service other than auth needs to authenticate callers: the token registry (readiness waits for it), the
/// consumers that feed the directory, and the client of auth for tokens and names that neither knows. Sockets outlive their
/// handshake, so a service that has some hands them the [`Revalidation`]. One that keeps blocked accounts apart uses
/// [`current_blocks`], one that shows or pushes texts asks [`MutedWordLists`].
///
/// # Errors
/// When `access.auth-url` is no base for a URL, tokens live longer than their topic keeps them, or the service token cannot be a header.
pub fn identity(
    context: &Context,
    settings: &Live<Access>,
    credentials: &Credentials,
    bus: &Arc<dyn Bus>,
    directory: Arc<dyn Directory>,
    revocations: Revocations,
    mixed: &Mixed,
) -> anyhow::Result<(Identity, Revalidation, MutedWordLists)> {
    anyhow::ensure!(
        settings.get().token_lifetime <= LONGEST_TOKEN,
        "access.token-lifetime: at most {} h, for as long as the accessToken topic keeps its records",
        LONGEST_TOKEN.as_secs() / 3600
    );
    let auth = AuthClient::in_fleet(settings, &credentials.service_token, context, mixed)?;
    let revalidation = Revalidation::start(context, bus, auth.clone(), revocations);
    let registry = Registry::start(context, &settings.get(), bus, revalidation.clone());
    let muted_words = MutedWordLists::new(auth.clone());
    let names = DirectoryNames::new(directory, auth, context.lifecycle.clone());
    directory::spawn_directory_consumers(context, bus, &names);
    let identity = Identity {
        authenticator: Arc::new(registry),
        names: Arc::new(names),
    };
    Ok((identity, revalidation, muted_words))
}
