//! Up to when an account is erased. A write of an account's data reads its mark afterwards: either it sees the mark, or the erasure, which
//! marks first, sees the data.

use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use sosohappy_common::Account;
use sosohappy_store::StoreError;

use super::{MARKS, MongoStore};

impl MongoStore {
    /// Returns whether one of the accounts resigned at that moment or later.
    pub(super) async fn is_erased(
        &self,
        accounts: [Option<&Account>; 2],
        occurred_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let people: Vec<String> = accounts.into_iter().flatten().map(Account::fingerprint).collect();
        let erased = doc! { "_id": { "$in": people }, "erased_until": { "$gte": occurred_at.as_millisecond() } };
        Ok(self.collection(MARKS).find_one(erased).await?.is_some())
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
