//! Texts that a word of the list holds for review, for moderators.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sosohappy_access::Moderator;
use sosohappy_common::http::Params;
use sosohappy_common::{Account, Problem};
use sosohappy_events::types::{ModeratedContent, ModerationApplied, NoticeRaised, ReviewDecision};
use sosohappy_events::{Envelope, EventId, Outgoing};
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::{Cursor, ListName, PostDate, Slice};
use crate::error::Error;
use crate::routes::comment::{self, Commented};
use crate::routes::params::CursorPage;
use crate::store::{HeldComment, Release, Reviewed};

/// How long content waits, and until when it is to be decided.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    #[schema(value_type = String, format = DateTime)]
    held_at: Timestamp,
    age_seconds: i64,
    /// `review.deadline` after `heldAt`.
    #[schema(value_type = String, format = DateTime)]
    due_at: Timestamp,
    /// Whether the deadline has passed.
    is_late: bool,
}

impl Wait {
    fn new(app: &App, held_at: Timestamp) -> Self {
        let now = app.now();
        let deadline = app.settings.get().review.deadline;
        let due_at = held_at.checked_add(deadline).unwrap_or(Timestamp::MAX);
        Self {
            held_at,
            // The clock of the replica that held it may be ahead.
            age_seconds: now.duration_since(held_at).as_secs().max(0),
            due_at,
            is_late: due_at < now,
        }
    }
}

/// A post that waits for review.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldFeed {
    post_id: i64,
    /// For the decision, which is about this version of the post.
    version: String,
    nickname: String,
    #[schema(value_type = i64, example = 2_023_090_513_248_392_i64)]
    date: PostDate,
    weather: String,
    text: String,
    category_list: Vec<String>,
    image_id_list: Vec<i64>,
    #[serde(flatten)]
    wait: Wait,
}

/// A comment that waits for review.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldFeedComment {
    comment_id: i64,
    /// Nickname of the comment's writer.
    nickname: String,
    text: String,
    /// Of the post.
    #[schema(value_type = i64, example = 2_023_090_513_248_392_i64)]
    date: PostDate,
    #[serde(flatten)]
    wait: Wait,
}

/// Lists the posts with a word of `review.words` that wait for a moderator, the oldest first: their authors alone see them. For moderators.
#[utoipa::path(
    get,
    path = "/admin/heldFeed",
    tag = "moderation",
    params(CursorPage),
    responses((status = 200, body = Slice<HeldFeed>), (status = 400, body = Problem))
)]
pub async fn find_held_feed(
    State(app): State<App>,
    _moderator: Moderator,
    Params(page): Params<CursorPage>,
) -> Result<Json<Slice<HeldFeed>>, Error> {
    let paging = page.of(ListName("heldFeed".to_owned()), &app)?;
    let posts = app.store.held_posts(paging.from, paging.rows()).await?;
    let authors: Vec<Account> = posts.iter().map(|post| post.author.clone()).collect();
    let names = app.names.nicknames_of(&authors).await?;
    Ok(Json(Slice::build(
        posts.into_iter().zip(names).collect(),
        &paging,
        |(post, _)| cursor(post.held_at, post.id),
        |(post, name)| {
            name.map(|nickname| HeldFeed {
                post_id: post.id,
                version: URL_SAFE_NO_PAD.encode(&post.version),
                nickname,
                date: post.date,
                weather: post.weather,
                text: post.text,
                category_list: post.categories,
                image_id_list: post.images.into_iter().map(|image| image.0).collect(),
                wait: Wait::new(&app, post.held_at),
            })
        },
    )))
}

/// Lists the comments that wait for a moderator, as `admin/heldFeed`. For moderators.
#[utoipa::path(
    get,
    path = "/admin/heldComment",
    tag = "moderation",
    params(CursorPage),
    responses((status = 200, body = Slice<HeldFeedComment>), (status = 400, body = Problem))
)]
pub async fn find_held_comment(
    State(app): State<App>,
    _moderator: Moderator,
    Params(page): Params<CursorPage>,
) -> Result<Json<Slice<HeldFeedComment>>, Error> {
    let paging = page.of(ListName("heldComment".to_owned()), &app)?;
    let comments = app.store.held_comments(paging.from, paging.rows()).await?;
    let writers: Vec<Account> = comments.iter().map(|comment| comment.writer.clone()).collect();
    let names = app.names.nicknames_of(&writers).await?;
    Ok(Json(Slice::build(
        comments.into_iter().zip(names).collect(),
        &paging,
        |(comment, _)| cursor(comment.held_at, comment.id),
        |(comment, name)| {
            name.map(|nickname| HeldFeedComment {
                comment_id: comment.id,
                nickname,
                text: comment.text,
                date: comment.date,
                wait: Wait::new(&app, comment.held_at),
            })
        },
    )))
}

fn cursor(held_at: Timestamp, id: i64) -> Cursor {
    Cursor {
        rank: 0,
        date: held_at.as_millisecond(),
        id,
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecideHeldFeed {
    post_id: i64,
    /// From `admin/heldFeed`.
    version: String,
    /// Whether others may see it.
    accepted: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecideHeldComment {
    comment_id: i64,
    /// Whether others may see it.
    accepted: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct HeldDecided {
    #[schema(example = true)]
    success: bool,
}

/// Releases a held post, or refuses it: then its author alone goes on seeing it. The author gets a notice `moderation`, and auth adds the decision
/// to its audit. Not about one's own post. For moderators.
#[utoipa::path(
    post,
    path = "/admin/decideHeldFeed",
    tag = "moderation",
    request_body = DecideHeldFeed,
    responses(
        (status = 200, body = HeldDecided),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 409, description = "The post was changed since it was listed", body = Problem),
    )
)]
pub async fn decide_held_feed(
    State(app): State<App>,
    Moderator(moderator): Moderator,
    Params(asked): Params<DecideHeldFeed>,
) -> Result<Json<HeldDecided>, Error> {
    let version = URL_SAFE_NO_PAD.decode(&asked.version).map_err(|_| Error::HeldChanged)?;
    let release = Release {
        moderator: &moderator.account,
        is_released: asked.accepted,
    };
    let events = |author: &Account, date: PostDate, _: Option<&HeldComment>| {
        let data = json!({ "action": action(asked.accepted), "kind": "post", "date": i64::from(date) });
        let content = ModeratedContent::Post { date: date.into() };
        vec![notice(&app, author, data), decided(&app, author, &release, content)]
    };
    let outcome = app
        .store
        .decide_post(asked.post_id, &version, &release, &events, app.now())
        .await?;
    answer(&app, outcome)
}

/// Releases a held comment, or refuses it, as `admin/decideHeldFeed`. The author of the post gets the notice of the comment when it is released.
/// For moderators.
#[utoipa::path(
    post,
    path = "/admin/decideHeldComment",
    tag = "moderation",
    request_body = DecideHeldComment,
    responses((status = 200, body = HeldDecided), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn decide_held_comment(
    State(app): State<App>,
    Moderator(moderator): Moderator,
    Params(asked): Params<DecideHeldComment>,
) -> Result<Json<HeldDecided>, Error> {
    let release = Release {
        moderator: &moderator.account,
        is_released: asked.accepted,
    };
    let names = app.store.held_comment_writer(asked.comment_id).await?;
    let Some(writer) = names else {
        return Err(Error::NothingHeld);
    };
    // A writer who has resigned meanwhile has no comment any more.
    let nickname = app.names.nicknames_of(&[writer]).await?.pop().flatten();
    let nickname = nickname.ok_or(Error::NothingHeld)?;
    let events = |writer: &Account, _: PostDate, held: Option<&HeldComment>| {
        let data = json!({ "action": action(asked.accepted), "kind": "comment", "commentId": asked.comment_id });
        let content = ModeratedContent::Comment {
            comment: asked.comment_id,
        };
        let mut events = vec![notice(&app, writer, data), decided(&app, writer, &release, content)];
        if let Some(held) = held.filter(|held| asked.accepted && held.author != held.writer) {
            let commented = Commented {
                author: &held.author,
                commenter: &nickname,
                date: held.date,
                comment: held.id,
                writer,
                authorized_at: held.authorized_at,
            };
            events.push(comment::notice(&app, &commented));
        }
        events
    };
    let outcome = app
        .store
        .decide_comment(asked.comment_id, &release, &events, app.now())
        .await?;
    answer(&app, outcome)
}

fn action(accepted: bool) -> &'static str {
    if accepted { "released" } else { "refused" }
}

fn notice(app: &App, receiver: &Account, data: serde_json::Value) -> Outgoing {
    let event = NoticeRaised {
        receiver: receiver.clone(),
        topic: "moderation".to_owned(),
        data,
        about: None,
    };
    Envelope::new(event, &app.context).to_outgoing()
}

/// The event by which auth adds the decision to its audit.
fn decided(app: &App, author: &Account, release: &Release<'_>, content: ModeratedContent) -> Outgoing {
    let event = ModerationApplied {
        author: author.clone(),
        service: app.context.service.to_owned(),
        order: EventId(app.context.entropy.uuid()),
        decision: Some(ReviewDecision {
            moderator: release.moderator.clone(),
            accepted: release.is_released,
            content,
        }),
        outcome: None,
    };
    Envelope::new(event, &app.context).to_outgoing()
}

fn answer(app: &App, outcome: Reviewed) -> Result<Json<HeldDecided>, Error> {
    match outcome {
        Reviewed::Decided => {
            app.relay.wake();
            Ok(Json(HeldDecided { success: true }))
        }
        Reviewed::NothingHeld => Err(Error::NothingHeld),
        Reviewed::Changed => Err(Error::HeldChanged),
        Reviewed::OwnContent => Err(Error::OwnContent),
    }
}
