//! A person's own posts as files to keep, and back.

use std::future::ready;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use sosohappy_access::{Act, ActUpload, Acting, Actor, Caller};
use sosohappy_common::http::params::FilesOnly;
use sosohappy_common::text::to_portable;
use sosohappy_common::{Account, Nickname, Problem};
use sosohappy_media::{BinaryBody, ImageError, Picture};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, writer};
use crate::archive::{self, Archive, ArchivedPicture, ArchivedPost, ExportKey, InvalidArchive, Manifest, Part};
use crate::domain::{
    Category, Content, Cursor, CursorParam, ListName, NewPost, PageFrom, PageSize, Paging, Uploads, Weather,
};
use crate::error::Error;
use crate::routes::post::{give_up, upload};
use crate::store::ExportedPost;

/// Posts of one archive.
const POSTS: u32 = 100;

/// Bytes of the pictures of one archive, unless its first post has more: with its texts, an archive can be sent back in one request.
const PICTURES: u64 = 12 << 20;

/// Chunks that wait for a slow client.
const CHUNKS_AHEAD: usize = 4;

/// The `cursor` of the next archive; absent with the last one.
const NEXT_CURSOR: HeaderName = HeaderName::from_static("next-cursor");

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExportFeed {
    #[param(inline)]
    nickname: Nickname,
    /// The header `next-cursor` of the archive before; `start`, or nothing, for the first one.
    #[param(value_type = Option<String>, example = "start")]
    cursor: Option<CursorParam>,
}

impl Actor for ExportFeed {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

/// Returns the caller's posts with their pictures as a ZIP, the oldest first, signed for `import`. An account with many posts has several
/// archives: the header `next-cursor` names the next one.
#[utoipa::path(
    get,
    path = "/export",
    tag = "export",
    params(ExportFeed),
    responses(
        (status = 200, description = "The archive; `next-cursor` if another follows", content((BinaryBody = "application/zip"))),
        (status = 400, body = Problem),
    )
)]
pub async fn export_feed(State(app): State<App>, Act { caller, params }: Act<ExportFeed>) -> Result<Response, Error> {
    let list = ListName(format!("export,{}", caller.account.as_str()));
    let cursor = params.cursor.unwrap_or(CursorParam::Start);
    let paging = Paging::new(0, PageSize::default(), Some(&cursor), &app.cursors, list.clone())?;
    let after = match paging.from {
        PageFrom::After(cursor) => cursor.id,
        PageFrom::Offset(_) => 0,
    };
    let posts = app.store.posts_to_export(&caller.account, after, POSTS + 1).await?;
    let (posts, next) = first_part(&app, posts).await?;
    let key = export_key(&app).await?;
    let name = posts.first().map_or(0, |post| i32::from(post.date.day()));

    let (parts, to_write) = mpsc::channel(1);
    let (out, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let writing = spawn_blocking(move || archive::write(&key, to_write, &out));
    let account = caller.account;
    let sending = {
        let app = app.clone();
        stream::once(async move { send_parts(&app, account, posts, &parts).await })
    };
    let failed = sending.filter_map(|sent| {
        let failed = sent.err().map(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "export failed");
            Err(std::io::Error::other(error))
        });
        ready(failed)
    });
    // Both run while the client reads; a failure of either closes the connection before the end of the body.
    let mut response = Body::from_stream(stream::select(failed, body(chunks, writing))).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    let disposition = format!("attachment; filename=\"sosohappy-{name}.zip\"");
    headers.insert(header::CONTENT_DISPOSITION, header_value(disposition));
    if let Some(day) = next {
        let cursor = Cursor {
            rank: 0,
            date: 0,
            id: day,
        };
        headers.insert(NEXT_CURSOR, header_value(app.cursors.sign(&list, cursor)));
    }
    Ok(response)
}

fn header_value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits, letters and punctuation are a header value")
}

/// The posts that one archive has room for, and the day of the last one if more follow.
async fn first_part(app: &App, mut posts: Vec<ExportedPost>) -> Result<(Vec<ExportedPost>, Option<i64>), Error> {
    let (mut bytes, mut count) = (0, 0);
    for post in posts.iter().take(POSTS as usize) {
        for image in &post.images {
            bytes += app.images.size(*image).await?.unwrap_or(0);
        }
        if count > 0 && bytes > PICTURES {
            break;
        }
        count += 1;
    }
    let more = posts.len() > count;
    posts.truncate(count);
    let next = posts
        .last()
        .filter(|_| more)
        .map(|post| i32::from(post.date.day()).into());
    Ok((posts, next))
}

/// Reads one picture after the other, as fast as the client takes them.
async fn send_parts(
    app: &App,
    account: Account,
    posts: Vec<ExportedPost>,
    parts: &mpsc::Sender<Part>,
) -> Result<(), Error> {
    let mut archived = Vec::with_capacity(posts.len());
    for post in posts {
        let mut pictures = Vec::with_capacity(post.images.len());
        for (number, image) in post.images.iter().enumerate() {
            // Deleted meanwhile.
            let Some(picture) = app.images.get(*image).await? else {
                continue;
            };
            let ending = picture.content_type.strip_prefix("image/").unwrap_or("bin");
            let file = format!("pictures/{}-{}.{ending}", i32::from(post.date.day()), number + 1);
            pictures.push(ArchivedPicture::new(file.clone(), &picture.bytes));
            let bytes = picture.bytes;
            if parts.send(Part::Picture { file, bytes }).await.is_err() {
                return Ok(());
            }
        }
        archived.push(ArchivedPost {
            date: post.date,
            weather: post.weather,
            happiness: post.happiness,
            text: post.text,
            visibility: post.visibility,
            category_list: post.categories,
            picture_list: pictures,
            edited_at: post.edited_at,
            like_count: post.likes,
            comment_count: post.comments,
        });
    }
    // Fails only if the writer has ended, which reports its own error.
    let _ = parts.send(Part::End(Manifest::new(account, app.now(), archived))).await;
    Ok(())
}

/// The chunks; an error at the end unless the archive is complete.
fn body(
    chunks: mpsc::Receiver<Bytes>,
    writing: JoinHandle<Result<(), archive::WriteFailed>>,
) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::unfold(Some((chunks, writing)), async |state| {
        let (mut chunks, writing) = state?;
        if let Some(chunk) = chunks.recv().await {
            return Some((Ok(chunk), Some((chunks, writing))));
        }
        let failed = match writing.await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => std::io::Error::other(error),
            Err(error) => std::io::Error::other(error),
        };
        Some((Err(failed), None))
    })
}

async fn export_key(app: &App) -> Result<ExportKey, Error> {
    let mut fresh = [0; 32];
    app.context.entropy.fill(&mut fresh);
    Ok(ExportKey::new(app.store.export_key(fresh, app.now()).await?))
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct ImportFeed {
    nickname: Nickname,
    #[serde(default, rename = "file")]
    #[schema(ignore)]
    _file: FilesOnly,
}

/// An archive, as a form.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documents what `ImportFeed` and the file are read from")]
pub struct ImportFeedForm {
    #[serde(flatten)]
    feed: ImportFeed,
    /// A ZIP of `export`.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

impl Actor for ImportFeed {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

/// Result of an import.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedImported {
    /// Posts that were saved.
    imported: u32,
    /// Posts whose days have a post already, which stays as it is.
    kept: u32,
}

/// Saves the posts of an `export` of the caller's account on days without a post; what is there stays as it is, so that a repeated import changes
/// nothing. An archive whose signature does not fit is refused whole.
#[utoipa::path(
    post,
    path = "/import",
    tag = "export",
    request_body(content = ImportFeedForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = FeedImported),
        (status = 400, description = "Not an export, or changed since", body = Problem),
        (status = 403, body = Problem),
        (status = 413, body = Problem),
    )
)]
pub async fn import_feed(
    State(app): State<App>,
    ActUpload { caller, mut files, .. }: ActUpload<ImportFeed>,
) -> Result<Json<FeedImported>, Error> {
    let mut files = files.take("file").into_iter();
    let (Some(file), None) = (files.next(), files.next()) else {
        return Err(InvalidArchive::NotAnExport.into());
    };
    let key = export_key(&app).await?;
    let mut archive = blocking(move || Archive::open(file, &key)).await??;
    if archive.manifest.account != caller.account {
        return Err(Error::ForeignArchive);
    }
    let mut imported = FeedImported::default();
    let posts = std::mem::take(&mut archive.manifest.posts);
    let days: Vec<_> = posts.iter().map(|post| post.date.day()).collect();
    let taken = app.store.days_with_posts(&caller.account, &days).await?;
    for post in posts {
        if taken.contains(&post.date.day()) {
            imported.kept += 1;
            continue;
        }
        // Each post with its pictures by itself, so that those of one post only are in memory.
        let pictures;
        (archive, pictures) = read_pictures(archive, &post).await?;
        if save(&app, caller.clone(), post, pictures).await? {
            imported.imported += 1;
        } else {
            imported.kept += 1;
        }
    }
    if imported.imported > 0 {
        app.relay.wake();
    }
    Ok(Json(imported))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let done = spawn_blocking(work).await;
    done.map_err(|_| ImageError::Processing("shutting down").into())
}

async fn read_pictures(mut archive: Archive, post: &ArchivedPost) -> Result<(Archive, Vec<Picture>), Error> {
    let files = post.picture_list.clone();
    let read = move || {
        let pictures = files.iter().map(|file| {
            let bytes = archive.picture(file)?;
            Picture::stored(bytes).ok_or(InvalidArchive::Picture)
        });
        let pictures = pictures.collect::<Result<Vec<_>, InvalidArchive>>();
        pictures.map(|pictures| (archive, pictures))
    };
    Ok(blocking(read).await??)
}

/// Returns whether the post was saved; false when the day has one.
async fn save(app: &App, caller: Caller, post: ArchivedPost, pictures: Vec<Picture>) -> Result<bool, Error> {
    let content = Content {
        date: post.date,
        weather: Weather::try_from(to_portable(&post.weather))?,
        happiness: post.happiness,
        text: to_portable(&post.text),
        categories: post
            .category_list
            .iter()
            .map(|name| Category::try_from(to_portable(name)))
            .collect::<Result<_, _>>()?,
        visibility: post.visibility,
    };
    let bytes: Vec<Bytes> = pictures.iter().map(|picture| picture.bytes.clone()).collect();
    let uploads = blocking(move || Uploads::of(&bytes)).await?;
    let mut new = NewPost {
        author: writer(caller),
        review: content.to_review(&app.settings.get().review.words),
        content,
        images: Vec::new(),
        uploads,
        history: 0,
        key: None,
    };
    new.images = upload(app, &pictures).await?;
    let saved = app.store.save_new(&new, app.now()).await;
    if !matches!(saved, Ok(true)) {
        give_up(app, &new.images).await;
    }
    if saved? {
        app.metrics.posts_saved.inc();
        app.metrics.images_stored.inc_by(new.images.len() as u64);
        return Ok(true);
    }
    Ok(false)
}
