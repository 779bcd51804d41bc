//! Who wants nothing to do with whom.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::{Account, Problem};
use sosohappy_events::types::{Relation, RelationChanged};
use sosohappy_store::retrying;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::stamp;
use crate::error::Error;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    /// The caller's own nickname.
    src_nickname: String,
    dst_nickname: String,
}

impl Actor for Pair {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(&self.src_nickname)
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Blocked {
    /// False when nobody bears the nickname, or the caller does.
    success: bool,
}

/// Sets or lifts a block; saying the same again changes nothing and is no failure.
async fn set(app: &App, account: &Account, nickname: &str, relation: Relation) -> Result<Blocked, Error> {
    let other = app.bearer_of(nickname).await?.map(|person| person.account);
    let Some(other) = other.filter(|other| other != account) else {
        return Ok(Blocked { success: false });
    };
    let success = retrying(|| set_once(app, account, &other, relation)).await?;
    Ok(Blocked { success })
}

async fn set_once(app: &App, account: &Account, other: &Account, relation: Relation) -> Result<bool, Error> {
    let mut tx = app.store.begin().await?;
    // Always in the same order: two who block each other at once must not wait for each other.
    let (first, second) = if account < other {
        (account, other)
    } else {
        (other, account)
    };
    let (first, second) = (tx.person(first).await?, tx.person(second).await?);
    let (Some(first), Some(second)) = (first, second) else {
        return if tx.person(account).await?.is_some() {
            Ok(false)
        } else {
            Err(Error::UnknownAccount)
        };
    };

    // After what either has done: the other may have resigned and signed up again, and the end of an older block is no news then.
    let at = stamp::after(first.changed_at.max(second.changed_at), app.now());
    let changed = if relation == Relation::Block {
        tx.insert_block(account, other, at).await?
    } else {
        tx.delete_block(account, other).await?
    };
    if changed {
        tx.stamp_person(account, at).await?;
        let event = RelationChanged {
            relation,
            account: account.clone(),
            other: other.clone(),
        };
        app.enqueue(tx.as_mut(), event, at).await?;
        app.commit(tx).await?;
    }
    Ok(true)
}

/// Blocks somebody: neither sees or reaches the other any more.
#[utoipa::path(
    post,
    path = "/block",
    tag = "block",
    request_body = Pair,
    responses((status = 200, body = Blocked), (status = 400, body = Problem), (status = 401, body = Problem)),
)]
pub async fn block(State(app): State<Arc<App>>, act: Act<Pair>) -> Result<Json<Blocked>, Error> {
    set(&app, &act.caller.account, &act.params.dst_nickname, Relation::Block)
        .await
        .map(Json)
}

/// Lifts a block.
#[utoipa::path(
    post,
    path = "/unblock",
    tag = "block",
    request_body = Pair,
    responses((status = 200, body = Blocked), (status = 400, body = Problem), (status = 401, body = Problem)),
)]
pub async fn unblock(State(app): State<Arc<App>>, act: Act<Pair>) -> Result<Json<Blocked>, Error> {
    set(&app, &act.caller.account, &act.params.dst_nickname, Relation::Unblock)
        .await
        .map(Json)
}
