//! Leaving for good: what is here goes at once, the other services erase what they hold and say so, and what stays is a proof
//! that names nobody.

use sosohappy_common::Account;
use sosohappy_events::types::{AccountErased, AccountResigned, NicknameSet, Relation, RelationChanged};
use sosohappy_events::{Envelope, EventId};
use sosohappy_store::{Timer, retrying};

use crate::app::{App, later};
use crate::domain::stamp;
use crate::error::Error;
use crate::sessions;
use crate::store::{Resignation, Transaction};

/// Fires when a resignation has waited too long for its receipts; its key is the event id.
pub const TIMER: &str = "resignation";

pub async fn resign(app: &App, account: &Account) -> Result<(), Error> {
    retrying(|| resign_once(app, account)).await
}

async fn resign_once(app: &App, account: &Account) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let person = tx.person(account).await?.ok_or(Error::UnknownAccount)?;
    let sessions = tx.sessions_of(account).await?;
    for session in &sessions {
        sessions::close(app, tx.as_mut(), session).await?;
    }
    let blocks = tx.blocks_around(account).await?;
    // Not before anything the person has done or anybody has done to them, and what is done after signing up again is later still.
    let at = sessions
        .iter()
        .map(|session| session.stamped_at)
        .chain(blocks.iter().map(|block| block.since))
        .fold(person.changed_at, Ord::max);
    let at = stamp::after(at, app.now());

    for block in blocks {
        let unblocked = RelationChanged {
            relation: Relation::Unblock,
            account: block.account,
            other: block.other,
        };
        app.enqueue(tx.as_mut(), unblocked, at).await?;
    }
    if let Some(image) = person.image {
        tx.discard_image(image, app.now()).await?;
    }
    tx.delete_person(account).await?;

    let nickname = person.nickname.as_str().to_owned();
    let mut resigned = Envelope::new(
        AccountResigned {
            account: account.clone(),
            nickname: nickname.clone(),
        },
        &app.context,
    );
    resigned.meta.occurred_at = at;
    let resignation = Resignation {
        id: resigned.meta.id,
        account: account.clone(),
        nickname,
        resigned_at: at,
    };
    tx.insert_resignation(&resignation, &app.hasher.hash(account)).await?;
    tx.enqueue(&resigned.to_outgoing(), app.now()).await?;
    app.enqueue(
        tx.as_mut(),
        NicknameSet {
            account: account.clone(),
            nickname: None,
        },
        at,
    )
    .await?;
    sessions::tell_devices(app, tx.as_mut(), account, at).await?;
    remind_later(app, tx.as_mut(), resignation.id).await?;
    app.commit(tx).await
}

/// Publishes a resignation again that some service has not acknowledged: the same event, which those that have applied it know.
pub async fn remind(app: &App, tx: &mut dyn Transaction, id: EventId) -> Result<(), Error> {
    let found = tx.unfinished_resignation(id).await?;
    if !tx.take_timer(TIMER, &id.to_string(), app.now()).await? {
        return Ok(());
    }
    let Some(resignation) = found else { return Ok(()) };
    let missing = missing(app, &tx.receipts(id).await?);
    if missing.is_empty() {
        return complete(app, tx, id).await;
    }
    tracing::warn!(resignation = %id, ?missing, "resignation receipts missing; publishing resignation again");
    let Resignation {
        account,
        nickname,
        resigned_at,
        ..
    } = resignation;
    let mut resigned = Envelope::new(AccountResigned { account, nickname }, &app.context);
    resigned.meta.id = id;
    resigned.meta.occurred_at = resigned_at;
    tx.enqueue(&resigned.to_outgoing(), app.now()).await?;
    remind_later(app, tx, id).await
}

/// A service has erased what it held. False when there never was such a resignation.
pub async fn acknowledge(app: &App, receipt: &AccountErased) -> Result<bool, Error> {
    retrying(|| acknowledge_once(app, receipt)).await
}

async fn acknowledge_once(app: &App, receipt: &AccountErased) -> Result<bool, Error> {
    let id = receipt.resignation;
    let mut tx = app.store.begin().await?;
    if tx.unfinished_resignation(id).await?.is_none() {
        return Ok(tx.is_resignation(id).await?);
    }
    tx.insert_receipt(id, &receipt.service, app.now()).await?;
    if missing(app, &tx.receipts(id).await?).is_empty() {
        complete(app, tx.as_mut(), id).await?;
    }
    app.commit(tx).await?;
    Ok(true)
}

async fn complete(app: &App, tx: &mut dyn Transaction, id: EventId) -> Result<(), Error> {
    tx.complete_resignation(id, app.now()).await?;
    tx.clear_timer(TIMER, &id.to_string()).await?;
    tracing::info!(resignation = %id, "resignation complete: every service acknowledged erasure");
    Ok(())
}

fn missing(app: &App, receipts: &[String]) -> Vec<String> {
    let settings = app.settings.get();
    settings
        .resignation
        .services
        .iter()
        .filter(|service| !receipts.contains(service))
        .cloned()
        .collect()
}

async fn remind_later(app: &App, tx: &mut dyn Transaction, id: EventId) -> Result<(), Error> {
    let fire_at = later(app.now(), app.settings.get().resignation.retry_after);
    Ok(tx
        .set_timer(&Timer {
            kind: TIMER.to_owned(),
            key: id.to_string(),
            fire_at,
        })
        .await?)
}
