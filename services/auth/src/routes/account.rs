//! Leaving the fleet.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::{Account, Problem};
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Error;
use crate::resignations;

#[derive(Debug, Deserialize, ToSchema)]
pub struct Resigning {
    /// The caller's own account.
    #[schema(example = "kim@example.com+kakao")]
    email: String,
}

impl Actor for Resigning {
    fn acting(&self) -> Acting<'_> {
        Acting::Account(&self.email)
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Resigned {
    #[schema(value_type = String)]
    email: Account,
    success: bool,
}

/// Deletes the caller's account. Every service erases the account's data; all tokens are revoked before the answer.
#[utoipa::path(
    post,
    path = "/resign",
    tag = "account",
    request_body = Resigning,
    responses((status = 200, body = Resigned), (status = 400, body = Problem), (status = 401, body = Problem)),
)]
pub async fn resign(State(app): State<Arc<App>>, act: Act<Resigning>) -> Result<Json<Resigned>, Error> {
    let email = act.caller.account;
    resignations::resign(&app, &email).await?;
    Ok(Json(Resigned { email, success: true }))
}
