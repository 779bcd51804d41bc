//! Leaving for good: what is here is deleted at once, the other services erase what they hold and say so, and what stays is a proof
//! without personal data.

pub mod lost;

use std::time::Duration;

use sosohappy_common::{Account, crash_point};
use sosohappy_events::types::{AccountErased, AccountResigned, AccountStateChanged, NicknameSet, State};
use sosohappy_events::{Envelope, EventId, Topic};
use sosohappy_store::{Timer, retrying};
use tokio::time::Instant;

use crate::app::{App, later};
use crate::domain::person::LinkedIdentity;
use crate::domain::stamp;
use crate::error::Error;
use crate::store::external_calls::ExternalCall;
use crate::store::{Resignation, ResignationProof, Tombstone, Transaction};
use crate::{identities, moderation, nicknames, relations, sessions};

/// Fires when a resignation has waited too long for its receipts; its key is the event id.
pub const TIMER: &str = "resignation";

/// Withheld tombstones that are looked up at once.
const TOMBSTONES: u32 = 100;

pub async fn resign(app: &App, account: &Account) -> Result<(), Error> {
    let proof = retrying(|| resign_once(app, account)).await?;
    if let Some(ledger) = &app.ledger
        && let Err(error) = ledger.append(&[proof]).await
    {
        tracing::error!(%error, "the ledger lacks a resignation until auth starts again");
    }
    Ok(())
}

/// How often a sign-in looks whether the erasure is complete.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until every service has erased what an account of that address had before it resigned, so that who signs up again finds none of it;
/// at most for `resignation.sign-up-wait`, for a service may be unavailable for long.
pub async fn wait_for_erasure(app: &App, account: &Account) -> Result<(), Error> {
    let deadline = Instant::now() + app.settings.get().resignation.sign_up_wait;
    let hash = app.hasher.hash(account);
    loop {
        let pending = app.store.pending_resignations_of(&hash).await?;
        // A call of a sign-in provider that is owed does not count: the services have erased all the same.
        if pending.iter().all(|one| missing(app, &one.acknowledged).is_empty()) {
            break;
        }
        if Instant::now() >= deadline {
            tracing::warn!("sign-up continues before the erasure of a resignation is complete");
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn resign_once(app: &App, account: &Account) -> Result<ResignationProof, Error> {
    let mut tx = app.store.begin().await?;
    let person = tx.person(account).await?.ok_or(Error::UnknownAccount)?;
    let sessions = tx.sessions_of(account).await?;
    for session in &sessions {
        sessions::close(app, tx.as_mut(), session).await?;
    }
    let blocks = tx.blocks_around(account).await?;
    let follows = tx.follows_around(account).await?;
    // Not before anything the person has done or anybody has done to them, and what is done after signing up again is later still.
    let at = sessions
        .iter()
        .map(|session| session.stamped_at)
        .chain(blocks.iter().map(|block| block.since))
        .fold(person.changed_at, Ord::max);
    let at = stamp::after(at, app.now());

    let blocks = blocks.into_iter().map(|block| (block.account, block.other)).collect();
    relations::end_all(app, tx.as_mut(), blocks, follows, at).await?;
    if let Some(image) = person.image {
        tx.discard_image(image, app.now()).await?;
    }
    let identities = LinkedIdentity::all_of(&person, tx.identities_of(account).await?);
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
    identities::disconnect(app, tx.as_mut(), account, &identities, Some(resignation.id)).await?;
    if tx.delete_suspension(account).await? {
        // A later account of this address must not begin suspended.
        let state = State::Restored;
        app.enqueue(
            tx.as_mut(),
            AccountStateChanged {
                account: account.clone(),
                state,
            },
            at,
        )
        .await?;
        tx.clear_timer(moderation::TIMER, account.as_str()).await?;
    }
    tx.delete_person(account).await?;
    crash_point("auth.resign-deleted");
    let hash = app.hasher.hash(account);
    tx.insert_resignation(&resignation, &hash).await?;
    tx.note_erasure(app.now()).await?;
    tx.enqueue(&resigned.to_outgoing(), app.now()).await?;
    if app.mixed.allows_null_values(Topic::EmailAndNickname) {
        app.enqueue(tx.as_mut(), NicknameSet::forgotten(account.clone()), at)
            .await?;
    } else {
        tx.withhold_tombstone(Topic::EmailAndNickname, account, at).await?;
    }
    sessions::tell_devices(app, tx.as_mut(), account, None, at).await?;
    if person.profile_set {
        // A Spring service erases by nickname when it reads the resignation: until then not even the same person may have it again.
        let bearer = app.mixed.may_repeat_resignations().then_some(&hash);
        let until = later(app.now(), app.settings.get().nicknames.reservation);
        nicknames::reserve(tx.as_mut(), &person.nickname, bearer, until).await?;
    }
    if is_complete(app, tx.as_mut(), resignation.id, &[]).await? {
        complete(app, tx.as_mut(), resignation.id, &[]).await?;
    } else {
        remind_later(app, tx.as_mut(), resignation.id).await?;
    }
    crash_point("auth.resign-written");
    app.commit(tx).await?;
    crash_point("auth.resign-committed");
    app.external_calls.notify_one();
    Ok(ResignationProof {
        account_hash: hash,
        resigned_at: at,
    })
}

/// Publishes a resignation again that some service has not acknowledged: the same event, which those that have applied it know.
pub async fn remind(app: &App, tx: &mut dyn Transaction, id: EventId) -> Result<(), Error> {
    let found = tx.unfinished_resignation(id).await?;
    if !tx.take_timer(TIMER, &id.to_string(), app.now()).await? {
        return Ok(());
    }
    let Some(resignation) = found else { return Ok(()) };
    let receipts = tx.receipts(id).await?;
    let missing = missing(app, &receipts);
    if missing.is_empty() {
        let pending = tx.pending_calls(id).await?;
        if pending.is_empty() {
            return complete(app, tx, id, &receipts).await;
        }
        tracing::warn!(resignation = %id, ?pending, "resignation waits for calls of sign-in providers");
        return remind_later(app, tx, id).await;
    }
    // A Spring service erases by nickname at each copy: an account that has the nickname by then would lose everything.
    if !app.mixed.may_repeat_resignations() {
        tracing::warn!(resignation = %id, ?missing, "resignation receipts missing; not published again while a Spring service reads it");
        return remind_later(app, tx, id).await;
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
    crash_point(&format!("auth.receipt-of-{}", receipt.service));
    let receipts = tx.receipts(id).await?;
    let is_last = is_complete(app, tx.as_mut(), id, &receipts).await?;
    if is_last {
        complete(app, tx.as_mut(), id, &receipts).await?;
    }
    app.commit(tx).await?;
    crash_point(if is_last {
        "auth.proof-committed"
    } else {
        "auth.receipt-committed"
    });
    Ok(true)
}

/// Deletes a call that has succeeded, which the resignation waited for, and writes its receipt.
pub async fn finish_call(app: &App, tx: &mut dyn Transaction, id: EventId, call: &ExternalCall) -> Result<(), Error> {
    // Locked first: of a receipt and a call that finish at once, the later one finds nothing missing.
    let unfinished = tx.unfinished_resignation(id).await?;
    tx.delete_call(call.id).await?;
    if unfinished.is_none() {
        return Ok(());
    }
    tx.insert_receipt(id, call.kind.as_str(), app.now()).await?;
    let receipts = tx.receipts(id).await?;
    if is_complete(app, tx, id, &receipts).await? {
        complete(app, tx, id, &receipts).await?;
    }
    Ok(())
}

/// The proof names the Spring services, which acknowledge nothing.
async fn complete(app: &App, tx: &mut dyn Transaction, id: EventId, receipts: &[String]) -> Result<(), Error> {
    let mut not_awaited = app.mixed.receipts(&app.settings.get().resignation.services).never;
    not_awaited.retain(|service| !receipts.contains(service));
    tx.complete_resignation(id, app.now(), &not_awaited).await?;
    crash_point("auth.proof-written");
    tx.note_erasure(app.now()).await?;
    tx.clear_timer(TIMER, &id.to_string()).await?;
    if not_awaited.is_empty() {
        tracing::info!(resignation = %id, "resignation complete: every service acknowledged erasure");
    } else {
        tracing::info!(resignation = %id, ?not_awaited, "resignation complete: Spring services acknowledge nothing");
    }
    Ok(())
}

/// Returns the services that have not acknowledged.
pub fn missing(app: &App, receipts: &[String]) -> Vec<String> {
    let mut missing = app.mixed.receipts(&app.settings.get().resignation.services).awaited;
    missing.retain(|service| !receipts.contains(service));
    missing
}

/// Whether every service has acknowledged, and every call of a sign-in provider has succeeded.
async fn is_complete(app: &App, tx: &mut dyn Transaction, id: EventId, receipts: &[String]) -> Result<bool, Error> {
    Ok(missing(app, receipts).is_empty() && tx.pending_calls(id).await?.is_empty())
}

/// Publishes the tombstones that were withheld, once no Spring service reads their topics any more.
pub async fn release_tombstones(app: &App) -> Result<(), Error> {
    for topic in [Topic::EmailAndNickname, Topic::DeviceToken] {
        while app.mixed.allows_null_values(topic) {
            let withheld = app.store.withheld_tombstones(topic, TOMBSTONES).await?;
            for tombstone in &withheld {
                retrying(|| release(app, topic, tombstone)).await?;
            }
            if withheld.len() < TOMBSTONES as usize {
                break;
            }
        }
    }
    Ok(())
}

/// An account that signed up again since has records of its own, which the tombstone would delete: it gets none.
async fn release(app: &App, topic: Topic, tombstone: &Tombstone) -> Result<(), Error> {
    let account = &tombstone.account;
    let mut tx = app.store.begin().await?;
    let person = tx.person(account).await?;
    if !tx.take_tombstone(topic, account).await? {
        return Ok(());
    }
    let at = tombstone.occurred_at;
    if topic == Topic::DeviceToken {
        let open = tx.devices_of(account).await?;
        if open.devices.is_empty() {
            app.enqueue(tx.as_mut(), open.published(account), at).await?;
        }
    } else if person.is_none() {
        app.enqueue(tx.as_mut(), NicknameSet::forgotten(account.clone()), at)
            .await?;
    }
    app.commit(tx).await
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
