use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sosohappy_access::Caller;
use sosohappy_common::Problem;
use sosohappy_store::retrying;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Error;
use crate::sessions;

#[derive(Debug, Serialize, ToSchema)]
pub struct SignedOut {
    success: bool,
}

/// Ends the session that the access token belongs to, everywhere; the person's other devices stay signed in.
#[utoipa::path(
    post,
    path = "/signOut",
    tag = "session",
    responses((status = 200, body = SignedOut), (status = 503, body = Problem)),
)]
pub async fn sign_out(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<SignedOut>, Error> {
    retrying(|| close(&app, &caller)).await?;
    Ok(Json(SignedOut { success: true }))
}

async fn close(app: &App, caller: &Caller) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    tx.person(&caller.account).await?;
    let Some(session) = tx.session(caller.session).await? else {
        return Ok(());
    };
    sessions::close(app, tx.as_mut(), &session).await?;
    app.commit(tx).await
}
