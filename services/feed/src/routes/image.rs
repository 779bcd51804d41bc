//! Pictures of posts.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use sosohappy_access::{Act, Acting, Actor, identify};
use sosohappy_common::Problem;
use sosohappy_media::{Chunks, ImageError, ImageId, Stored};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::app::App;
use crate::error::Error;
use crate::routes::conditional::none_match_names;

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

/// A picture as text.
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
    let mut picture = app.images.find(ImageId(params.image_id)).await?;
    if picture.is_none()
        && let Some(image) = app.legacy_image(&caller.account, params.image_id).await?
    {
        picture = app.images.find(image).await?;
    }
    let picture = picture.ok_or(Error::NoSuchImage)?.stream().await?;
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((json, Body::from_stream(as_json(picture.chunks))).into_response())
}

/// The JSON around a picture's Base64, which needs no escapes, as it comes: a picture is never in memory as a whole.
fn as_json(chunks: Chunks) -> impl Stream<Item = Result<Bytes, ImageError>> + Send {
    let begin = stream::iter([Ok(Bytes::from_static(br#"{"image":""#))]);
    // Three bytes are four letters: what is over waits for the next chunk.
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

/// What an id names never changes, but it may go: nobody keeps it for others, or for long without asking.
const CACHED: HeaderValue = HeaderValue::from_static("private, max-age=600");

/// How a document says that a body is bytes.
struct BinaryBody;

impl ToSchema for BinaryBody {}

impl PartialSchema for BinaryBody {
    fn schema() -> RefOr<Schema> {
        let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(binary))
            .into()
    }
}

/// A picture as bytes. Open: who knows the id may see it. An id of the legacy feed, for as long as it is known, needs the headers of a closed call.
#[utoipa::path(
    get,
    path = "/image/{imageId}",
    tag = "image",
    params(("imageId" = i64, Path, description = "From a post's `imageIdList`")),
    responses(
        (status = 200, description = "The picture", content((BinaryBody = "image/jpeg"), (BinaryBody = "image/png"), (BinaryBody = "image/gif"), (BinaryBody = "image/webp"))),
        (status = 304, description = "The copy named by If-None-Match is good"),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn show_image(
    State(app): State<App>,
    Path(image): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id: i64 = image
        .parse()
        .map_err(|_| Problem::invalid_parameter("imageId: an image id is an integer"))?;
    let etag = format!("\"{id}\"");
    let known = none_match_names(&headers, &etag);

    let mut found = look(&app, ImageId(id), known).await?;
    // An id of the legacy feed can be guessed: without a token it names nothing.
    if found.is_none()
        && let Some(caller) = identify(&app.identity, &headers).await?
        && let Some(image) = app.legacy_image(&caller.account, id).await?
    {
        found = look(&app, image, known).await?;
    }
    let mut response = match found.ok_or(Error::NoSuchImage)? {
        Found::Known => StatusCode::NOT_MODIFIED.into_response(),
        Found::Picture(picture) => {
            let picture = picture.stream().await.map_err(Error::from)?;
            let mut response = Body::from_stream(picture.chunks).into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_LENGTH, picture.size.into());
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(picture.content_type));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(
        header::ETAG,
        HeaderValue::try_from(etag).expect("digits in quotes are a header value"),
    );
    headers.insert(header::CACHE_CONTROL, CACHED);
    Ok(response)
}

/// A picture, or that it is there, for a client that has it.
enum Found {
    Known,
    Picture(Stored),
}

async fn look(app: &App, image: ImageId, known: bool) -> Result<Option<Found>, Error> {
    if known {
        return Ok(app.images.exists(image).await?.then_some(Found::Known));
    }
    Ok(app.images.find(image).await?.map(Found::Picture))
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
