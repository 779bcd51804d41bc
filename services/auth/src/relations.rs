//! Blocks and follows between two accounts.

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::types::{FollowChanged, Relation, RelationChanged};
use sosohappy_store::retrying;

use crate::app::App;
use crate::domain::stamp;
use crate::error::Error;
use crate::store::Transaction;

/// Changes the relation of an account to the bearer of a nickname. Repeating it changes nothing and is no failure. Returns false where the
/// nickname is unknown or the account's own, and for following or unfollowing across a block, which must not show.
pub async fn set(app: &App, account: &Account, nickname: &str, relation: Relation) -> Result<bool, Error> {
    let other = app.bearer_of(nickname).await?.map(|person| person.account);
    let Some(other) = other.filter(|other| other != account) else {
        return Ok(false);
    };
    retrying(|| set_once(app, account, &other, relation)).await
}

async fn set_once(app: &App, account: &Account, other: &Account, relation: Relation) -> Result<bool, Error> {
    let mut tx = app.store.begin().await?;
    let Some(at) = lock(app, tx.as_mut(), account, other).await? else {
        return Ok(false);
    };
    let changed = match relation {
        Relation::Block => block(app, tx.as_mut(), account, other, at).await?,
        Relation::Unblock => {
            let changed = tx.delete_block(account, other).await?;
            if changed {
                publish(app, tx.as_mut(), relation, account, other, at).await?;
            }
            changed
        }
        Relation::Follow | Relation::Unfollow if tx.is_blocked(account, other).await? => return Ok(false),
        Relation::Follow => follow(app, tx.as_mut(), account, other, at).await?,
        Relation::Unfollow => unfollow(app, tx.as_mut(), account, other, at).await?,
    };
    if changed {
        // Both: a list of one's followers is paged by these times, so no two of one person are equal.
        tx.stamp_person(account, at).await?;
        tx.stamp_person(other, at).await?;
        app.commit(tx).await?;
    }
    Ok(true)
}

/// Locks both accounts and returns the time of the change; `None` when the other account is gone.
pub async fn lock(
    app: &App,
    tx: &mut dyn Transaction,
    account: &Account,
    other: &Account,
) -> Result<Option<Timestamp>, Error> {
    // Always in the same order: two who block each other at once must not wait for each other.
    let (first, second) = if account < other {
        (account, other)
    } else {
        (other, account)
    };
    let (first, second) = (tx.person(first).await?, tx.person(second).await?);
    let (Some(first), Some(second)) = (first, second) else {
        return if tx.person(account).await?.is_some() {
            Ok(None)
        } else {
            Err(Error::UnknownAccount)
        };
    };
    // After what either has done: the other may have resigned and signed up again, and the end of an older relation is no news then.
    let last = first.changed_at.max(second.changed_at);
    Ok(Some(stamp::after(last, app.now())))
}

/// Ends the follows in both directions as well, also where the block is there already: a replica of an older release leaves them.
async fn block(
    app: &App,
    tx: &mut dyn Transaction,
    account: &Account,
    other: &Account,
    at: Timestamp,
) -> Result<bool, Error> {
    let mut changed = tx.insert_block(account, other, at).await?;
    if changed {
        publish(app, tx, Relation::Block, account, other, at).await?;
    }
    changed |= unfollow(app, tx, account, other, at).await?;
    changed |= unfollow(app, tx, other, account, at).await?;
    Ok(changed)
}

async fn follow(
    app: &App,
    tx: &mut dyn Transaction,
    account: &Account,
    other: &Account,
    at: Timestamp,
) -> Result<bool, Error> {
    if !tx.insert_follow(account, other, at).await? {
        return Ok(false);
    }
    let friends = tx.follows(other, account).await?;
    publish(app, tx, Relation::Follow, account, other, at).await?;
    let followed = FollowChanged {
        follower: account.clone(),
        followed: other.clone(),
        following: true,
        friends,
    };
    app.enqueue(tx, followed, at).await?;
    Ok(true)
}

async fn unfollow(
    app: &App,
    tx: &mut dyn Transaction,
    account: &Account,
    other: &Account,
    at: Timestamp,
) -> Result<bool, Error> {
    if !tx.delete_follow(account, other).await? {
        return Ok(false);
    }
    publish(app, tx, Relation::Unfollow, account, other, at).await?;
    let unfollowed = FollowChanged {
        follower: account.clone(),
        followed: other.clone(),
        following: false,
        friends: false,
    };
    app.enqueue(tx, unfollowed, at).await?;
    Ok(true)
}

/// Publishes the end of every block and follow of an account that resigns; the rows go with the account's. The topic `follow` has no event of it:
/// its consumers erase at `resign`.
pub async fn end_all(
    app: &App,
    tx: &mut dyn Transaction,
    blocks: Vec<(Account, Account)>,
    follows: Vec<(Account, Account)>,
    at: Timestamp,
) -> Result<(), Error> {
    for (account, other) in &blocks {
        publish(app, tx, Relation::Unblock, account, other, at).await?;
    }
    for (account, other) in &follows {
        publish(app, tx, Relation::Unfollow, account, other, at).await?;
    }
    Ok(())
}

async fn publish(
    app: &App,
    tx: &mut dyn Transaction,
    relation: Relation,
    account: &Account,
    other: &Account,
    at: Timestamp,
) -> Result<(), Error> {
    let event = RelationChanged {
        relation,
        account: account.clone(),
        other: other.clone(),
    };
    app.enqueue(tx, event, at).await
}
