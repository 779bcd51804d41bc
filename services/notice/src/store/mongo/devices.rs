use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use sosohappy_common::Account;
use sosohappy_store::StoreError;

use super::{DEVICES, MARKS, MongoStore, number, text};
use crate::store::{DeviceChange, DeviceList, Devices, MOST_DEVICES, session_key};

#[async_trait]
impl Devices for MongoStore {
    async fn change(&self, change: &DeviceChange) -> Result<(), StoreError> {
        let account = &change.account;
        let at = change.at.as_millisecond();
        let devices = self.collection(DEVICES);
        if change.token.is_none() && change.session.is_none() {
            self.mark(account, "devices_forgotten_until", change.at).await?;
            devices
                .delete_many(doc! { "account": account.as_str(), "changed_at": { "$lte": at } })
                .await?;
            return Ok(());
        }

        let id = id_of(account, &session_key(change.session));
        let word = doc! { "account": account.as_str(), "token": change.token.as_deref(), "changed_at": at };
        let older = doc! { "_id": &id, "changed_at": { "$lt": at } };
        if self.upsert(DEVICES, older, doc! { "$set": word }).await?
            && self.are_devices_forgotten(account, change.at).await?
        {
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
        let mark = doc! { "$set": { "devices_listed_at": at }, "$max": { "marked_at": at } };
        if !self.upsert(MARKS, newest, mark).await? {
            return Ok(());
        }
        let ids: Vec<String> = list.session_keys().map(|key| id_of(&list.account, &key)).collect();
        let gone = doc! { "account": account, "changed_at": { "$lt": at }, "_id": { "$nin": ids } };
        let word = doc! { "$set": { "token": null, "changed_at": at } };
        self.collection(DEVICES).update_many(gone, word).await?;
        for change in list.changes() {
            self.change(&change).await?;
        }
        Ok(())
    }

    async fn of(&self, account: &Account) -> Result<Vec<String>, StoreError> {
        let with_token = doc! { "account": account.as_str(), "token": { "$ne": null } };
        let newest_first = doc! { "changed_at": -1, "token": 1 };
        let mut found = self.collection(DEVICES).find(with_token).sort(newest_first).await?;
        let mut tokens: Vec<String> = Vec::new();
        while tokens.len() < MOST_DEVICES
            && let Some(device) = found.try_next().await?
        {
            let token = text(&device, "token")?;
            if !tokens.iter().any(|known| known == token) {
                tokens.push(token.to_owned());
            }
        }
        Ok(tokens)
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

fn id_of(account: &Account, session: &str) -> String {
    format!("{}\u{1f}{session}", account.as_str())
}

impl MongoStore {
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
            // Only the state that was seen: a later word on that session stays.
            let seen =
                doc! { "_id": text(former, "_id")?, "token": token, "changed_at": number(former, "changed_at")? };
            devices.update_one(seen, doc! { "$set": { "token": null } }).await?;
        }
        Ok(())
    }
}
