//! One import or export at a time: two of them would each take the other's rows for changes of this fleet.

use std::time::Duration;

use anyhow::{bail, ensure};
use sosohappy_auth::import::Importer;
use tokio::time::{Instant, sleep};

/// How long the lease outlives a process that was killed.
const LEASE: Duration = Duration::from_secs(10);
const RENEW_EVERY: Duration = Duration::from_secs(3);
const TRY_EVERY: Duration = Duration::from_millis(500);

/// How long an import waits for the lease: that of a killed one has expired then.
const PATIENCE: Duration = Duration::from_secs(12);

/// Does the work while no other process does such work on the same database of auth.
pub async fn run<T>(auth: &Importer, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    take(auth).await?;
    let outcome = tokio::select! {
        done = work => done,
        lost = keep(auth) => lost.map(|never| match never {}),
    };
    if let Err(error) = auth.release_lease().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "releasing the import lease failed; it expires"
        );
    }
    outcome
}

async fn take(auth: &Importer) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut is_told = false;
    while !auth.lease(LEASE).await? {
        ensure!(
            began.elapsed() < PATIENCE,
            "another import or export is running: only one at a time can write"
        );
        if !is_told {
            println!("another import or export is running, or was killed: waiting for its lease");
            is_told = true;
        }
        sleep(TRY_EVERY).await;
    }
    Ok(())
}

/// Renews the lease until it is lost.
async fn keep(auth: &Importer) -> anyhow::Result<std::convert::Infallible> {
    let mut renewed = Instant::now();
    loop {
        sleep(RENEW_EVERY).await;
        let asked = Instant::now();
        match auth.lease(LEASE).await {
            Ok(true) => renewed = asked,
            Ok(false) => bail!("the import lease was lost: another import or export has begun"),
            // Unavailable for a moment.
            Err(error) if renewed.elapsed() > LEASE => return Err(error.into()),
            Err(_) => {}
        }
    }
}
