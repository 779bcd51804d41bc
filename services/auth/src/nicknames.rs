//! Reservation of nicknames that were given up, and canonical keys and looks for accounts that an older release has written.
//!
//! Keys are made before a replica serves: no two accounts ever have one. Looks, which take longer, are made while it serves, a step of
//! accounts in each transaction. Each account says which version of the algorithm has made its looks, so that a replica that starts, or starts
//! again after a crash, goes on where the last one ended; replicas share the work. Until all looks are there:
//!
//! * names that are chosen are compared with each other and with all names whose looks are there, also with looks of an older version, of
//!   which most are the same: of two accounts that take names which look alike at the same moment, one gets it;
//! * a name whose looks are not there yet keeps no other from a name that looks like it. Both stay, as in the release that made no looks;
//! * the key of every name holds, so that no spelling of it is taken;
//! * once they are there, names that a replica of an older release goes on writing during a roll-out count at once: before a name is chosen, one step
//!   is made.
//!
//! Where two accounts bear one name in two spellings, the one that was created first keeps it: when each took its nickname is not known.
//! The other bears a placeholder until its profile is set again, which the app asks for at the next sign-in. Of two accounts whose
//! addresses differ in letter case only, both stay; a sign-in in another spelling finds the one whose key was made first. Of accounts whose
//! names look alike, all keep them: a look keeps a name only from those who choose it later.

use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sosohappy_common::nickname::InvalidNickname;
use sosohappy_common::{Account, Context, Nickname};
use sosohappy_events::Envelope;
use sosohappy_events::types::NicknameSet;
use sosohappy_store::{StoreError, retrying};

use crate::app::App;
use crate::domain::nickname_claim::NicknameClaim;
use crate::domain::person::Person;
use crate::domain::stamp;
use crate::error::Error;
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

/// Makes the keys of every account that has none. Repeating it changes nothing.
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
            return Ok(());
        }
    }
}

/// Accounts whose looks are made in one transaction, which locks them.
const LOOKS_STEP: u32 = 200;

/// Between two steps: other transactions are not kept waiting.
const LOOKS_PAUSE: Duration = Duration::from_millis(10);

/// Makes looks that are missing, or of an older version, of some accounts; returns how many there were. When there is none, it is one look-up in
/// an index.
pub async fn make_some_looks(store: &dyn Store) -> Result<u32, StoreError> {
    if !store.is_without_looks().await? {
        return Ok(0);
    }
    retrying(|| async {
        let mut tx = store.begin().await?;
        let made = tx.make_looks(LOOKS_STEP).await?;
        tx.commit().await?;
        Ok(made)
    })
    .await
}

/// Makes all looks that are missing, or of an older version, until the service drains.
pub async fn make_looks(app: &App) -> Result<(), Error> {
    let draining = app.context.lifecycle.draining();
    let mut accounts: u64 = 0;
    loop {
        let made = make_some_looks(app.store.as_ref()).await?;
        if made == 0 {
            break;
        }
        accounts += u64::from(made);
        if tokio::time::timeout(LOOKS_PAUSE, draining.cancelled()).await.is_ok() {
            break;
        }
    }
    if accounts > 0 {
        tracing::info!(accounts, "looks of nicknames made");
    }
    Ok(())
}

/// Returns the claim of an account to a nickname.
pub fn claim<'a>(app: &App, person: &'a Person, new: &'a Nickname) -> NicknameClaim<'a> {
    NicknameClaim {
        account: &person.account,
        bearer: app.hasher.hash(&person.account),
        former: &person.nickname,
        new,
        at: app.now(),
    }
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
