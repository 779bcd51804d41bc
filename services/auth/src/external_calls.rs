//! Calls of other systems that a committed change owes: mails with codes, and revocations at sign-in providers. Each is a row that is written
//! together with the change, and is sent at least once: it is claimed, tried, and deleted when it has succeeded. A mail is tried until its code
//! expires or the mail server refuses it for good; a revocation until it succeeds.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use sosohappy_common::crash_point;
use sosohappy_store::retrying;
use tokio::task::JoinSet;

use crate::app::{App, later};
use crate::error::Error;
use crate::mailer::{Mail, MailError};
use crate::providers::ProviderError;
use crate::resignations;
use crate::store::external_calls::{ExternalCall, Kind};

/// How late a call may be that nothing has woken.
const EVERY: Duration = Duration::from_millis(500);

/// How long a claimed call is left alone by other replicas: longer than an attempt takes.
const CLAIM: Duration = Duration::from_mins(1);

/// How long an attempt may take, all steps of it.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(45);

/// The pace of the attempts of one kind. Kinds have their own, so that a provider which does not answer holds up no mail.
struct Pace {
    /// Attempts of one replica at once.
    at_once: usize,
    /// After the first failure; doubled after each one.
    first_delay: Duration,
    longest_delay: Duration,
}

const fn pace(kind: Kind) -> Pace {
    match kind {
        // A person waits for the code, which expires.
        Kind::Mail => Pace {
            at_once: 8,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(30),
        },
        Kind::AppleRevocation | Kind::KakaoUnlink => Pace {
            at_once: 16,
            first_delay: Duration::from_secs(5),
            longest_delay: Duration::from_hours(1),
        },
    }
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("the payload cannot be decrypted: its key is missing in tokens.provider-keys")]
    Sealed,
    #[error("no answer in time")]
    TimedOut,
    #[error("it panicked")]
    Panicked,
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Mail(#[from] MailError),
}

impl AttemptError {
    /// Whether another attempt would fail as well.
    fn is_final(&self) -> bool {
        matches!(self, Self::Mail(MailError::Refused(_) | MailError::Invalid))
    }
}

pub fn spawn(app: &Arc<App>) {
    let lifecycle = &app.context.lifecycle;
    let app = app.clone();
    lifecycle.spawn("external-calls", async move {
        let draining = app.context.lifecycle.draining();
        let mut attempts = Kind::ALL.map(|kind| (kind, JoinSet::new()));
        loop {
            tokio::select! {
                () = draining.cancelled() => break,
                () = app.external_calls.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            for (kind, attempts) in &mut attempts {
                while let Some(finished) = attempts.try_join_next() {
                    finished?;
                }
                start(&app, *kind, attempts).await;
            }
        }
        // Calls in progress have their own time limits; a call that is cut off is tried again after its claim.
        for (_, mut attempts) in attempts {
            while let Some(finished) = attempts.join_next().await {
                finished?;
            }
        }
        Ok(())
    });
}

/// Starts attempts of the calls of a kind that are due, as many as the kind has places for.
async fn start(app: &Arc<App>, kind: Kind, attempts: &mut JoinSet<()>) {
    let free = pace(kind).at_once.saturating_sub(attempts.len());
    let claimed = claim(app, kind, free).await.unwrap_or_else(|error| {
        app.metrics.task_failures.with_label_values(&["external-calls"]).inc();
        tracing::warn!(
            task = "external-calls",
            error = &error as &dyn std::error::Error,
            "background task failed"
        );
        Vec::new()
    });
    // More may be due: the first attempt that ends makes place for the next one.
    let is_full = claimed.len() == free;
    for call in claimed {
        let app = app.clone();
        attempts.spawn(async move {
            attempt(&app, &call).await;
            if is_full {
                app.external_calls.notify_one();
            }
        });
    }
}

/// Claims calls that are due for this replica.
async fn claim(app: &App, kind: Kind, most: usize) -> Result<Vec<ExternalCall>, Error> {
    let mut claimed = Vec::new();
    if most == 0 {
        return Ok(claimed);
    }
    let now = app.now();
    for mut call in app
        .store
        .due_calls(kind, now, u32::try_from(most).unwrap_or(u32::MAX))
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
        match within_limits(perform(app, call)).await {
            Ok(()) => {
                crash_point("auth.call-performed");
                count("succeeded");
                finish(app, call).await
            }
            Err(error) if error.is_final() => {
                count("refused");
                tracing::warn!(
                    call = %call.id,
                    kind,
                    attempt = call.attempts,
                    error = &error as &dyn std::error::Error,
                    "external call refused; not retried"
                );
                finish(app, call).await
            }
            Err(error) => {
                count("failed");
                let delay = delay(call.kind, call.attempts);
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
                app.store.postpone_call(call, due_at).await.map_err(Error::from)
            }
        }
    };
    // The call stays claimed and is tried again: it may be performed twice, which every kind allows.
    if let Err(error) = attempted {
        app.metrics.task_failures.with_label_values(&["external-calls"]).inc();
        tracing::warn!(call = %call.id, kind, error = &error as &dyn std::error::Error, "failed to record external call");
    }
}

/// A panic is a failed attempt: else one call would end the process of each replica that tries it.
async fn within_limits(performed: impl Future<Output = Result<(), AttemptError>>) -> Result<(), AttemptError> {
    let performed = AssertUnwindSafe(performed).catch_unwind();
    match tokio::time::timeout(LONGEST_ATTEMPT, performed).await {
        Ok(outcome) => outcome.unwrap_or(Err(AttemptError::Panicked)),
        Err(_) => Err(AttemptError::TimedOut),
    }
}

async fn perform(app: &App, call: &ExternalCall) -> Result<(), AttemptError> {
    let payload = app
        .provider_tokens
        .open(&call.id.to_string(), &call.sealed)
        .ok_or(AttemptError::Sealed)?;
    match call.kind {
        Kind::Mail => {
            let mail = Mail::read(&payload).ok_or(MailError::Invalid)?;
            app.mailer.send(call.id, &mail).await?;
        }
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
        app.commit(tx).await?;
        crash_point("auth.call-finished");
        Ok(())
    })
    .await
}

fn delay(kind: Kind, attempts: u32) -> Duration {
    let pace = pace(kind);
    let doublings = attempts.saturating_sub(1).min(10);
    pace.first_delay.saturating_mul(1 << doublings).min(pace.longest_delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_bound() {
        let calls = |attempts| delay(Kind::AppleRevocation, attempts);
        assert_eq!(calls(1), Duration::from_secs(5));
        assert_eq!(calls(2), Duration::from_secs(10));
        assert_eq!(calls(10), Duration::from_mins(42) + Duration::from_secs(40));
        assert_eq!(calls(11), Duration::from_hours(1));
        assert_eq!(calls(u32::MAX), Duration::from_hours(1));
        let mails = |attempts| delay(Kind::Mail, attempts);
        assert_eq!(mails(1), Duration::from_secs(1));
        assert_eq!(mails(6), Duration::from_secs(30));
        assert_eq!(mails(u32::MAX), Duration::from_secs(30));
    }

    #[tokio::test]
    async fn an_attempt_that_panics_has_failed() {
        let panicked = within_limits(async { panic!("index 3 out of range") }).await;
        assert!(matches!(panicked, Err(AttemptError::Panicked)), "{panicked:?}");
        assert!(within_limits(async { Ok(()) }).await.is_ok());
    }

    #[test]
    fn an_attempt_ends_before_its_claim() {
        assert!(LONGEST_ATTEMPT < CLAIM);
    }
}
