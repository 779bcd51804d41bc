//! The inbox: the notices of a person, and up to where they were read.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use sosohappy_access::Caller;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_common::http::params::comma_list;
use sosohappy_events::EventId;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::domain::is_follow;
use crate::error::Error;
use crate::names::{PresentNames, present_names};
use crate::store::{Decision, Listing, NoticeGroup, StoredNotice};

/// Likers that a group names; `date` lists all of them.
const MOST_LIKERS: u32 = 100;

/// Where a page begins: `start`, or what the answer before gave as `nextCursor`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Cursor(Option<i64>);

impl TryFrom<String> for Cursor {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "" | "start" => Ok(Self(None)),
            number => match number.parse() {
                Ok(before) if number.len() <= 18 && number.bytes().all(|byte| byte.is_ascii_digit()) => {
                    Ok(Self(Some(before)))
                }
                _ => Err("a cursor is `start` or the `nextCursor` of an earlier answer"),
            },
        }
    }
}

/// Notices on one page.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u32")]
pub struct PageSize(u32);

impl Default for PageSize {
    fn default() -> Self {
        Self(20)
    }
}

impl TryFrom<u32> for PageSize {
    type Error = &'static str;

    fn try_from(size: u32) -> Result<Self, Self::Error> {
        if (1..=50).contains(&size) {
            Ok(Self(size))
        } else {
            Err("a page has 1 to 50 notices")
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct FindNotice {
    /// `start`, then each answer's `nextCursor`.
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^(start|[0-9]{1,18})$", example = "start")]
    cursor: Option<Cursor>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 50, default = 20)]
    size: Option<PageSize>,
    /// Only the likes of the caller's post of this date, each by itself.
    #[serde(default)]
    date: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoticePage {
    content: Vec<FoundNotice>,
    /// `null` on the last page.
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundNotice {
    #[schema(example = "like")]
    topic: String,
    id: String,
    /// The number of the notice in the account's inbox; of a group, that of its newest.
    seq: i64,
    /// When it happened, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    is_read: bool,
    /// Of a like `liker`, `date`, `count` and `likers`, the newest 100 of those who like the post; of `follow` and `friend` the `follower`;
    /// else as the service that raised it wrote it.
    #[schema(value_type = Object)]
    data: Value,
}

/// Lists the caller's notices, newest first, the likes of one post as one
///
/// People are shown under their present nicknames; a notice of a resigned or blocked account is left out. A like that comes while a person pages moves its
/// post's group to the first page.
#[utoipa::path(
    get,
    path = "/findNotice",
    tag = "notice",
    params(FindNotice),
    responses(
        (status = 200, body = NoticePage),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn find_notice(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<FindNotice>,
) -> Result<Json<NoticePage>, Error> {
    let size = params.size.unwrap_or_default().0;
    let hidden = app.directory.blocked_with(&caller.account).await?;
    let listing = Listing {
        account: &caller.account,
        hidden: &hidden,
        before: params.cursor.unwrap_or_default().0.unwrap_or(i64::MAX),
        // One more says whether there is another page.
        limit: size + 1,
    };
    let mut groups = match params.date {
        Some(date) => {
            let likes = app.store.likes(&listing, date).await?;
            likes.into_iter().map(NoticeGroup::from).collect()
        }
        None => app.store.groups(&listing).await?,
    };
    let is_last = groups.len() <= size as usize;
    groups.truncate(size as usize);
    let next_cursor = groups
        .last()
        .filter(|_| !is_last)
        .map(|last| last.newest.seq.to_string());
    let read = app.store.read_until(&caller.account).await?;

    let mut content = Vec::with_capacity(groups.len());
    for group in groups {
        let likers = match (group.newest.like_date(), group.count) {
            (Some(date), 2..) => {
                let all = Listing {
                    before: i64::MAX,
                    limit: MOST_LIKERS,
                    ..listing
                };
                app.store.likes(&all, date).await?
            }
            _ => Vec::new(),
        };
        content.push((group, likers));
    }
    let notices = content
        .iter()
        .flat_map(|(group, likers)| std::iter::once(&group.newest).chain(likers));
    let actors = notices.filter_map(|notice| notice.actor.clone()).collect();
    let names = present_names(&*app.names, actors).await?;
    let content = content.into_iter();
    let content = content.filter_map(|(group, likers)| found(&group, &likers, &names, read));
    Ok(Json(NoticePage {
        content: content.collect(),
        next_cursor,
    }))
}

/// `all` are the likes of a group of several. `None` for a like or follow of an account that has no name any more.
fn found(group: &NoticeGroup, all: &[StoredNotice], names: &PresentNames, read: i64) -> Option<FoundNotice> {
    let newest = &group.newest;
    let name = |notice: &StoredNotice| names.get(notice.actor.as_ref()?).cloned();
    let data = match newest.like_date() {
        Some(date) => {
            let likers: Vec<String> = if all.is_empty() {
                name(newest).into_iter().collect()
            } else {
                all.iter().filter_map(name).collect()
            };
            json!({ "liker": likers.first()?, "date": date, "count": group.count, "likers": likers })
        }
        None if is_follow(&newest.topic) => json!({ "follower": name(newest)? }),
        None => newest.data.clone(),
    };
    Some(FoundNotice {
        topic: newest.topic.clone(),
        id: newest.id.to_string(),
        seq: newest.seq,
        at: newest.occurred_at,
        is_read: newest.seq <= read,
        data,
    })
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct ReadNotice {
    /// Everything up to this number was read.
    #[schema(value_type = u64, example = 1_700_000_001_i64)]
    seq: Seq,
}

/// A number of an inbox.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(transparent)]
pub struct Seq(u64);

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unread {
    /// Notices after `readSeq`.
    count: u64,
    /// Up to which number the notices were read; 0 when none was.
    read_seq: i64,
}

/// Marks the caller's notices up to a number as read, on all devices
///
/// A lower number than before, or one above the newest, changes nothing beyond that. Pushes of what was read that wait are not sent, and devices
/// that still show a banner of it get a push that removes it.
#[utoipa::path(
    post,
    path = "/readNotice",
    tag = "notice",
    request_body = ReadNotice,
    responses(
        (status = 200, body = Unread),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn read_notice(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<ReadNotice>,
) -> Result<Json<Unread>, Error> {
    let seq = i64::try_from(params.seq.0).unwrap_or(i64::MAX);
    let now = app.context.clock.now();
    let by = Decision {
        account: &caller.account,
        authorized_at: caller.issued_at,
        at: now,
    };
    app.store.read(&by, seq).await?;
    app.banners
        .withdraw_handled(&caller.account, Some(caller.session), now)
        .await?;
    unread(&app, &caller).await
}

/// Counts the caller's unread notices
#[utoipa::path(
    get,
    path = "/unreadCount",
    tag = "notice",
    responses((status = 200, body = Unread), (status = 503, body = Problem)),
)]
pub async fn unread_count(State(app): State<App>, caller: Caller) -> Result<Json<Unread>, Error> {
    unread(&app, &caller).await
}

async fn unread(app: &App, caller: &Caller) -> Result<Json<Unread>, Error> {
    let hidden = app.directory.blocked_with(&caller.account).await?;
    let read_seq = app.store.read_until(&caller.account).await?;
    let count = app.store.unread(&caller.account, &hidden, read_seq, None).await?;
    Ok(Json(Unread { count, read_seq }))
}

/// Banners that one call asks about.
const MOST_BANNERS: usize = 100;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandledNotice {
    /// The ids of the notices whose banners the device shows: `id` of a frame, `apns-id` of a push.
    #[serde(default, deserialize_with = "banners")]
    #[schema(value_type = Vec<String>, max_items = 100, example = json!(["0190b2f0-5e5c-7b5e-8a63-3f2f0d8e9a11"]))]
    id_list: Vec<EventId>,
}

/// Takes the ids that are ours: a device may show banners of other services.
fn banners<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<EventId>, D::Error> {
    let ids = comma_list(deserializer)?;
    if ids.len() > MOST_BANNERS {
        return Err(D::Error::custom(format!("at most {MOST_BANNERS} ids")));
    }
    Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Handled {
    /// The banners to remove.
    #[schema(value_type = Vec<String>)]
    id_list: Vec<EventId>,
}

/// Tells which banners a device no longer has to show
///
/// A device that connects again sends the ids of the banners it shows. The answer has those whose notices were read on another device or
/// withdrawn.
#[utoipa::path(
    post,
    path = "/handledNotice",
    tag = "notice",
    request_body = HandledNotice,
    responses(
        (status = 200, body = Handled),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn handled_notice(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<HandledNotice>,
) -> Result<Json<Handled>, Error> {
    let id_list = app.store.handled(&caller.account, &params.id_list).await?;
    if let Some(token) = app.store.token_of(&caller.account, caller.session).await? {
        app.banners
            .shown_on(&caller.account, &token, &params.id_list, &id_list)
            .await?;
    }
    Ok(Json(Handled { id_list }))
}
