//! The connection log, for operators.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::ToSchema;

use crate::app::App;
use crate::connections::{self, Connection};
use crate::domain::moderation::Remark;
use crate::error::Error;

#[derive(Debug, Deserialize, ToSchema)]
pub struct OpenConnectionLog {
    #[schema(example = "kim@example.com+kakao")]
    account: String,
    /// Why it is opened, in at most 1,000 characters and 8,000 bytes: for the audit.
    #[schema(value_type = String, min_length = 1, max_length = 1000, example = "warrant 2026-123")]
    note: Remark,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionLog {
    /// The newest first, at most 10,000.
    content: Vec<Connection>,
    /// Entries that cannot be decrypted: their key is missing in `tokens.provider-keys`.
    unreadable: usize,
}

/// Shows the connection log of an account, also of one that has resigned (`fleet connection-log`). Each call is an entry of the audit.
#[utoipa::path(
    post,
    path = "/openConnectionLog",
    tag = "fleet",
    request_body = OpenConnectionLog,
    responses((status = 200, body = ConnectionLog), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem)),
)]
pub async fn open_connection_log(
    State(app): State<Arc<App>>,
    Params(asked): Params<OpenConnectionLog>,
) -> Result<Json<ConnectionLog>, Error> {
    if asked.note.as_str().trim().is_empty() {
        return Err(Error::InvalidParameter("note: why the log is opened"));
    }
    let opened = connections::open(&app, &asked.account.parse()?, &asked.note).await?;
    Ok(Json(ConnectionLog {
        content: opened.connections,
        unreadable: opened.unreadable,
    }))
}
