//! A person's own posts.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures::future::try_join_all;
use http::HeaderMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Act, ActUpload, Acting, Actor};
use sosohappy_common::http::params::FilesOnly;
use sosohappy_common::{Nickname, Problem};
use sosohappy_media::{ImageError, ImageId, Picture};
use sosohappy_store::StoreError;
use utoipa::ToSchema;

use crate::app::{App, writer};
use crate::copies::{self, RESERVATION};
use crate::domain::post::InvalidPost;
use crate::domain::{
    Category, Content, DayOf, Days, IdempotencyKey, KeyedRequest, MonthOf, NewPost, OwnPost, PostDate, Uploads,
    Visibility, Weather,
};
use crate::error::Error;
use crate::routes::conditional::conditional;
use crate::routes::params::{OwnDay, OwnMonth, categories};
use crate::store::{self, Toggled, VisibilityChange};

/// A post as its author sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnFeed {
    nickname: String,
    #[schema(example = "sunny")]
    weather: String,
    #[schema(value_type = i64, example = 2_023_090_513_248_392_i64)]
    date: PostDate,
    #[schema(example = 5)]
    happiness: i32,
    text: String,
    is_public: bool,
    /// `friends` where only friends see the post; left out where `isPublic` says who sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    visibility: Option<Visibility>,
    /// True while the post is hidden from everybody else, by a moderator or because its text waits for review; left out otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    is_hidden: bool,
    category_list: Vec<String>,
    image_id_list: Vec<i64>,
    like_nickname_list: Vec<String>,
    /// When the post was last edited; its earlier versions are in `findFeedHistory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    edited_at: Option<Timestamp>,
}

/// The posts with the present nicknames of their likers; resigned accounts are left out.
async fn show(app: &App, nickname: &Nickname, posts: Vec<OwnPost>) -> Result<Vec<OwnFeed>, Error> {
    let likers: Vec<_> = posts.iter().flat_map(|post| post.likers.iter().cloned()).collect();
    let mut names = app.nicknames_of(&likers).await?.into_iter();
    let shown = posts.into_iter().map(|post| OwnFeed {
        nickname: nickname.as_str().to_owned(),
        weather: post.weather,
        date: post.date,
        happiness: post.happiness,
        text: post.text,
        is_public: post.visibility.is_public(),
        visibility: (post.visibility == Visibility::Friends).then_some(post.visibility),
        is_hidden: post.is_hidden,
        category_list: post.categories,
        image_id_list: post.images.into_iter().map(|image| image.0).collect(),
        like_nickname_list: names.by_ref().take(post.likers.len()).flatten().collect(),
        edited_at: post.edited_at,
    });
    Ok(shown.collect())
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SaveFeed {
    nickname: Nickname,
    /// The hour and the minute exist; at most tomorrow, in the time zone where days begin first (UTC+14). Others see a post from its day on.
    date: PostDate,
    weather: Weather,
    #[schema(example = 5)]
    happiness: i32,
    /// At most 24 different ones, unless set otherwise.
    #[serde(deserialize_with = "categories")]
    #[schema(min_items = 1, example = json!(["coffee", "friends"]))]
    category_list: Vec<Category>,
    /// At most 10,000 characters, unless set otherwise; empty when it is left out.
    #[serde(default)]
    text: String,
    is_public: bool,
    /// Audience of the post: takes precedence over `isPublic`, which knows only `public` and `private`.
    visibility: Option<Visibility>,
    #[serde(default, rename = "imageList")]
    #[schema(ignore)]
    _image_list: FilesOnly,
}

/// A post with its pictures, as the app sends it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documents what `SaveFeed` and the files are read from")]
pub struct SaveFeedForm {
    #[serde(flatten)]
    feed: SaveFeed,
    /// JPEG, PNG, GIF, WebP or HEIC; at most 10 of them, unless set otherwise.
    #[schema(rename = "imageList", value_type = Vec<String>, format = Binary, required = false)]
    image_list: Vec<Vec<u8>>,
}

impl Actor for SaveFeed {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Saved {
    #[schema(example = true)]
    success: bool,
    #[schema(example = "등록 성공")]
    message: &'static str,
}

/// Saves the post of a day; one that is there already is replaced, and keeps its likes. A save that is repeated is answered as the first one
/// and changes nothing: any save while the post is as it left it, and for a day any save with an `Idempotency-Key`, even if the post was changed since.
#[utoipa::path(
    post,
    path = "/saveFeed",
    tag = "post",
    params((
        "Idempotency-Key" = Option<String>,
        Header,
        description = "Names this save, in quotes or bare: 1 to 128 printable ASCII characters. A retry with the same key waits for a save in progress",
        example = "\"8e03978e-40d5-43e8-bc93-6894a57f9324\""
    )),
    request_body(content((SaveFeedForm = "multipart/form-data"), (SaveFeed = "application/x-www-form-urlencoded"), (SaveFeed = "application/json"))),
    responses(
        (status = 200, body = Saved),
        (status = 400, body = Problem),
        (status = 413, body = Problem),
        (status = 422, description = "The Idempotency-Key was used for another save", body = Problem),
    )
)]
pub async fn save_feed(
    State(app): State<App>,
    headers: HeaderMap,
    ActUpload {
        caller,
        params,
        mut files,
    }: ActUpload<SaveFeed>,
) -> Result<Json<Saved>, Error> {
    let settings = app.settings.get();
    let content = Content {
        date: params.date,
        weather: params.weather,
        happiness: params.happiness,
        text: params.text,
        categories: params.category_list,
        visibility: Visibility::asked(params.visibility, params.is_public),
    };
    let content = content.check(&settings.post, app.today())?;
    let review = content.to_review(&settings.review.words);
    let key = IdempotencyKey::of(&headers)?;
    let files = files.take("imageList");
    let uploads = digest(files.clone()).await?;
    let expires_at = app.now() + settings.post.idempotency_keys;
    let mut post = NewPost {
        author: writer(caller),
        key: key.map(|key| KeyedRequest {
            key,
            request: content.digest(uploads.as_ref()),
            expires_at,
        }),
        content,
        review,
        images: Vec::new(),
        uploads,
        history: settings.post.history,
    };
    // Before the pictures are decoded and stored, which costs much more.
    if uploads.is_some() && app.store.repeat(&post, app.now()).await? {
        return Ok(Json(Saved::SUCCESS));
    }
    post.images = upload(&app, &sanitize(&app, files).await?).await?;
    let saved = app.store.save(&post, app.now()).await;
    if !matches!(saved, Ok(store::Saved::Stored)) {
        give_up(&app, &post.images).await;
    }
    if saved? == store::Saved::Stored {
        app.relay.wake();
        app.metrics.posts_saved.inc();
        app.metrics.images_stored.inc_by(post.images.len() as u64);
        app.garbage.wake();
    }
    Ok(Json(Saved::SUCCESS))
}

impl Saved {
    const SUCCESS: Self = Self {
        success: true,
        message: "등록 성공",
    };
}

async fn digest(pictures: Vec<Bytes>) -> Result<Option<Uploads>, Error> {
    if pictures.is_empty() {
        return Ok(None);
    }
    let digest = tokio::task::spawn_blocking(move || Uploads::of(&pictures)).await;
    digest.map_err(|_| ImageError::Processing("shutting down").into())
}

/// One after the other: of an upload's pictures one at a time is decoded.
async fn sanitize(app: &App, parts: Vec<Bytes>) -> Result<Vec<Picture>, Error> {
    let settings = app.settings.get();
    if parts.len() > settings.post.images {
        return Err(InvalidPost::TooManyImages(settings.post.images).into());
    }
    let bounds = settings.images.bounds();
    let mut pictures = Vec::with_capacity(parts.len());
    for bytes in parts {
        pictures.push(app.images.sanitize(bytes, bounds).await?);
    }
    Ok(pictures)
}

/// Stores the pictures under ids that are written down first, so that whatever happens on the way none is left over.
pub async fn upload(app: &App, pictures: &[Picture]) -> Result<Vec<ImageId>, Error> {
    if pictures.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = pictures.iter().map(|_| app.images.new_id()).collect();
    app.store.reserve(&ids, app.now() + RESERVATION).await?;
    // Where one fails the others may still be on their way: they all wait for the reservation to end.
    try_join_all(
        ids.iter()
            .zip(pictures)
            .map(|(id, picture)| app.images.put_as(*id, picture)),
    )
    .await?;
    Ok(ids)
}

/// At once rather than when the reservation ends; that will do where this fails.
pub async fn give_up(app: &App, images: &[ImageId]) {
    if images.is_empty() {
        return;
    }
    match app.store.give_up(images, app.now()).await {
        Ok(()) => app.garbage.wake(),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "deleting images of failed post failed; reservation will expire");
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FeedDeleted {
    #[schema(example = true)]
    result: bool,
}

/// Deletes the caller's post of a day, its likes and its pictures.
#[utoipa::path(
    post,
    path = "/deleteFeed",
    tag = "post",
    request_body = OwnDay,
    responses((status = 200, body = FeedDeleted), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn delete_feed(
    State(app): State<App>,
    Act { caller, params }: Act<OwnDay>,
) -> Result<Json<FeedDeleted>, Error> {
    let DayOf(day) = params.date;
    if !app.store.delete(&caller.account, day, app.now()).await? {
        return Err(Error::NoSuchPost);
    }
    app.relay.wake();
    app.garbage.wake();
    Ok(Json(FeedDeleted { result: true }))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct StatusUpdated {
    #[schema(example = true)]
    success: bool,
    #[schema(example = "업데이트 성공")]
    message: &'static str,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct UpdatePublicStatus {
    nickname: Nickname,
    date: DayOf,
    /// Audience of the post from now on. Left out, a public post becomes private and any other public.
    visibility: Option<Visibility>,
}

impl Actor for UpdatePublicStatus {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

/// Makes the caller's post of a day public or private, or sets its audience. The pictures of a post that fewer people see than before get new ids.
#[utoipa::path(
    post,
    path = "/updatePublicStatus",
    tag = "post",
    request_body = UpdatePublicStatus,
    responses((status = 200, body = StatusUpdated), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn update_public_status(
    State(app): State<App>,
    Act { caller, params }: Act<UpdatePublicStatus>,
) -> Result<Json<StatusUpdated>, Error> {
    let DayOf(day) = params.date;
    for _ in 0..TOGGLES {
        let found = app.store.visibility(&caller.account, day).await?;
        let (from, images) = found.ok_or(Error::NoSuchPost)?;
        let to = params.visibility.unwrap_or(from.toggled());
        let copies = if from.narrows_to(to) {
            copies::make(app.store.as_ref(), &app.images, &images, app.now()).await?
        } else {
            Vec::new()
        };
        let change = VisibilityChange {
            from,
            to,
            copies,
            words: app.settings.get().review.words.clone(),
        };
        let toggled = app.store.set_visibility(&caller.account, day, &change, app.now()).await;
        if !matches!(toggled, Ok(Toggled::Done)) {
            let new: Vec<_> = change.copies.iter().map(|copied| copied.new).collect();
            give_up(&app, &new).await;
        }
        match toggled? {
            Toggled::Done => {
                app.relay.wake();
                app.garbage.wake();
                return Ok(Json(StatusUpdated {
                    success: true,
                    message: "업데이트 성공",
                }));
            }
            Toggled::NoPost => return Err(Error::NoSuchPost),
            Toggled::Changed => {}
        }
    }
    Err(StoreError::Retry(anyhow::anyhow!("the post changed each time it was to be toggled")).into())
}

/// Tries of one toggle, of which each but the last has met another write to the post.
const TOGGLES: usize = 5;

/// Returns the caller's post of a day. The answer has a strong `ETag`; with `If-None-Match`, an unchanged post is answered 304.
#[utoipa::path(
    post,
    path = "/findDayFeed",
    tag = "post",
    request_body = OwnDay,
    responses(
        (status = 200, description = "The post; an empty body, without a media type, when there is none", body = OwnFeed),
        (status = 304, description = "The copy named by If-None-Match is good"),
        (status = 400, body = Problem),
    )
)]
pub async fn find_day_feed(
    State(app): State<App>,
    headers: HeaderMap,
    Act { caller, params }: Act<OwnDay>,
) -> Result<Response, Error> {
    let DayOf(day) = params.date;
    let posts = app.store.own(&caller.account, Days { first: day, last: day }).await?;
    let post = show(&app, &params.nickname, posts).await?.pop();
    Ok(conditional(&headers, post.as_ref()))
}

/// One's own posts of a month, newest first. The answer has a strong `ETag`; with `If-None-Match`, a read of what has not changed is
/// answered 304.
#[utoipa::path(
    post,
    path = "/findMonthFeed",
    tag = "post",
    request_body = OwnMonth,
    responses(
        (status = 200, body = Vec<OwnFeed>),
        (status = 304, description = "The copy named by If-None-Match is good"),
        (status = 400, body = Problem),
    )
)]
pub async fn find_month_feed(
    State(app): State<App>,
    headers: HeaderMap,
    Act { caller, params }: Act<OwnMonth>,
) -> Result<Response, Error> {
    let MonthOf(month) = params.date;
    let posts = app.store.own(&caller.account, month.into()).await?;
    let posts = show(&app, &params.nickname, posts).await?;
    Ok(conditional(&headers, Some(&posts)))
}
