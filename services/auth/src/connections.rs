//! The connection log: who connected when and from where, kept for as long as law asks (in Korea three months), also after a resignation. Off by
//! default. Entries are encrypted (`tokens.provider-keys`) and found by a keyed hash of the account; each opening is in the audit.

use std::net::IpAddr;

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use sosohappy_common::Account;
use sosohappy_common::http::ClientAddress;
use sosohappy_store::retrying;
use utoipa::ToSchema;

use crate::app::{App, later};
use crate::audit::{self, Decision};
use crate::domain::moderation::{Remark, action};
use crate::error::Error;
use crate::store::Transaction;
use crate::store::connections::SealedConnection;

/// Entries that are shown of one account, the newest ones.
const MOST_SHOWN: u32 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum ConnectionKind {
    SignIn,
    Reissue,
}

/// An entry of the log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub kind: ConnectionKind,
    /// The client's address, of IPv6 its network of 64 bits; null where it is not known.
    #[schema(value_type = Option<String>, example = "192.0.2.1")]
    pub address: Option<IpAddr>,
}

/// Adds an entry in the transaction of the connection, where the log is kept.
pub async fn record(
    app: &App,
    tx: &mut dyn Transaction,
    account: &Account,
    kind: ConnectionKind,
    client: Option<&ClientAddress>,
) -> Result<(), Error> {
    let settings = app.settings.get().connection_log;
    if !settings.enabled {
        return Ok(());
    }
    let connection = Connection {
        at: app.now(),
        kind,
        address: client.map(|client| client.ip()),
    };
    let account_hash = app.hasher.hash(account);
    let entropy = app.context.entropy.as_ref();
    let text = serde_json::to_string(&connection).expect("a connection can be written as JSON");
    let sealed = SealedConnection {
        entry: entropy.hex(16),
        account_hash,
        sealed: app.provider_tokens.seal(&bound_to(&account_hash), &text, entropy),
        expires_at: later(connection.at, settings.retention),
    };
    Ok(tx.insert_connection(&sealed).await?)
}

/// What an operator reads of an account.
pub struct Opened {
    pub connections: Vec<Connection>,
    /// Entries whose key is missing in `tokens.provider-keys`.
    pub unreadable: usize,
}

/// Opens the log of an account, which may have resigned, after the audit has an entry of it.
pub async fn open(app: &App, account: &Account, note: &Remark) -> Result<Opened, Error> {
    let account = note_opening(app, account, note).await?;
    let account_hash = app.hasher.hash(&account);
    let sealed = app.store.connections_of(&account_hash, app.now(), MOST_SHOWN).await?;
    let mut opened = Opened {
        connections: Vec::with_capacity(sealed.len()),
        unreadable: 0,
    };
    for sealed in &sealed {
        let text = app.provider_tokens.open(&bound_to(&account_hash), sealed);
        match text.and_then(|text| serde_json::from_str(text.expose_secret()).ok()) {
            Some(connection) => opened.connections.push(connection),
            None => opened.unreadable += 1,
        }
    }
    Ok(opened)
}

/// Records that an operator opens the connection log of an account; returns the account as it is stored. One that has resigned leaves its keyed
/// hash only.
async fn note_opening(app: &App, account: &Account, note: &Remark) -> Result<Account, Error> {
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        let person = tx.person_at(account).await?;
        let stored = person.as_ref().map_or(account, |person| &person.account);
        let decision = Decision {
            action: action::OPEN_CONNECTION_LOG,
            actor: None,
            target: stored,
            subject: String::new(),
            reason: "",
            note: note.as_str(),
        };
        if person.is_some() {
            audit::record(app, tx.as_mut(), &decision, app.now()).await?;
        } else {
            audit::append(app, tx.as_mut(), &decision, app.now()).await?;
        }
        let stored = stored.clone();
        tx.commit().await?;
        Ok(stored)
    })
    .await
}

/// Deletes entries that have expired.
pub async fn forget(app: &App) -> Result<(), Error> {
    Ok(app.store.forget_connections(app.now()).await?)
}

fn bound_to(account_hash: &[u8; 32]) -> String {
    format!("connection {}", hex::encode(account_hash))
}
