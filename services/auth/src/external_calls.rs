//! Calls of other systems that a committed change owes: revocations at sign-in providers. Each is a row that is written together with the
//! change, and is sent at least once: it is claimed, tried, and deleted when it has succeeded.

use std::sync::Arc;
use std::time::Duration;

use sosohappy_store::retrying;
use tokio::task::JoinSet;

use crate::app::{App, later};
use crate::error::Error;
use crate::providers::ProviderError;
use crate::resignations;
use crate::store::external_calls::{ExternalCall, Kind};

/// How late a call may be that nothing has woken.
const EVERY: Duration = Duration::from_millis(500);

/// Attempts of one replica at once.
const AT_ONCE: usize = 32;

/// How long a claimed call is left alone by other replicas: longer than an attempt takes.
const CLAIM: Duration = Duration::from_mins(1);

/// After the first failure; doubled after each one.
const FIRST_DELAY: Duration = Duration::from_secs(5);

const LONGEST_DELAY: Duration = Duration::from_hours(1);

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("the payload cannot be decrypted: its key is missing in tokens.provider-keys")]
    Sealed,
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

pub fn spawn(app: &Arc<App>) {
    let lifecycle = &app.context.lifecycle;
    let app = app.clone();
    lifecycle.spawn("external-calls", async move {
        let draining = app.context.lifecycle.draining();
        let mut attempts = JoinSet::new();
        loop {
            tokio::select! {
                () = draining.cancelled() => break,
                () = app.external_calls.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            while let Some(finished) = attempts.try_join_next() {
                finished?;
            }
            let claimed = claim(&app, AT_ONCE - attempts.len()).await;
            for call in claimed.unwrap_or_else(|error| {
                app.metrics.task_failures.with_label_values(&["external-calls"]).inc();
                tracing::warn!(
                    task = "external-calls",
                    error = &error as &dyn std::error::Error,
                    "background task failed"
                );
                Vec::new()
            }) {
                let app = app.clone();
                attempts.spawn(async move { attempt(&app, &call).await });
            }
        }
        // Calls in progress have their own time limits; a call that is cut off is tried again after its claim.
        while let Some(finished) = attempts.join_next().await {
            finished?;
        }
        Ok(())
    });
}

/// Claims calls that are due for this replica.
async fn claim(app: &App, most: usize) -> Result<Vec<ExternalCall>, Error> {
    let mut claimed = Vec::new();
    if most == 0 {
        return Ok(claimed);
    }
    let now = app.now();
    for mut call in app
        .store
        .due_calls(now, u32::try_from(most).unwrap_or(u32::MAX))
        .await?
    {
        if app.store.claim_call(&call, later(now, CLAIM)).await? {
            call.attempts += 1;
            claimed.push(call);
        }
    }
    Ok(claimed)
}

async fn attempt(app: &App, call: &ExternalCall) {
    let kind = call.kind.as_str();
    let count = |outcome| app.metrics.external_calls.with_label_values(&[kind, outcome]).inc();
    let attempted = if call.expires_at.is_some_and(|expires_at| expires_at <= app.now()) {
        count("expired");
        tracing::warn!(call = %call.id, kind, attempts = call.attempts - 1, "external call expired");
        finish(app, call).await
    } else {
        match perform(app, call).await {
            Ok(()) => {
                count("succeeded");
                finish(app, call).await
            }
            Err(error) => {
                count("failed");
                let delay = delay(call.attempts);
                let age = app.now().duration_since(call.created_at).as_secs();
                tracing::warn!(
                    call = %call.id,
                    kind,
                    attempt = call.attempts,
                    age_seconds = age,
                    error = &error as &dyn std::error::Error,
                    ?delay,
                    "external call failed; retrying"
                );
                let due_at = later(app.now(), delay);
                app.store.postpone_call(call.id, due_at).await.map_err(Error::from)
            }
        }
    };
    // The call stays claimed and is tried again: it may be performed twice, which every kind allows.
    if let Err(error) = attempted {
        app.metrics.task_failures.with_label_values(&["external-calls"]).inc();
        tracing::warn!(call = %call.id, kind, error = &error as &dyn std::error::Error, "failed to record external call");
    }
}

async fn perform(app: &App, call: &ExternalCall) -> Result<(), AttemptError> {
    let payload = app
        .provider_tokens
        .open(&call.id.to_string(), &call.sealed)
        .ok_or(AttemptError::Sealed)?;
    match call.kind {
        Kind::AppleRevocation => app.providers.revoke_apple(&payload, app.now()).await?,
        Kind::KakaoUnlink => app.providers.unlink_kakao(&payload).await?,
    }
    Ok(())
}

/// Deletes a call; the resignation that waited for it has its receipt.
async fn finish(app: &App, call: &ExternalCall) -> Result<(), Error> {
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        match call.resignation {
            Some(resignation) => resignations::finish_call(app, tx.as_mut(), resignation, call).await?,
            None => tx.delete_call(call.id).await?,
        }
        app.commit(tx).await
    })
    .await
}

fn delay(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(10);
    FIRST_DELAY.saturating_mul(1 << doublings).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_an_hour() {
        assert_eq!(delay(1), Duration::from_secs(5));
        assert_eq!(delay(2), Duration::from_secs(10));
        assert_eq!(delay(10), Duration::from_mins(42) + Duration::from_secs(40));
        assert_eq!(delay(11), LONGEST_DELAY);
        assert_eq!(delay(u32::MAX), LONGEST_DELAY);
    }
}
