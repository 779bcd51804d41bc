//! The access check on a registry hit, compared with the SHA-256 digest that it computes.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sosohappy_access::{AuthClient, Authenticator as _, Registry, Revalidation, Revocations};
use sosohappy_bus::Bus;
use sosohappy_common::Context;
use sosohappy_common::settings::{Access, Live, TokenRegistry};
use sosohappy_events::types::{AccessTokenIssued, Role, SessionId, TokenDigest};
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::publish_heartbeats;

use crate::report::{Report, Row, Samples};

const BATCH: u32 = 20_000;
const ROUNDS: usize = 25;

pub async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let context = Context::system("bench", 0);
    let url = format!("journal:{}/events.db", folder.path().display());
    let events = sosohappy_common::settings::Events::new(&url, "");
    let bus = sosohappy_bus::open(&events, &context).await?;
    bus.create_topics(&Topic::ALL).await?;

    // The length of a real access token.
    let token = context.entropy.hex(170);
    let account: sosohappy_common::Account = "kim@example.com+kakao".parse()?;
    let issued_at = context.clock.now();
    let issued = AccessTokenIssued {
        account: account.clone(),
        digest: TokenDigest::of(&token),
        raw: None,
        session: SessionId(1),
        role: Role::User,
        issued_at,
        expires_at: Some(issued_at + Duration::from_hours(1)),
    };
    bus.publish(&[Envelope::new(issued, &context).to_outgoing()]).await?;
    let (registry, revalidation) = start_registry(&context, &bus)?;
    context.lifecycle.ready().await;
    let heartbeats = tokio::spawn(publish_heartbeats(bus.clone(), context.clone()));
    // Without a heartbeat each check would call auth: waits for the first one.
    while revalidation.is_needed() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let (mut checks, mut digests) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..BATCH {
            black_box(registry.authenticate(&account, black_box(&token)).await)?;
        }
        checks.push(began.elapsed() / BATCH);
        let began = Instant::now();
        for _ in 0..BATCH {
            black_box(TokenDigest::of(black_box(&token)));
        }
        digests.push(began.elapsed() / BATCH);
    }
    heartbeats.abort();
    context.lifecycle.shutdown(Duration::from_secs(1)).await;
    let (check, digest) = (Samples::new(checks).median(), Samples::new(digests).median());
    report.add(&Row {
        what: "access check, registry hit".to_owned(),
        measured: format!("{} ns", check.as_nanos()),
        baseline: format!("{} ns, SHA-256 of the same token", digest.as_nanos()),
        target: "≤ 2 µs",
        met: check <= Duration::from_micros(2),
        why: "the check computes the digest, looks it up in the table and copies the account.",
    });
    Ok(())
}

/// Starts the token registry as a service does, with the readers of revocations and heartbeats. No auth answers.
pub fn start_registry(context: &Context, bus: &Arc<dyn Bus>) -> anyhow::Result<(Registry, Revalidation)> {
    let settings = Access {
        auth_url: "http://127.0.0.1:1".parse()?,
        introspection_timeout: Duration::from_millis(300),
        registry: TokenRegistry::Complete,
        token_lifetime: Duration::from_hours(24),
    };
    let auth = AuthClient::new(&Live::new(settings.clone()), &"unused".to_owned().into(), context)?;
    let revocations = Revocations::start(context, settings.token_lifetime, bus);
    let revalidation = Revalidation::start(context, bus, auth, revocations);
    let registry = Registry::start(context, &settings, bus, revalidation.clone());
    Ok((registry, revalidation))
}
