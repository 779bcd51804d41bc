//! Pictures of posts.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use sosohappy_access::{Act, Acting, Actor, identify};
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_media::{Chunks, ImageError, ImageId, Stored, Width};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::app::App;
use crate::error::Error;
use crate::routes::conditional::none_match_names;
use crate::routes::range::{self, Asked};

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
    let mut found = look(&app, ImageId(params.image_id), None, false).await?;
    if found.is_none()
        && let Some(image) = app.legacy_image(&caller.account, params.image_id).await?
    {
        found = look(&app, image, None, false).await?;
    }
    let Some(Found::Picture(picture)) = found else {
        return Err(Error::NoSuchImage);
    };
    let picture = picture.stream().await?;
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

/// How a document says that a body is bytes.
pub struct BinaryBody;

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

/// How a document names the widths.
struct ImageWidth;

impl ToSchema for ImageWidth {}

impl PartialSchema for ImageWidth {
    fn schema() -> RefOr<Schema> {
        let widths = Width::ALL.map(Width::pixels);
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .enum_values(Some(widths))
            .into()
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ShowImage {
    /// The width of a smaller picture, in pixels. Pictures that are not wider, and animations, come as they are.
    #[param(inline, value_type = Option<ImageWidth>)]
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
    let etag = w.map_or_else(|| format!("\"{id}\""), |width| format!("\"{id}-w{}\"", width.pixels()));
    let known = none_match_names(&headers, &etag);

    let mut cached = IMMUTABLE;
    let mut found = look(&app, ImageId(id), w, known).await?;
    // An id of the legacy feed can be guessed: without a token it names nothing.
    if found.is_none()
        && let Some(caller) = identify(&app.identity, &headers).await?
        && let Some(image) = app.legacy_image(&caller.account, id).await?
    {
        cached = FOR_A_WHILE;
        found = look(&app, image, w, known).await?;
    }
    let mut response = match found.ok_or(Error::NoSuchImage)? {
        Found::Known => StatusCode::NOT_MODIFIED.into_response(),
        Found::Picture(picture) => send(*picture, &method, &headers, &etag).await?,
    };
    if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
        return Ok(response);
    }
    let headers = response.headers_mut();
    headers.insert(header::ETAG, header_value(etag));
    headers.insert(header::CACHE_CONTROL, cached);
    Ok(response)
}

/// Answers with the picture, or with the part of it that is asked for.
async fn send(picture: Stored, method: &Method, headers: &HeaderMap, etag: &str) -> Result<Response, Error> {
    let size = picture.size() as u64;
    let (status, range, picture) = match range::asked(method, headers, etag, size) {
        Asked::Whole => (StatusCode::OK, None, picture.stream().await?),
        Asked::Part(part) => {
            let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            (
                StatusCode::PARTIAL_CONTENT,
                Some(range),
                picture.stream_part(part).await?,
            )
        }
        Asked::Unsatisfiable => {
            let problem = Problem::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "no-such-range",
                "Range not satisfiable",
            );
            let mut response = problem.into_response();
            let size = header_value(format!("bytes */{size}"));
            response.headers_mut().insert(header::CONTENT_RANGE, size);
            return Ok(response);
        }
    };
    let mut response = (status, Body::from_stream(picture.chunks)).into_response();
    let headers = response.headers_mut();
    if let Some(range) = range {
        headers.insert(header::CONTENT_RANGE, header_value(range));
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, picture.size.into());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(picture.content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

fn header_value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and punctuation are a header value")
}

/// A picture, or that it is there, for a client that has it.
enum Found {
    Known,
    Picture(Box<Stored>),
}

/// Finds a picture, unless it was removed from its post: former viewers may still know the id.
async fn look(app: &App, image: ImageId, width: Option<Width>, known: bool) -> Result<Option<Found>, Error> {
    if app.store.is_discarded(image).await? {
        return Ok(None);
    }
    if known {
        return Ok(app.images.exists(image).await?.then_some(Found::Known));
    }
    let picture = match width {
        Some(width) => app.images.find_variant(image, width).await?,
        None => app.images.find(image).await?,
    };
    Ok(picture.map(|picture| Found::Picture(Box::new(picture))))
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
