//! Pictures of posts.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use sosohappy_access::{Act, Acting, Actor, identify};
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_media::{BinaryBody, Chunks, ImageError, ImageId, PictureRequest, Stored, Width};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::Error;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindFeedImage {
    image_id: i64,
}

impl Actor for FindFeedImage {
    fn acting(&self) -> Acting<'_> {
        Acting::Caller
    }
}

#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it is written as a stream; this is what it looks like")]
pub struct FeedImage {
    /// Base64.
    image: String,
}

/// Returns a picture as text.
#[utoipa::path(
    post,
    path = "/findFeedImage",
    tag = "image",
    request_body = FindFeedImage,
    responses((status = 200, body = FeedImage), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn find_feed_image(
    State(app): State<App>,
    Act { params, caller, .. }: Act<FindFeedImage>,
) -> Result<Response, Error> {
    let mut found = find(&app, ImageId(params.image_id)).await?;
    if found.is_none()
        && let Some(image) = app.legacy_image(&caller.account, params.image_id).await?
    {
        found = find(&app, image).await?;
    }
    let picture = found.ok_or(Error::NoSuchImage)?.stream().await?;
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((json, Body::from_stream(as_json(picture.chunks))).into_response())
}

/// The JSON around a picture's Base64, which needs no escapes, as it comes: a picture is never in memory as a whole.
fn as_json(chunks: Chunks) -> impl Stream<Item = Result<Bytes, ImageError>> + Send {
    let begin = stream::iter([Ok(Bytes::from_static(br#"{"image":""#))]);
    // Three bytes are four letters: remaining bytes wait for the next chunk.
    let letters = chunks
        .map(Some)
        .chain(stream::iter([None]))
        .scan(Vec::new(), |over: &mut Vec<u8>, chunk| {
            let letters = match chunk {
                Some(Ok(chunk)) => {
                    over.extend_from_slice(&chunk);
                    let whole = over.len() - over.len() % 3;
                    Ok(STANDARD.encode(over.drain(..whole).as_slice()).into())
                }
                Some(Err(error)) => Err(error),
                None => Ok((STANDARD.encode(&over) + r#""}"#).into()),
            };
            std::future::ready(Some(letters))
        });
    begin.chain(letters)
}

/// The picture of an id never changes. Only its reader's own cache keeps it: the audience of the picture can change.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

/// For ids of the legacy feed, which name a picture for a while.
const FOR_A_WHILE: HeaderValue = HeaderValue::from_static("private, max-age=600");

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ShowImage {
    /// The width of a smaller picture, in pixels. Pictures that are not wider, and animations, come as they are.
    #[param(inline)]
    w: Option<Width>,
}

/// Returns a picture as bytes. Needs no token: the id is the permission. An id of the legacy feed, for as long as it is known, needs the
/// headers of a closed call. One range of bytes is answered (RFC 9110 section 14).
#[utoipa::path(
    get,
    path = "/image/{imageId}",
    tag = "image",
    params(("imageId" = i64, Path, description = "From a post's `imageIdList`"), ShowImage),
    responses(
        (status = 200, description = "The picture", content((BinaryBody = "image/jpeg"), (BinaryBody = "image/png"), (BinaryBody = "image/gif"), (BinaryBody = "image/webp"))),
        (status = 206, description = "The part named by Range", content((BinaryBody = "image/jpeg"), (BinaryBody = "image/png"), (BinaryBody = "image/gif"), (BinaryBody = "image/webp"))),
        (status = 304, description = "The copy named by If-None-Match is good"),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 416, description = "The picture has no such part; Content-Range has its size", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn show_image(
    State(app): State<App>,
    Path(image): Path<String>,
    method: Method,
    headers: HeaderMap,
    Params(ShowImage { w }): Params<ShowImage>,
) -> Result<Response, Problem> {
    let id: i64 = image
        .parse()
        .map_err(|_| Problem::invalid_parameter("imageId: an image id is an integer"))?;
    let request = PictureRequest::new(ImageId(id), w, &method, &headers);
    let mut response = respond(&app, ImageId(id), &request, IMMUTABLE).await?;
    // An id of the legacy feed can be guessed: without a token it names nothing.
    if response.is_none()
        && let Some(caller) = identify(&app.identity, &headers).await?
        && let Some(image) = app.legacy_image(&caller.account, id).await?
    {
        response = respond(&app, image, &request, FOR_A_WHILE).await?;
    }
    Ok(response.ok_or(Error::NoSuchImage)?)
}

/// `None` also for a picture that was removed from its post: former viewers may still know the id.
async fn respond(
    app: &App,
    image: ImageId,
    request: &PictureRequest<'_>,
    cache: HeaderValue,
) -> Result<Option<Response>, Error> {
    if app.store.is_discarded(image).await? {
        return Ok(None);
    }
    Ok(app.images.respond(image, request, cache).await?)
}

/// As [`respond`], the picture as it is stored.
async fn find(app: &App, image: ImageId) -> Result<Option<Stored>, Error> {
    if app.store.is_discarded(image).await? {
        return Ok(None);
    }
    Ok(app.images.find(image).await?)
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn base64_comes_out_whole_however_the_chunks_fall() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for size in [1, 2, 3, 4, 7, 999, 1000] {
            let chunks: Vec<_> = bytes
                .chunks(size)
                .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
                .collect();
            let written: Vec<Bytes> = as_json(stream::iter(chunks).boxed()).try_collect().await.unwrap();
            let expected = format!(r#"{{"image":"{}"}}"#, STANDARD.encode(&bytes));
            assert_eq!(written.concat(), expected.as_bytes(), "chunks of {size}");
        }
        let nothing: Vec<Bytes> = as_json(stream::iter([]).boxed()).try_collect().await.unwrap();
        assert_eq!(nothing.concat(), br#"{"image":""}"#);
    }
}
