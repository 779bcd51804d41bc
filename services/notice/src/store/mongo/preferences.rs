use async_trait::async_trait;
use futures::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use sosohappy_common::Account;
use sosohappy_store::StoreError;

use super::{MUTES, MongoStore, PREFERENCES, number, text};
use crate::domain::{Mute, Preferences};
use crate::store::{Choice, Choices, Decision, Saved, VersionedPreferences, broken, parse_preferences};

#[async_trait]
impl Choices for MongoStore {
    async fn preferences(&self, account: &Account) -> Result<VersionedPreferences, StoreError> {
        let found = self
            .collection(PREFERENCES)
            .find_one(doc! { "_id": account.as_str() })
            .await?;
        found.map_or(Ok(VersionedPreferences::default()), |found| {
            VersionedPreferences::parse(text(&found, "preferences")?, number(&found, "version")?)
        })
    }

    async fn set_preferences(
        &self,
        by: &Decision<'_>,
        preferences: &Preferences,
        version: i64,
    ) -> Result<Saved, StoreError> {
        let state = doc! {
            "preferences": serde_json::to_string(preferences).expect("preferences are JSON"),
            "version": version + 1,
            "changed_at": by.authorized_at.as_millisecond(),
        };
        // Of a stored version only that one is replaced; version 0 is that of no document.
        let seen = doc! { "_id": by.account.as_str(), "version": version };
        if !self.upsert(PREFERENCES, seen, doc! { "$set": state }).await? {
            return Ok(Saved::ChangedMeanwhile);
        }
        // An erasure marks first: either the mark is seen here, or the document is seen there.
        if self.is_erased([Some((by.account, by.authorized_at)), None]).await? {
            let mine = doc! { "_id": by.account.as_str(), "changed_at": { "$lte": by.authorized_at.as_millisecond() } };
            self.collection(PREFERENCES).delete_one(mine).await?;
            return Ok(Saved::Erased);
        }
        Ok(Saved::Yes)
    }

    async fn mute(&self, by: &Decision<'_>, mute: &Mute, muted: bool) -> Result<bool, StoreError> {
        let collection = self.collection(MUTES);
        let id = id_of(by.account, mute);
        if muted {
            let state = doc! {
                "account": by.account.as_str(),
                "kind": mute.kind(),
                "target": mute.target(),
                "authorized_at": by.authorized_at.as_millisecond(),
                "muted_at": by.at.as_millisecond(),
            };
            self.upsert(MUTES, id.clone(), doc! { "$set": state }).await?;
        } else {
            collection.delete_one(id.clone()).await?;
        }
        let other = mute.other().map(|other| (other, by.at));
        if self.is_erased([Some((by.account, by.authorized_at)), other]).await? {
            collection.delete_one(id).await?;
            return Ok(false);
        }
        Ok(true)
    }

    async fn mutes(&self, account: &Account) -> Result<Vec<Mute>, StoreError> {
        let mut found = self
            .collection(MUTES)
            .find(doc! { "account": account.as_str() })
            .sort(doc! { "kind": 1, "target": 1 })
            .await?;
        let mut mutes = Vec::new();
        while let Some(row) = found.try_next().await? {
            let kind = text(&row, "kind")?;
            if Mute::KINDS.contains(&kind) {
                let mute = Mute::of(kind, text(&row, "target")?);
                mutes.push(mute.ok_or_else(|| broken("a mute is invalid"))?);
            }
        }
        Ok(mutes)
    }

    async fn choice(&self, account: &Account, mute: Option<&Mute>) -> Result<Choice, StoreError> {
        let mut pipeline = vec![doc! { "$match": { "_id": account.as_str() } }];
        if let Some(mute) = mute {
            let set = vec![doc! { "$match": id_of(account, mute) }];
            pipeline.push(doc! { "$unionWith": { "coll": MUTES, "pipeline": set } });
        }
        let mut found = self.collection(PREFERENCES).aggregate(pipeline).await?;
        let mut choice = Choice::default();
        while let Some(document) = found.try_next().await? {
            if document.contains_key("target") {
                choice.is_muted = true;
            } else {
                choice.preferences = parse_preferences(text(&document, "preferences")?)?;
            }
        }
        Ok(choice)
    }
}

fn id_of(account: &Account, mute: &Mute) -> Document {
    let id = format!("{}\u{1f}{}\u{1f}{}", account.as_str(), mute.kind(), mute.target());
    doc! { "_id": id }
}
