use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use sosohappy_common::Account;
use sosohappy_events::types::SessionId;
use sosohappy_store::StoreError;

use super::pushes::optional;
use super::{DEVICES, MARKS, MongoStore, number, text};
use crate::domain::{Language, OwnDevice, PushDevice, Registration};
use crate::store::{DeviceChange, DeviceList, Devices, MOST_DEVICES, broken, own_device, session_key};

#[async_trait]
impl Devices for MongoStore {
    async fn change(&self, change: &DeviceChange) -> Result<(), StoreError> {
        let account = &change.account;
        let at = change.at.as_millisecond();
        let devices = self.collection(DEVICES);
        if change.token.is_none() && change.session.is_none() {
            self.mark(account, "devices_forgotten_until", change.at).await?;
            let mut up_to = authorized("$lte", at);
            up_to.insert("account", account.as_str());
            devices.delete_many(up_to).await?;
            return Ok(());
        }

        let id = id_of(account, &session_key(change.session));
        let state = doc! { "account": account.as_str(), "token": change.token.as_deref(), "changed_at": at };
        let older = doc! { "_id": &id, "changed_at": { "$lt": at } };
        let update = doc! { "$set": state, "$max": { "seen_at": at } };
        if self.upsert(DEVICES, older, update).await? && self.are_devices_forgotten(account, change.at).await? {
            devices.delete_one(doc! { "_id": &id, "changed_at": at }).await?;
            return Ok(());
        }
        // Also when nothing was written just now: a crash may have come between the two writes.
        if let Some(token) = &change.token {
            self.leave_to_the_last_owner(token).await?;
        }
        Ok(())
    }

    async fn list(&self, list: &DeviceList) -> Result<(), StoreError> {
        let (account, at) = (list.account.as_str(), list.at.as_millisecond());
        let newest = doc! {
            "_id": list.account.fingerprint(),
            "$or": [{ "devices_listed_at": null }, { "devices_listed_at": { "$lte": at } }],
        };
        // The mark comes first: a registration that is written meanwhile finds it.
        let state = doc! { "devices_listed_at": at, "open_sessions": list.open_sessions() };
        let mark = doc! { "$set": state, "$max": { "marked_at": at } };
        if !self.upsert(MARKS, newest, mark).await? {
            return Ok(());
        }
        let ids: Vec<String> = list.session_keys().map(|key| id_of(&list.account, &key)).collect();
        let mut gone = authorized("$lt", at);
        gone.extend(doc! { "account": account, "_id": { "$nin": ids } });
        let removed = doc! { "$set": { "token": null }, "$max": { "changed_at": at } };
        self.collection(DEVICES).update_many(gone, removed).await?;
        for change in list.changes() {
            self.change(&change).await?;
        }
        Ok(())
    }

    async fn register(&self, registration: &Registration) -> Result<bool, StoreError> {
        let id = id_of(&registration.account, &session_key(Some(registration.session)));
        let at = registration.at.as_millisecond();
        let authorized_at = registration.authorized_at.as_millisecond();
        let update = doc! {
            "$set": {
                "account": registration.account.as_str(),
                "token": &registration.token,
                "language": registration.language.as_str(),
                "platform": registration.platform.as_str(),
                "seen_at": at,
                "authorized_at": authorized_at,
            },
            "$max": { "changed_at": at },
        };
        self.upsert(DEVICES, doc! { "_id": &id }, update).await?;
        // A list or an erasure marks first: either the mark is seen here, or the device is seen there.
        if self.is_closed(registration).await? {
            let written = doc! { "_id": id, "authorized_at": { "$lte": authorized_at } };
            self.collection(DEVICES).delete_one(written).await?;
            return Ok(false);
        }
        self.leave_to_the_last_owner(&registration.token).await?;
        Ok(true)
    }

    async fn remove(&self, account: &Account, session: Option<SessionId>, now: Timestamp) -> Result<bool, StoreError> {
        // The document stays, so that a list of auth, which still has the token, does not bring it back.
        let with_token = doc! { "_id": id_of(account, &session_key(session)), "token": { "$ne": null } };
        let removed = doc! { "$set": { "token": null }, "$max": { "changed_at": now.as_millisecond() } };
        let updated = self.collection(DEVICES).update_one(with_token, removed).await?;
        Ok(updated.matched_count > 0)
    }

    async fn own(&self, account: &Account) -> Result<Vec<OwnDevice>, StoreError> {
        let with_token = doc! { "account": account.as_str(), "token": { "$ne": null } };
        let mut found = self.collection(DEVICES).find(with_token).await?;
        let mut devices = Vec::new();
        while let Some(device) = found.try_next().await? {
            let id = text(&device, "_id")?;
            let session = id.rsplit_once(SEPARATOR).map_or("", |(_, session)| session);
            let seen_at = number(&device, "seen_at").or_else(|_| number(&device, "changed_at"))?;
            let (platform, language) = (optional(&device, "platform"), optional(&device, "language"));
            devices.push(own_device(session, platform.as_deref(), language.as_deref(), seen_at)?);
        }
        devices.sort_by_key(|device| std::cmp::Reverse(device.seen_at));
        Ok(devices)
    }

    async fn seen(&self, sessions: &[(Account, SessionId)], now: Timestamp) -> Result<(), StoreError> {
        let ids = sessions
            .iter()
            .map(|(account, session)| id_of(account, &session_key(Some(*session))));
        let seen = doc! { "$max": { "seen_at": now.as_millisecond() } };
        self.collection(DEVICES)
            .update_many(doc! { "_id": { "$in": ids.collect::<Vec<_>>() } }, seen)
            .await?;
        Ok(())
    }

    async fn token_of(&self, account: &Account, session: SessionId) -> Result<Option<String>, StoreError> {
        let id = doc! { "_id": id_of(account, &session_key(Some(session))) };
        let found = self.collection(DEVICES).find_one(id).await?;
        Ok(found.and_then(|device| optional(&device, "token")))
    }

    async fn of(&self, account: &Account) -> Result<Vec<PushDevice>, StoreError> {
        let with_token = doc! { "account": account.as_str(), "token": { "$ne": null } };
        let newest_first = doc! { "changed_at": -1, "token": 1 };
        let mut found = self.collection(DEVICES).find(with_token).sort(newest_first).await?;
        let mut devices: Vec<PushDevice> = Vec::new();
        while devices.len() < MOST_DEVICES
            && let Some(device) = found.try_next().await?
        {
            let token = text(&device, "token")?;
            if !devices.iter().any(|known| known.token == token) {
                devices.push(PushDevice {
                    token: token.to_owned(),
                    language: optional(&device, "language")
                        .as_deref()
                        .map(Language::of_tag)
                        .unwrap_or_default(),
                });
            }
        }
        Ok(devices)
    }

    async fn forget(&self, token: &str, since: Option<Timestamp>) -> Result<(), StoreError> {
        let since = since.unwrap_or(Timestamp::MAX).as_millisecond();
        let no_token = doc! { "$set": { "token": null } };
        self.collection(DEVICES)
            .update_many(doc! { "token": token, "changed_at": { "$lte": since } }, no_token)
            .await?;
        Ok(())
    }
}

/// Between account and session in an `_id`.
const SEPARATOR: char = '\u{1f}';

fn id_of(account: &Account, session: &str) -> String {
    format!("{}{SEPARATOR}{session}", account.as_str())
}

/// The condition on the time from which a device counts: when its access token was issued if it registered itself, else when auth published
/// it. Both are by auth's clock.
pub(super) fn authorized(comparison: &str, at: i64) -> Document {
    let mut than = Document::new();
    than.insert(comparison, at);
    let either = [
        doc! { "authorized_at": than.clone() },
        doc! { "authorized_at": null, "changed_at": than },
    ];
    doc! { "$or": either.as_slice() }
}

impl MongoStore {
    /// Returns whether the session was closed, or the account erased, after the access token was issued.
    async fn is_closed(&self, registration: &Registration) -> Result<bool, StoreError> {
        let issued = registration.authorized_at.as_millisecond();
        let mark = doc! { "_id": registration.account.fingerprint() };
        let Some(mark) = self.collection(MARKS).find_one(mark).await? else {
            return Ok(false);
        };
        let is_after = |field: &str| mark.get_i64(field).is_ok_and(|at| at > issued);
        let open: Option<Vec<String>> = optional(&mark, "open_sessions")
            .map(|open| serde_json::from_str(&open).map_err(|_| broken("a list of sessions is invalid")))
            .transpose()?;
        let is_open = open.is_none_or(|open| open.contains(&session_key(Some(registration.session))));
        Ok((is_after("devices_listed_at") && !is_open) || mark.get_i64("erased_until").is_ok_and(|at| at >= issued))
    }

    /// Of all who have this token only the one who got it last keeps it.
    async fn leave_to_the_last_owner(&self, token: &str) -> Result<(), StoreError> {
        let devices = self.collection(DEVICES);
        let owners: Vec<Document> = devices
            .find(doc! { "token": token })
            .sort(doc! { "changed_at": -1, "_id": 1 })
            .await?
            .try_collect()
            .await?;
        for former in owners.iter().skip(1) {
            // Only the state that was read: a later change of that session stays.
            let seen =
                doc! { "_id": text(former, "_id")?, "token": token, "changed_at": number(former, "changed_at")? };
            devices.update_one(seen, doc! { "$set": { "token": null } }).await?;
        }
        Ok(())
    }
}
