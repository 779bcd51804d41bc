//! Reads a request into a tree of parameters and a list of files.

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::content_type::{boundary, essence, is_json};
use super::fields::{Fields, TEXT_LIMIT, check_count, check_name};
use super::file::{File, FileParts};
use super::multipart::{self, Bounds};
use super::upload_buffer::UploadBuffer;
use crate::http::Problem;
use crate::http::body_limit::{BodyLimits, Reservation, read_failed, too_large};
use crate::http::request_limits::RequestLimits;

#[derive(Debug, Default)]
pub(super) struct Read {
    pub tree: Value,
    pub files: Vec<File>,
    /// The share in the memory for large bodies; `None` without a body.
    pub reservation: Option<Reservation>,
}

pub(super) async fn read(request: Request, keep: FileParts) -> Result<Read, Problem> {
    let (parts, body) = request.into_parts();
    let mut fields = Fields::default();
    fields.add_encoded(parts.uri.query().unwrap_or_default().as_bytes())?;
    let mut tree = fields.into_tree();
    let mut read = Read::default();
    if !body.is_end_stream() {
        let limit = RequestLimits::body_of(&parts.extensions);
        let (over, files, reservation) = read_body(&parts.headers, body, &limit, keep).await?;
        tree.extend(over);
        read.files = files;
        read.reservation = Some(reservation);
    }
    read.tree = Value::Object(tree);
    Ok(read)
}

async fn read_body(
    headers: &HeaderMap,
    body: Body,
    limit: &BodyLimits,
    keep: FileParts,
) -> Result<(Map<String, Value>, Vec<File>, Reservation), Problem> {
    let encoded = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity");
    if encoded {
        return Err(unsupported("the body is compressed"));
    }
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map_or("", |content_type| content_type.to_str().unwrap_or_default());
    let essence = essence(content_type);
    let kept = match keep {
        FileParts::Kept if essence == MULTIPART => usize::MAX,
        FileParts::Kept | FileParts::Dropped => TEXT_LIMIT,
    };
    let expected = limit.expected(headers, kept);
    let mut reservation = limit.reservation(expected);
    let tree = match essence.as_str() {
        MULTIPART => {
            let boundary = boundary(content_type).ok_or_else(|| unsupported("the content type names no boundary"))?;
            let mut bounds = Bounds {
                limit: limit.body_limit(),
                reservation,
                buffer: UploadBuffer::new(expected),
            };
            let (tree, files) = multipart::read(body, boundary, keep, &mut bounds).await?;
            return Ok((tree, multipart::into_files(bounds.buffer, files), bounds.reservation));
        }
        "application/x-www-form-urlencoded" => {
            let mut fields = Fields::default();
            fields.add_encoded(&collect(body, &mut reservation).await?)?;
            fields.into_tree()
        }
        json if is_json(json) => json_object(&collect(body, &mut reservation).await?)?,
        _ => {
            if !collect(body, &mut reservation).await?.is_empty() {
                return Err(unsupported("send a form, multipart or JSON"));
            }
            Map::new()
        }
    };
    Ok((tree, Vec::new(), reservation))
}

const MULTIPART: &str = "multipart/form-data";

/// Reads the raw body up to `server.body-limit`, with its reservation.
pub(super) async fn whole(request: Request) -> Result<(Bytes, Reservation), Problem> {
    let (parts, body) = request.into_parts();
    let limits = RequestLimits::body_of(&parts.extensions);
    limits.check_declared(&parts.headers)?;
    let limit = limits.body_limit();
    let expected = limits.expected(&parts.headers, limit);
    let mut reservation = limits.reservation(expected);
    let mut buffer = UploadBuffer::new(expected);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| read_failed(&error, limit))?;
        reservation.arrived(chunk.len())?;
        buffer.extend(&chunk).map_err(|_| too_large(limit))?;
    }
    let length = buffer.len();
    reservation.shrink(length);
    let bytes = buffer.into_files(std::iter::once(0..length)).pop().unwrap_or_default();
    Ok((bytes, reservation))
}

async fn collect(body: Body, reservation: &mut Reservation) -> Result<Bytes, Problem> {
    let mut chunks = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| read_failed(&error, TEXT_LIMIT))?;
        if whole.len() + chunk.len() > TEXT_LIMIT {
            return Err(too_large(TEXT_LIMIT));
        }
        reservation.arrived(chunk.len())?;
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// Reads a JSON object. An empty body has no parameters: the app sends a JSON content type with its GETs. Ignores a byte order mark, as
/// RFC 8259 allows.
fn json_object(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let tree = serde_json::from_slice(bytes);
    let tree = tree.map_err(|error| Problem::invalid_parameter(format!("the body is no JSON: {error}")))?;
    let Value::Object(map) = tree else {
        return Err(Problem::invalid_parameter("the body is no JSON object"));
    };
    check_count(map.len())?;
    map.keys().try_for_each(|name| check_name(name))?;
    Ok(map)
}

fn unsupported(detail: &str) -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-body",
        "Unsupported media type",
    )
    .detail(detail)
}
