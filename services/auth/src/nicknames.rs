//! Reservation of nicknames that were given up, and canonical keys and looks for accounts that an older release has written.
//!
//! Where two accounts bear one name in two spellings, the one that was created first keeps it: when each took its nickname is not known.
//! The other bears a placeholder until its profile is set again, which the app asks for at the next sign-in. Of two accounts whose
//! addresses differ in letter case only, both stay; a sign-in in another spelling finds the one whose key was made first. Of accounts whose
//! names look alike, all keep them: a look keeps a name only from those who choose it later.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sosohappy_common::nickname::InvalidNickname;
use sosohappy_common::{Account, Context, Look, Nickname};
use sosohappy_events::Envelope;
use sosohappy_events::types::NicknameSet;
use sosohappy_store::{StoreError, retrying};

use crate::domain::person::Person;
use crate::domain::stamp;
use crate::store::{Store, Transaction};

/// Names that stay reserved for one account: those that it gave up last.
const MAX_RESERVED: u32 = 5;

/// Keeps a nickname that was given up from all but the account of the keyed hash `bearer`; from everybody where it is `None`. Of one account the last
/// five stay reserved and older ones are free again, so that renames do not reserve names without bound.
pub async fn reserve(
    tx: &mut dyn Transaction,
    nickname: &Nickname,
    bearer: Option<&[u8; 32]>,
    until: Timestamp,
) -> Result<(), StoreError> {
    if let Some(bearer) = bearer {
        tx.trim_reservations(bearer, MAX_RESERVED - 1).await?;
    }
    tx.reserve_nickname(nickname, bearer, until).await
}

/// Accounts of one transaction.
const BATCH: u32 = 100;

/// Makes the keys and looks of every account that has none. Repeating it changes nothing.
pub async fn make_keys(store: &dyn Store, context: &Context) -> Result<(), StoreError> {
    retrying(|| async {
        let mut tx = store.begin().await?;
        tx.take_old_reservations().await?;
        tx.commit().await
    })
    .await?;
    loop {
        let accounts = store.without_keys(BATCH).await?;
        for account in &accounts {
            retrying(|| async {
                let mut tx = store.begin().await?;
                if let Some(person) = tx.person(account).await? {
                    key_address(tx.as_mut(), account).await?;
                    key_nickname(tx.as_mut(), context, person).await?;
                }
                tx.commit().await
            })
            .await?;
        }
        if accounts.len() < BATCH as usize {
            break;
        }
    }
    make_looks(store).await
}

/// Accounts whose looks are made in one transaction.
const LOOKS_BATCH: u32 = 500;

/// Makes the looks of every nickname that a replica of an older release has written. When there is none, it is one look-up in an index.
pub async fn make_looks(store: &dyn Store) -> Result<(), StoreError> {
    while store.is_without_looks().await? {
        retrying(|| async {
            let mut tx = store.begin().await?;
            let made = tx.make_looks(LOOKS_BATCH).await?;
            tx.commit().await?;
            tracing::info!(made, "looks of nicknames made");
            Ok::<_, StoreError>(())
        })
        .await?;
    }
    Ok(())
}

/// Returns the looks that another name must not have so that a person who bears `former` may take `new`. What looks like the former name already
/// does not count: names that collide since before there were looks stay, and may be written in another spelling.
pub fn new_looks(former: &Nickname, new: &Nickname) -> BTreeSet<Look> {
    let known = former.looks().confusable;
    new.looks().confusable.difference(&known).copied().collect()
}

async fn key_address(tx: &mut dyn Transaction, account: &Account) -> Result<(), StoreError> {
    if tx.set_address_key(account, &account.key()).await? {
        return Ok(());
    }
    // A key of its own, which no address has.
    let own = Sha256::digest(format!("twin\u{1f}{}", account.as_str())).into();
    if tx.set_address_key(account, &own).await? {
        Ok(())
    } else {
        Err(StoreError::corrupt("two accounts have one key"))
    }
}

async fn key_nickname(tx: &mut dyn Transaction, context: &Context, mut person: Person) -> Result<(), StoreError> {
    // A name that releases before this one allowed and feed refused: the app asks for another.
    let is_too_long = Nickname::choose(person.nickname.as_str().to_owned()) == Err(InvalidNickname::Size);
    person.profile_set &= !is_too_long;
    if tx.set_nickname_key(&person).await? {
        return Ok(());
    }
    let Some(bearer) = tx.person_keyed(&person.nickname.key()).await? else {
        return Err(StoreError::Retry(anyhow::anyhow!(
            "the bearer of a nickname has renamed"
        )));
    };
    let is_first = (person.created_at, &person.account) < (bearer.created_at, &bearer.account);
    if is_first {
        give_placeholder(tx, context, bearer).await?;
        if !tx.set_nickname_key(&person).await? {
            return Err(StoreError::corrupt("two accounts have one nickname key"));
        }
        return Ok(());
    }
    give_placeholder(tx, context, person).await
}

async fn give_placeholder(tx: &mut dyn Transaction, context: &Context, mut person: Person) -> Result<(), StoreError> {
    tracing::warn!(
        account = person.account.fingerprint(),
        "nickname differs from another account's only in its spelling; replaced by a placeholder"
    );
    person.nickname = Nickname::placeholder(context.entropy.uuid());
    person.profile_set = false;
    person.changed_at = stamp::after(person.changed_at, context.clock.now());
    tx.rewrite_person(&person).await?;
    let mut renamed = Envelope::new(
        NicknameSet {
            account: person.account.clone(),
            nickname: Some(person.nickname.as_str().to_owned()),
        },
        context,
    );
    renamed.meta.occurred_at = person.changed_at;
    tx.enqueue(&renamed.to_outgoing(), context.clock.now()).await
}
