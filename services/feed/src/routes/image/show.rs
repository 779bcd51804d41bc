use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sosohappy_common::Problem;
use sosohappy_media::ImageId;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::app::App;
use crate::error::Error;

/// What an id names never changes, but it may go: nobody keeps it for others, or for long without asking.
const CACHED: HeaderValue = HeaderValue::from_static("private, max-age=600");

/// How a document says that a body is bytes.
struct Bytes;

impl ToSchema for Bytes {}

impl PartialSchema for Bytes {
    fn schema() -> RefOr<Schema> {
        let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(binary))
            .into()
    }
}

/// A picture as bytes. Open: who knows the id may see it.
#[utoipa::path(
    get,
    path = "/image/{imageId}",
    tag = "image",
    params(("imageId" = i64, Path, description = "From a post's `imageIdList`")),
    responses(
        (status = 200, description = "The picture", content((Bytes = "image/jpeg"), (Bytes = "image/png"), (Bytes = "image/gif"), (Bytes = "image/webp"))),
        (status = 304, description = "The copy named by If-None-Match is good"),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
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
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|tags| names(tags, &etag));

    let mut response = if known {
        let there = app.images.exists(ImageId(id)).await.map_err(Error::from)?;
        if !there {
            return Err(Error::NoSuchImage.into());
        }
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let picture = app.images.find(ImageId(id)).await.map_err(Error::from)?;
        let picture = picture.ok_or(Error::NoSuchImage)?;
        let picture = picture.stream().await.map_err(Error::from)?;
        let mut response = Body::from_stream(picture.chunks).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, picture.size.into());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(picture.content_type));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    };
    let headers = response.headers_mut();
    headers.insert(
        header::ETAG,
        HeaderValue::try_from(etag).expect("digits in quotes are a header value"),
    );
    headers.insert(header::CACHE_CONTROL, CACHED);
    Ok(response)
}

/// Whether a list of entity tags has this one; compared weakly, as RFC 9110 asks for `If-None-Match`.
fn names(tags: &HeaderValue, etag: &str) -> bool {
    tags.to_str().is_ok_and(|tags| {
        tags.split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}
