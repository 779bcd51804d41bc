//! Pictures as HTTP responses: small widths, entity tags, ranges.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sosohappy_common::Problem;
use sosohappy_common::http::none_match_names;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::range::{self, Asked};
use crate::{ImageError, ImageId, Images, Stored, Width};

/// The schema of a body that is bytes.
#[derive(Debug)]
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

impl ToSchema for Width {}

impl PartialSchema for Width {
    fn schema() -> RefOr<Schema> {
        let widths = Width::ALL.map(Width::pixels);
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .enum_values(Some(widths))
            .into()
    }
}

/// A request for a picture.
#[derive(Debug)]
pub struct PictureRequest<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    width: Option<Width>,
    /// The entity tag of the response.
    etag: String,
}

impl<'a> PictureRequest<'a> {
    /// `id` is the one that the client knows the picture by: the bytes of one id and one width never change. Pictures that are not wider than
    /// `width`, and animations, are answered as they are.
    #[must_use]
    pub fn new(id: ImageId, width: Option<Width>, method: &'a Method, headers: &'a HeaderMap) -> Self {
        let etag = match width {
            Some(width) => format!("\"{}-w{}\"", id.0, width.pixels()),
            None => format!("\"{}\"", id.0),
        };
        Self {
            method,
            headers,
            width,
            etag,
        }
    }
}

impl Images {
    /// Answers a request with the picture, with one range of its bytes, or with 304 if the client has it; `cache` is the response's
    /// `Cache-Control`. `None` when there is no such picture.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn respond(
        &self,
        id: ImageId,
        request: &PictureRequest<'_>,
        cache: HeaderValue,
    ) -> Result<Option<Response>, ImageError> {
        let mut response = if none_match_names(request.headers, &request.etag) {
            if !self.exists(id).await? {
                return Ok(None);
            }
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let picture = match request.width {
                Some(width) => self.find_variant(id, width).await?,
                None => self.find(id).await?,
            };
            let Some(picture) = picture else { return Ok(None) };
            send(picture, request).await?
        };
        if response.status() != StatusCode::RANGE_NOT_SATISFIABLE {
            let headers = response.headers_mut();
            headers.insert(header::ETAG, header_value(request.etag.clone()));
            headers.insert(header::CACHE_CONTROL, cache);
        }
        Ok(Some(response))
    }
}

/// Answers with the picture, or with the part of it that is asked for.
async fn send(picture: Stored, request: &PictureRequest<'_>) -> Result<Response, ImageError> {
    let size = picture.size() as u64;
    let (status, range, picture) = match range::asked(request.method, request.headers, &request.etag, size) {
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
