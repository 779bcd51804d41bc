//! Likes.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::{Nickname, Problem};
use sosohappy_events::Envelope;
use sosohappy_events::types::{NoticeRaised, PostLiked, WithdrawnLike};
use utoipa::ToSchema;

use crate::app::{App, writer};
use crate::domain::{DayOf, PostDate};
use crate::error::Error;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateLike {
    src_nickname: Nickname,
    /// The nickname of the post's author.
    nickname: Nickname,
    date: DayOf,
}

impl Actor for UpdateLike {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.src_nickname.as_str())
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LikeUpdated {
    like: bool,
}

/// Likes a post that the caller sees, or takes the like back, also from a post that the caller no longer sees. Its author gets a notice of a
/// like, unless it is their own, and a like taken back withdraws the notice.
#[utoipa::path(
    post,
    path = "/updateLike",
    tag = "like",
    request_body = UpdateLike,
    responses((status = 200, body = LikeUpdated), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn update_like(
    State(app): State<App>,
    Act { caller, params }: Act<UpdateLike>,
) -> Result<Json<LikeUpdated>, Error> {
    let called_at = app.now();
    let DayOf(day) = params.date;
    let author = app.names.account_of(params.nickname.as_str()).await?;
    let author = author.ok_or(Error::NoSuchPost)?;
    let marked = app.marked(&author, day);
    let liker = writer(caller);
    let notice = |date: PostDate, is_liked: bool| {
        if author == liker.account {
            return None;
        }
        if !is_liked {
            let like = WithdrawnLike {
                liker: liker.account.clone(),
                date: date.into(),
            };
            let event = NoticeRaised::like_withdrawn(author.clone(), &like);
            return Some(Envelope::new(event, &app.context).to_outgoing());
        }
        let event = PostLiked {
            liker: params.src_nickname.as_str().to_owned(),
            liker_account: Some(liker.account.clone()),
            author: app.mixed.like_author(params.nickname.as_str(), &author),
            author_account: Some(author.clone()),
            date: date.into(),
        };
        let envelope = Envelope::new(event, &app.context).authorized(liker.authorized_at);
        Some(envelope.to_outgoing())
    };
    let like = app
        .store
        .toggle(&liker, marked, &notice, app.now())
        .await?
        .ok_or(Error::NoSuchPost)?;
    app.relay.wake();
    app.metrics.toggled_like(like, called_at, app.now());
    Ok(Json(LikeUpdated { like }))
}
