use std::time::Duration;

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use sosohappy_access::{ActUpload, Acting, Actor};
use sosohappy_common::Problem;
use sosohappy_common::http::params::{FilesOnly, comma_list};
use sosohappy_media::{ImageId, Picture};
use utoipa::ToSchema;

use crate::app::{App, writer};
use crate::domain::post::InvalidPost;
use crate::domain::{Category, Draft, NewPost, Nickname, PostDate, Weather};
use crate::error::Error;

/// Longer than any request may take; pictures that are in no post then are garbage.
const RESERVATION: Duration = Duration::from_mins(10);

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SaveFeed {
    nickname: Nickname,
    /// The hour and the minute exist.
    date: PostDate,
    weather: Weather,
    #[schema(example = 5)]
    happiness: i32,
    /// At most 24 different ones, unless set otherwise.
    #[serde(deserialize_with = "categories")]
    #[schema(min_items = 1, example = json!(["coffee", "friends"]))]
    category_list: Vec<Category>,
    /// At most 10,000 characters, unless set otherwise.
    text: String,
    is_public: bool,
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
    /// JPEG, PNG, GIF or WebP; at most 10 of them, unless set otherwise.
    #[schema(rename = "imageList", value_type = Vec<String>, format = Binary, required = false)]
    image_list: Vec<Vec<u8>>,
}

impl Actor for SaveFeed {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

fn categories<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Category>, D::Error> {
    let names = comma_list(deserializer)?;
    names
        .into_iter()
        .map(|name| Category::try_from(name).map_err(serde::de::Error::custom))
        .collect()
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Saved {
    #[schema(example = true)]
    success: bool,
    #[schema(example = "등록 성공")]
    message: &'static str,
}

/// Saves the post of a day; one that is there already is replaced, and keeps its likes.
#[utoipa::path(
    post,
    path = "/saveFeed",
    tag = "post",
    request_body(content((SaveFeedForm = "multipart/form-data"), (SaveFeed = "application/x-www-form-urlencoded"), (SaveFeed = "application/json"))),
    responses((status = 200, body = Saved), (status = 400, body = Problem), (status = 413, body = Problem))
)]
pub async fn save_feed(
    State(app): State<App>,
    ActUpload {
        caller,
        params,
        mut files,
    }: ActUpload<SaveFeed>,
) -> Result<Json<Saved>, Error> {
    let settings = app.settings.get();
    let draft = Draft {
        date: params.date,
        weather: params.weather,
        happiness: params.happiness,
        text: params.text,
        categories: params.category_list,
        is_public: params.is_public,
    };
    let draft = draft.check(&settings.post)?;
    let pictures = inspect(&app, files.take("imageList"))?;

    let images = upload(&app, &pictures).await?;
    let post = NewPost {
        author: writer(caller),
        draft,
        images,
    };
    let saved = app.store.save(&post, app.now()).await;
    if let Err(error) = saved {
        give_up(&app, &post.images).await;
        return Err(error.into());
    }
    app.metrics.posts_saved.inc();
    app.metrics.images_stored.inc_by(post.images.len() as u64);
    app.garbage.wake();
    Ok(Json(Saved {
        success: true,
        message: "등록 성공",
    }))
}

fn inspect(app: &App, parts: Vec<Bytes>) -> Result<Vec<Picture>, Error> {
    let settings = app.settings.get();
    if parts.len() > settings.post.images {
        return Err(InvalidPost::TooManyImages(settings.post.images).into());
    }
    let inspect = |bytes| {
        Ok(Picture::inspect(
            bytes,
            settings.images.max_bytes,
            settings.images.max_pixels,
        )?)
    };
    parts.into_iter().map(inspect).collect()
}

/// Stores the pictures under ids that are written down first, so that whatever happens on the way none is left over.
async fn upload(app: &App, pictures: &[Picture]) -> Result<Vec<ImageId>, Error> {
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
async fn give_up(app: &App, images: &[ImageId]) {
    match app.store.give_up(images, app.now()).await {
        Ok(()) => app.garbage.wake(),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "deleting images of failed post failed; reservation will expire");
        }
    }
}
