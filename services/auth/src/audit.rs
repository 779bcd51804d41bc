//! The audit: one entry for each decision of a moderator, an operator or the service itself, chained by digests.

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::EventId;

use crate::app::App;
use crate::domain::moderation::AuditEntry;
use crate::error::Error;
use crate::store::Transaction;

/// A decision that is recorded.
pub struct Decision<'a> {
    pub action: &'static str,
    /// `None` for an operator or the service itself.
    pub actor: Option<&'a Account>,
    pub target: &'a Account,
    pub subject: String,
    pub reason: &'static str,
    pub note: &'a str,
}

/// As [`record`], of a decision with an order to the service that holds the content: the entry is `ordered` until that service has answered.
pub async fn record_order(
    app: &App,
    tx: &mut dyn Transaction,
    decision: &Decision<'_>,
    order: Option<EventId>,
    at: Timestamp,
) -> Result<(), Error> {
    let entry = record(app, tx, decision, at).await?;
    if let Some(order) = order {
        tx.insert_order(order, entry).await?;
    }
    Ok(())
}

/// Adds the entry of a decision to the audit, in the transaction of its effect and as its last step: the end of the audit stays locked. Returns its
/// number.
pub async fn record(app: &App, tx: &mut dyn Transaction, decision: &Decision<'_>, at: Timestamp) -> Result<i64, Error> {
    for account in [Some(decision.target), decision.actor].into_iter().flatten() {
        tx.name_audited(&app.hasher.hash(account), account).await?;
    }
    let entry = append(app, tx, decision, at).await?;
    if !decision.note.is_empty() {
        tx.insert_audit_note(entry, decision.target, decision.note).await?;
    }
    Ok(entry)
}

/// As [`record`], without the accounts by name and the note: the entry itself holds no personal data.
pub async fn append(app: &App, tx: &mut dyn Transaction, decision: &Decision<'_>, at: Timestamp) -> Result<i64, Error> {
    let actor = decision.actor.map(|actor| app.hasher.hash(actor).to_vec());
    let note = (!decision.note.is_empty()).then(|| app.hasher.hash_note(decision.note).to_vec());
    let head = tx.lock_audit().await?;
    let entry = AuditEntry {
        entry: head.entry + 1,
        at,
        action: decision.action.to_owned(),
        actor: actor.unwrap_or_default(),
        target: app.hasher.hash(decision.target).to_vec(),
        subject: decision.subject.clone(),
        reason: decision.reason.to_owned(),
        note: note.unwrap_or_default(),
    };
    tx.insert_audit(&entry, &entry.digest(&head.digest)).await?;
    Ok(entry.entry)
}
