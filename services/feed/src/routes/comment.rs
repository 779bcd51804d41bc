//! Comments on posts.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::{Account, Nickname, Problem};
use sosohappy_events::types::NoticeRaised;
use sosohappy_events::{Envelope, Outgoing};
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, writer};
use crate::domain::{CommentText, Cursor, DayOf, ListName, PostDate, Slice};
use crate::error::Error;
use crate::routes::params::{CursorPage, OwnDay};
use crate::store::NewComment;

/// A comment of which the post's author gets a notice.
pub struct Commented<'a> {
    pub author: &'a Account,
    /// The writer's present nickname.
    pub commenter: &'a str,
    pub date: PostDate,
    pub comment: i64,
    pub writer: &'a Account,
    /// When the writer's access token was issued.
    pub authorized_at: Timestamp,
}

/// Returns the notice of a comment, under the id by which it is withdrawn.
pub fn notice(app: &App, commented: &Commented<'_>) -> Outgoing {
    let Commented {
        author,
        commenter,
        date,
        comment,
        writer,
        authorized_at,
    } = *commented;
    let event = NoticeRaised {
        receiver: author.clone(),
        topic: "comment".to_owned(),
        data: json!({ "commenter": commenter, "date": i64::from(date), "commentId": comment }),
        about: Some(writer.clone()),
    };
    let mut envelope = Envelope::new(event, &app.context).authorized(authorized_at);
    envelope.meta.id = NoticeRaised::comment_id(author, comment);
    envelope.to_outgoing()
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SaveComment {
    src_nickname: Nickname,
    /// The nickname of the post's author.
    nickname: Nickname,
    date: DayOf,
    /// At most 500 characters, unless set otherwise.
    text: CommentText,
}

impl Actor for SaveComment {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.src_nickname.as_str())
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommentSaved {
    #[schema(example = true)]
    success: bool,
    comment_id: i64,
}

/// Comments on a post that the caller sees and that takes comments. Its author gets a notice, unless it is their own comment.
#[utoipa::path(
    post,
    path = "/saveComment",
    tag = "comment",
    request_body = SaveComment,
    responses(
        (status = 200, body = CommentSaved),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 409, description = "The post takes no comments", body = Problem),
    )
)]
pub async fn save_comment(
    State(app): State<App>,
    Act { caller, params }: Act<SaveComment>,
) -> Result<Json<CommentSaved>, Error> {
    let DayOf(day) = params.date;
    let text = params.text.check(app.settings.get().post.comment)?;
    let author = app.account_of(&params.nickname).await?.ok_or(Error::NoSuchPost)?;
    let commenter = writer(caller);
    let comment = NewComment {
        text: text.as_str(),
        is_held: app.settings.get().review.words.is_in(text.as_str()),
    };
    let notice = |comment: i64, date: PostDate| {
        (author != commenter.account).then(|| {
            let of = Commented {
                author: &author,
                commenter: params.src_nickname.as_str(),
                date,
                comment,
                writer: &commenter.account,
                authorized_at: commenter.authorized_at,
            };
            notice(&app, &of)
        })
    };
    let comment_id = app
        .store
        .comment(&commenter, &author, day, comment, &notice, app.now())
        .await?;
    app.relay.wake();
    app.metrics.comments_saved.inc();
    Ok(Json(CommentSaved {
        success: true,
        comment_id,
    }))
}

/// A comment as everybody sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShownComment {
    comment_id: i64,
    /// The commenter's present nickname.
    nickname: String,
    text: String,
    #[schema(value_type = String, format = DateTime)]
    written_at: Timestamp,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct FindComment {
    #[param(inline)]
    src_nickname: Nickname,
    /// The nickname of the post's author.
    #[param(inline)]
    nickname: Nickname,
    #[param(inline)]
    date: DayOf,
}

impl Actor for FindComment {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.src_nickname.as_str())
    }
}

/// Lists the comments on a post that the caller sees, oldest first. Comments of people in a block with the caller, and those of others with a
/// word that the caller has muted, are left out.
#[utoipa::path(
    get,
    path = "/findComment",
    tag = "comment",
    params(FindComment, CursorPage),
    responses(
        (status = 200, body = Slice<ShownComment>),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
    )
)]
pub async fn find_comment(
    State(app): State<App>,
    Act {
        caller,
        params: (params, page),
    }: Act<(FindComment, CursorPage)>,
) -> Result<Json<Slice<ShownComment>>, Error> {
    let DayOf(day) = params.date;
    let author = app.account_of(&params.nickname).await?.ok_or(Error::NoSuchPost)?;
    let list = ListName(format!("findComment,{},{}", author.as_str(), i32::from(day)));
    let paging = page.of(list, &app)?;
    let (comments, muted) = tokio::join!(
        app.store
            .comments(&caller.account, &author, day, app.today(), paging.from, paging.rows()),
        app.muted_words.of(&caller.account),
    );
    let comments = comments?.ok_or(Error::NoSuchPost)?;
    let now = app.now();
    let writers: Vec<Account> = comments.iter().map(|comment| comment.writer.clone()).collect();
    let names = app.nicknames_of(&writers).await?;
    let rows = comments.into_iter().zip(names).collect();
    Ok(Json(Slice::build(
        rows,
        &paging,
        |(comment, _)| Cursor {
            rank: 0,
            date: 0,
            id: comment.id,
        },
        |(comment, name)| {
            if comment.writer != caller.account && muted.is_in(&comment.text, now) {
                return None;
            }
            name.map(|nickname| ShownComment {
                comment_id: comment.id,
                nickname,
                text: comment.text,
                written_at: comment.written_at,
            })
        },
    )))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeleteComment {
    src_nickname: Nickname,
    comment_id: i64,
}

impl Actor for DeleteComment {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.src_nickname.as_str())
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CommentDeleted {
    #[schema(example = true)]
    result: bool,
}

/// Deletes a comment of the caller, or one on the caller's post.
#[utoipa::path(
    post,
    path = "/deleteComment",
    tag = "comment",
    request_body = DeleteComment,
    responses((status = 200, body = CommentDeleted), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn delete_comment(
    State(app): State<App>,
    Act { caller, params }: Act<DeleteComment>,
) -> Result<Json<CommentDeleted>, Error> {
    let deleted = app
        .store
        .delete_comment(&caller.account, params.comment_id, app.now())
        .await?;
    if !deleted {
        return Err(Error::NoSuchComment);
    }
    app.relay.wake();
    Ok(Json(CommentDeleted { result: true }))
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommentsUpdated {
    #[schema(example = true)]
    success: bool,
    /// Whether the post takes comments now.
    is_comment_allowed: bool,
}

/// Closes the caller's post of a day to new comments, or opens it again. Existing comments are kept.
#[utoipa::path(
    post,
    path = "/updateFeedComment",
    tag = "comment",
    request_body = OwnDay,
    responses((status = 200, body = CommentsUpdated), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn update_feed_comment(
    State(app): State<App>,
    Act { caller, params }: Act<OwnDay>,
) -> Result<Json<CommentsUpdated>, Error> {
    let DayOf(day) = params.date;
    let takes = app.store.toggle_comments(&caller.account, day, app.now()).await?;
    let is_comment_allowed = takes.ok_or(Error::NoSuchPost)?;
    app.relay.wake();
    Ok(Json(CommentsUpdated {
        success: true,
        is_comment_allowed,
    }))
}
