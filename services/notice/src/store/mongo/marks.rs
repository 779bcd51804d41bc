//! Up to when an account is erased. A write of an account's data reads its mark afterwards: either it sees the mark, or the erasure, which
//! marks first, sees the data.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_store::StoreError;

use super::pushes::parse_event;
use super::{MARKS, MongoStore, WITHDRAWALS, number, text};
use crate::domain::AccountAt;
use crate::store::{Marks, Subject, fingerprints, is_erased, unclaimed, withdrawal_ids};

impl MongoStore {
    /// Returns the erasures and withdrawals that concern the subjects. Notes the accounts that are [`unclaimed`].
    pub(super) async fn marks(&self, subjects: &[Subject<'_>]) -> Result<Marks, StoreError> {
        let people = fingerprints(subjects).into_iter().collect();
        let (erased, withdrawn) = tokio::try_join!(self.erasures(people), self.withdrawals(subjects))?;
        let marks = Marks { erased, withdrawn };
        self.note_unclaimed(marks.unclaimed(subjects)).await?;
        Ok(marks)
    }

    /// Returns the milliseconds up to which these accounts, by their fingerprints, are erased.
    pub(super) async fn erasures(&self, people: Vec<String>) -> Result<HashMap<String, i64>, StoreError> {
        let mut erased = HashMap::new();
        let mut found = self
            .collection(MARKS)
            .find(doc! { "_id": { "$in": people }, "erased_until": { "$exists": true } })
            .projection(doc! { "erased_until": 1 })
            .await?;
        while let Some(mark) = found.try_next().await? {
            let erased_until = number(&mark, "erased_until")?;
            erased.insert(text(&mark, "_id")?.to_owned(), erased_until);
        }
        Ok(erased)
    }

    async fn withdrawals(&self, subjects: &[Subject<'_>]) -> Result<HashMap<EventId, i64>, StoreError> {
        let mut withdrawn = HashMap::new();
        let ids: Vec<String> = withdrawal_ids(subjects).iter().map(ToString::to_string).collect();
        let mut found = self
            .collection(WITHDRAWALS)
            .find(doc! { "_id": { "$in": ids } })
            .await?;
        while let Some(mark) = found.try_next().await? {
            let withdrawn_until = number(&mark, "withdrawn_until")?;
            withdrawn.insert(parse_event(text(&mark, "_id")?)?, withdrawn_until);
        }
        Ok(withdrawn)
    }

    /// Returns whether one of the accounts resigned at its moment or later. Notes those that are [`unclaimed`].
    pub(super) async fn is_erased(&self, people: [Option<AccountAt<'_>>; 2]) -> Result<bool, StoreError> {
        let mut people = people.into_iter().flatten();
        let fingerprints = people.clone().map(|(account, _)| account.fingerprint());
        let erased = self.erasures(fingerprints.collect()).await?;
        self.note_unclaimed(unclaimed(&erased, people.clone())).await?;
        Ok(people.any(|person| is_erased(&erased, person)))
    }

    /// Notes accounts for the sweep.
    pub(super) async fn note_unclaimed(&self, accounts: HashSet<&Account>) -> Result<(), StoreError> {
        for account in accounts {
            let mark = doc! { "_id": account.fingerprint() };
            let noted = doc! { "$set": { "unclaimed": account.as_str() } };
            self.collection(MARKS).update_one(mark, noted).await?;
        }
        Ok(())
    }

    pub(super) async fn are_devices_forgotten(&self, account: &Account, at: Timestamp) -> Result<bool, StoreError> {
        let since = doc! { "$gte": at.as_millisecond() };
        let either = [
            doc! { "erased_until": since.clone() },
            doc! { "devices_forgotten_until": since },
        ];
        let forgotten = doc! { "_id": account.fingerprint(), "$or": either.as_slice() };
        Ok(self.collection(MARKS).find_one(forgotten).await?.is_some())
    }

    pub(super) async fn mark(&self, account: &Account, field: &str, at: Timestamp) -> Result<(), StoreError> {
        let mut later = Document::new();
        later.insert(field, at.as_millisecond());
        later.insert("marked_at", at.as_millisecond());
        self.upsert(MARKS, doc! { "_id": account.fingerprint() }, doc! { "$max": later })
            .await?;
        Ok(())
    }
}
