//! The queue of mails with codes: a mail is queued in the transaction that makes the code, and delivered until the code expires.
//!
//! A mail is leased while it is sent, so that the process may die at any point: it is sent again then, under the same `Message-ID`.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use sosohappy_store::{Timer, retrying};
use tokio::task::JoinSet;

use crate::app::{App, later};
use crate::domain::email::{Address, EmailCode};
use crate::error::Error;
use crate::mailer::MailError;
use crate::store::Transaction;
use crate::store::email::QueuedMail;

/// Fires when a mail is to be sent; its key is the mail.
pub const TIMER: &str = "mail";

/// Mails that are sent at one time.
const BATCH: u32 = 8;

/// After this long a mail that a replica has begun to send is sent again: longer than all steps of one take.
const LEASE: Duration = Duration::from_mins(1);

/// Between two attempts: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Queues a mail with a code; it is sent after the commit.
pub async fn enqueue(
    app: &App,
    tx: &mut dyn Transaction,
    to: &Address,
    code: &EmailCode,
    expires_at: jiff::Timestamp,
) -> Result<(), Error> {
    let entropy = app.context.entropy.as_ref();
    let mail = QueuedMail {
        id: entropy.hex(16),
        account: to.account.clone(),
        sealed: app.provider_tokens.seal(to.account.as_str(), code.expose(), entropy),
        attempts: 0,
        expires_at,
    };
    tx.set_mail(&mail).await?;
    set_timer(tx, &mail.id, app.now()).await
}

/// Sends what is due. A mail that cannot be sent now is sent later; the others go on.
pub async fn send_due(app: &Arc<App>) -> Result<(), Error> {
    let draining = app.context.lifecycle.draining();
    loop {
        let due = app.store.due_timers(TIMER, app.now(), BATCH).await?;
        let is_last = due.len() < BATCH as usize;
        let mut sending = JoinSet::new();
        for timer in due {
            let app = app.clone();
            sending.spawn(async move { deliver(&app, &timer.key).await });
        }
        while let Some(sent) = sending.join_next().await {
            sent.map_err(Error::hashing)??;
        }
        if is_last || draining.is_cancelled() {
            return Ok(());
        }
    }
}

async fn deliver(app: &App, id: &str) -> Result<(), Error> {
    let Some(mail) = retrying(|| lease(app, id)).await? else {
        return Ok(());
    };
    let code = app.provider_tokens.open(mail.account.as_str(), &mail.sealed);
    let sent = match code {
        Some(code) => app.mailer.send(&mail, &EmailCode::typed(code.expose_secret())).await,
        // The key was taken away: the person asks for another code.
        None => Err(MailError::Invalid),
    };
    let outcome = match &sent {
        Ok(()) => "sent",
        Err(MailError::Unavailable(_)) => "retried",
        Err(MailError::Refused(_) | MailError::Invalid) => "refused",
    };
    app.metrics.mails.with_label_values(&[outcome]).inc();
    if let Err(error) = &sent {
        tracing::warn!(%error, attempt = mail.attempts, outcome, "mail delivery failed");
    }
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        let present = tx.mail(id).await?;
        if present.is_none_or(|present| present.attempts != mail.attempts) {
            // The lease has ended, and another replica has taken the mail.
            return Ok(());
        }
        if matches!(sent, Err(MailError::Unavailable(_))) {
            set_timer(tx.as_mut(), id, later(app.now(), pause(mail.attempts))).await?;
        } else {
            tx.delete_mail(id).await?;
            tx.clear_timer(TIMER, id).await?;
        }
        Ok(tx.commit().await?)
    })
    .await
}

/// Takes a due mail for [`LEASE`]; none where another replica was quicker or its code has expired.
async fn lease(app: &App, id: &str) -> Result<Option<QueuedMail>, Error> {
    let mut tx = app.store.begin().await?;
    let found = tx.mail(id).await?;
    if !tx.take_timer(TIMER, id, app.now()).await? {
        return Ok(None);
    }
    let live = found.filter(|mail| mail.expires_at > app.now());
    if let Some(mut mail) = live {
        mail.attempts += 1;
        tx.set_mail(&mail).await?;
        set_timer(tx.as_mut(), id, later(app.now(), LEASE)).await?;
        tx.commit().await?;
        return Ok(Some(mail));
    }
    tx.delete_mail(id).await?;
    tx.commit().await?;
    app.metrics.mails.with_label_values(&["expired"]).inc();
    tracing::warn!("mail not delivered before its code expired");
    Ok(None)
}

fn pause(attempts: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(LAST_PAUSE)
}

async fn set_timer(tx: &mut dyn Transaction, id: &str, fire_at: jiff::Timestamp) -> Result<(), Error> {
    let timer = Timer {
        kind: TIMER.to_owned(),
        key: id.to_owned(),
        fire_at,
    };
    Ok(tx.set_timer(&timer).await?)
}
