//! The directory of accounts. Each event is one atomic update under the condition that it is the newest.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use sosohappy_common::{Account, NicknameKey};
use sosohappy_events::types::Relation;

use super::{Database, index, is_taken};
use crate::directory::{BLOCK, Bearer, FOLLOW, check_length, kind_of, parse_account};
use crate::time::instant;
use crate::{Directory, StoreError};

/// `_id` (SHA-256 of the account), `account`, `nickname` and `nickname_key` (hex) while there is one, `changed_at`, `resigned_at`.
const ACCOUNTS: &str = "directory";

/// `_id` (account, other, kind), `account`, `other`, `kind`, `active`, `changed_at`.
const RELATIONS: &str = "directory_relation";

/// The most accounts of one query.
const BATCH: usize = 1000;

pub(super) async fn make_indexes(database: &Database) -> Result<(), StoreError> {
    let accounts = [
        index("directory_nickname", doc! { "nickname": 1, "changed_at": -1 }),
        index("directory_nickname_key", doc! { "nickname_key": 1 }),
        index("directory_resigned_at", doc! { "resigned_at": 1 }),
    ];
    database.collection(ACCOUNTS).create_indexes(accounts).await?;
    let relations = [
        index("directory_relation_account", doc! { "account": 1 }),
        index("directory_relation_other", doc! { "other": 1 }),
    ];
    database.collection(RELATIONS).create_indexes(relations).await?;
    Ok(())
}

/// Makes the keys of names that were stored before there were keys.
pub(super) async fn make_keys(database: &Database) -> Result<(), StoreError> {
    let unkeyed = doc! { "nickname": { "$ne": null }, "nickname_key": null };
    let accounts = database.collection(ACCOUNTS);
    let mut found = accounts.find(unkeyed).await?;
    while let Some(account) = found.try_next().await? {
        let (id, nickname) = (text(&account, "_id")?, text(&account, "nickname")?);
        let key = doc! { "$set": { "nickname_key": NicknameKey::of(nickname).to_string() } };
        accounts
            .update_one(doc! { "_id": id, "nickname": nickname }, key)
            .await?;
    }
    Ok(())
}

#[derive(Debug)]
pub(super) struct MongoDirectory(pub Database);

impl MongoDirectory {
    async fn set_resigned(&self, account: &Account, at: i64) -> Result<(), StoreError> {
        let accounts = self.0.collection(ACCOUNTS);
        let moment = doc! {
            "$max": { "resigned_at": at },
            "$setOnInsert": { "nickname": null, "changed_at": at },
        };
        upsert(&self.0, ACCOUNTS, doc! { "_id": account.fingerprint() }, moment).await?;
        // Records the resignation first: from here on no older nickname is stored. Then deletes the stored one.
        let older = doc! { "_id": account.fingerprint(), "changed_at": { "$lte": at } };
        let gone =
            doc! { "$set": { "nickname": null, "changed_at": at }, "$unset": { "account": "", "nickname_key": "" } };
        accounts.update_one(older, gone).await?;
        Ok(())
    }
}

#[async_trait]
impl Directory for MongoDirectory {
    async fn set_nickname(&self, account: &Account, nickname: Option<&str>, at: Timestamp) -> Result<(), StoreError> {
        check_length(nickname)?;
        let at = at.as_millisecond();
        let Some(nickname) = nickname else {
            return self.set_resigned(account, at).await;
        };
        let last_word = doc! {
            "_id": account.fingerprint(),
            "changed_at": { "$lte": at },
            "$or": [{ "resigned_at": null }, { "resigned_at": { "$lt": at } }],
        };
        upsert(
            &self.0,
            ACCOUNTS,
            last_word,
            doc! { "$set": {
                "account": account.as_str(),
                "nickname": nickname,
                "nickname_key": NicknameKey::of(nickname).to_string(),
                "changed_at": at,
            } },
        )
        .await
    }

    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, StoreError> {
        // By the text too: a document that a replica of an older release has written has no key, or that of its name before.
        let either = [
            doc! { "nickname": nickname },
            doc! { "nickname_key": NicknameKey::of(nickname).to_string() },
        ];
        let mut found = self
            .0
            .collection(ACCOUNTS)
            .find(doc! { "$or": either.as_slice() })
            .await?;
        let mut bearers = Vec::new();
        while let Some(bearer) = found.try_next().await? {
            // Only the key is left of an account that an older replica has erased.
            let Ok(nickname) = text(&bearer, "nickname") else {
                continue;
            };
            bearers.push(Bearer {
                account: parse_account(text(&bearer, "account")?)?,
                nickname: nickname.to_owned(),
                changed_at: bearer
                    .get_i64("changed_at")
                    .map_err(|error| StoreError::Corrupt(error.into()))?,
            });
        }
        Ok(Bearer::choose(bearers, nickname))
    }

    async fn named_since(&self, account: &Account, moment: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let named = doc! {
            "_id": account.fingerprint(),
            "nickname": { "$ne": null },
            "changed_at": { "$gt": moment.as_millisecond() },
        };
        let Some(found) = self.0.collection(ACCOUNTS).find_one(named).await? else {
            return Ok(None);
        };
        let told = found
            .get_i64("changed_at")
            .map_err(|error| StoreError::Corrupt(error.into()))?;
        Ok(Some(instant(told)?))
    }

    async fn nicknames_of(&self, accounts: &[Account]) -> Result<Vec<Option<String>>, StoreError> {
        let mut known: HashMap<String, String> = HashMap::with_capacity(accounts.len());
        for accounts in accounts.chunks(BATCH) {
            let ids: Vec<String> = accounts.iter().map(Account::fingerprint).collect();
            let asked = doc! { "_id": { "$in": ids }, "nickname": { "$ne": null } };
            let mut found = self.0.collection(ACCOUNTS).find(asked).await?;
            while let Some(account) = found.try_next().await? {
                known.insert(
                    text(&account, "account")?.to_owned(),
                    text(&account, "nickname")?.to_owned(),
                );
            }
        }
        Ok(accounts
            .iter()
            .map(|account| known.get(account.as_str()).cloned())
            .collect())
    }

    async fn set_relation(
        &self,
        relation: Relation,
        account: &Account,
        other: &Account,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (kind, active) = kind_of(relation);
        let at = at.as_millisecond();
        let id = relation_id(account, other, kind);
        let word = doc! {
            "account": account.as_str(),
            "other": other.as_str(),
            "kind": kind,
            "active": active,
            "changed_at": at,
        };
        let last_word = doc! { "_id": &id, "changed_at": { "$lte": at } };
        upsert(&self.0, RELATIONS, last_word, doc! { "$set": word }).await?;

        // Writes first, then compares. Of a concurrent resignation, either this update sees its `resigned_at` (and deletes the relation
        // below), or the resignation sees the relation and deletes it.
        let resigned = doc! {
            "_id": { "$in": [account.fingerprint(), other.fingerprint()] },
            "resigned_at": { "$gte": at },
        };
        let last = self
            .0
            .collection(ACCOUNTS)
            .find_one(resigned)
            .sort(doc! { "resigned_at": -1 })
            .await?;
        if let Some(last) = last {
            let moment = last
                .get_i64("resigned_at")
                .map_err(|error| StoreError::Corrupt(error.into()))?;
            let before = doc! { "_id": &id, "changed_at": { "$lte": moment } };
            self.0.collection(RELATIONS).delete_one(before).await?;
        }
        Ok(())
    }

    async fn blocked(&self, one: &Account, other: &Account) -> Result<bool, StoreError> {
        let either = block_ids(one, other);
        let blocked = doc! { "_id": { "$in": either.as_slice() }, "active": true };
        Ok(self.0.collection(RELATIONS).find_one(blocked).await?.is_some())
    }

    async fn blocked_among(&self, pairs: &[(&Account, &Account)]) -> Result<Vec<bool>, StoreError> {
        let mut blocks = HashSet::new();
        // Each has two ids.
        for pairs in pairs.chunks(BATCH / 2) {
            let ids: Vec<String> = pairs.iter().flat_map(|(one, other)| block_ids(one, other)).collect();
            let mut found = self
                .0
                .collection(RELATIONS)
                .find(doc! { "_id": { "$in": ids }, "active": true })
                .projection(doc! { "_id": 1 })
                .await?;
            while let Some(block) = found.try_next().await? {
                blocks.insert(text(&block, "_id")?.to_owned());
            }
        }
        let blocked = pairs
            .iter()
            .map(|(one, other)| block_ids(one, other).iter().any(|id| blocks.contains(id)));
        Ok(blocked.collect())
    }

    async fn blocked_with(&self, account: &Account) -> Result<Vec<Account>, StoreError> {
        let account = account.as_str();
        let blocks = doc! { "$or": [{ "account": account }, { "other": account }], "kind": BLOCK, "active": true };
        let mut found = self.0.collection(RELATIONS).find(blocks).await?;
        let mut others = Vec::new();
        while let Some(block) = found.try_next().await? {
            let (acting, other) = (text(&block, "account")?, text(&block, "other")?);
            others.push(parse_account(if acting == account { other } else { acting })?);
        }
        others.sort();
        others.dedup();
        Ok(others)
    }

    async fn friends(&self, one: &Account, other: &Account) -> Result<bool, StoreError> {
        let both = [relation_id(one, other, FOLLOW), relation_id(other, one, FOLLOW)];
        let follows = doc! { "_id": { "$in": both.as_slice() }, "active": true };
        Ok(self.0.collection(RELATIONS).count_documents(follows).await? == 2)
    }

    async fn erase(&self, account: &Account, at: Timestamp) -> Result<(), StoreError> {
        let at = at.as_millisecond();
        self.set_resigned(account, at).await?;
        let account = account.as_str();
        let relations = doc! { "$or": [{ "account": account }, { "other": account }], "changed_at": { "$lte": at } };
        self.0.collection(RELATIONS).delete_many(relations).await?;
        Ok(())
    }
}

/// Updates the document if it fulfils the condition, inserts it if it is missing, and leaves it alone otherwise: if the condition is not
/// fulfilled the server inserts, which violates the unique `_id`.
async fn upsert(
    database: &Database,
    collection: &str,
    condition: Document,
    update: Document,
) -> Result<(), StoreError> {
    let collection = database.collection(collection);
    let first = collection
        .update_one(condition.clone(), update.clone())
        .upsert(true)
        .await
        .map_err(StoreError::from);
    if is_taken(&first) {
        // Another writer may have inserted the document between the query and the insert of the server: retry once, now that it exists.
        collection.update_one(condition, update).await?;
        return Ok(());
    }
    first.map(|_| ())
}

/// Returns the `_id`; accounts have no control characters, so the separator is unambiguous.
fn relation_id(account: &Account, other: &Account, kind: &str) -> String {
    format!("{}\u{1f}{}\u{1f}{kind}", account.as_str(), other.as_str())
}

/// Returns the ids of the blocks of two accounts, one for each direction.
fn block_ids(one: &Account, other: &Account) -> [String; 2] {
    [relation_id(one, other, BLOCK), relation_id(other, one, BLOCK)]
}

fn text<'a>(document: &'a Document, field: &str) -> Result<&'a str, StoreError> {
    document
        .get_str(field)
        .map_err(|error| StoreError::Corrupt(error.into()))
}

/// Deletes resignations from before that moment.
pub(super) async fn sweep(database: &Database, before: i64) -> Result<(), StoreError> {
    let old = doc! { "nickname": null, "resigned_at": { "$lt": before } };
    database.collection(ACCOUNTS).delete_many(old).await?;
    Ok(())
}
