//! From a request to a tree of parameters and a list of files.

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::File;
use super::fields::{Fields, check_count, check_name};
use super::multipart;
use crate::http::Problem;
use crate::http::intake::{Intake, Share, read_failed, too_large};

/// Bytes of everything that is text: a form, a JSON body, the text parts of a multipart body.
pub(super) const TEXT_LIMIT: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileParts {
    Kept,
    Dropped,
}

#[derive(Debug, Default)]
pub(super) struct Read {
    pub tree: Value,
    pub files: Vec<File>,
    /// Of the memory for large bodies; none where there was no body.
    pub share: Option<Share>,
}

pub(super) async fn read(request: Request, keep: FileParts) -> Result<Read, Problem> {
    let (parts, body) = request.into_parts();
    let mut fields = Fields::default();
    fields.add_encoded(parts.uri.query().unwrap_or_default().as_bytes())?;
    let mut tree = fields.into_tree();
    let mut read = Read::default();
    if !body.is_end_stream() {
        let intake = parts.extensions.get::<Intake>().cloned().unwrap_or_default();
        let (over, files, share) = read_body(&parts.headers, body, &intake, keep).await?;
        tree.extend(over);
        read.files = files;
        read.share = Some(share);
    }
    read.tree = Value::Object(tree);
    Ok(read)
}

async fn read_body(
    headers: &HeaderMap,
    body: Body,
    intake: &Intake,
    keep: FileParts,
) -> Result<(Map<String, Value>, Vec<File>, Share), Problem> {
    let encoded = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity");
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map(|kind| kind.to_str().unwrap_or_default());
    let essence = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let mut share = intake.share();
    match essence.as_str() {
        _ if encoded => Err(unsupported("the body is compressed")),
        "multipart/form-data" => {
            let boundary = multer::parse_boundary(kind.unwrap_or_default());
            let boundary = boundary.map_err(|_| unsupported("the content type names no boundary"))?;
            let (fields, files) = multipart::read(body, boundary, intake.body_limit(), keep, &mut share).await?;
            Ok((fields.into_tree(), files, share))
        }
        "application/x-www-form-urlencoded" => {
            let mut fields = Fields::default();
            fields.add_encoded(&collect(body, &mut share).await?)?;
            Ok((fields.into_tree(), Vec::new(), share))
        }
        json if json == "application/json" || json.ends_with("+json") => {
            Ok((json_object(&collect(body, &mut share).await?)?, Vec::new(), share))
        }
        _ => {
            if collect(body, &mut share).await?.is_empty() {
                return Ok((Map::new(), Vec::new(), share));
            }
            Err(unsupported("send a form, multipart or JSON"))
        }
    }
}

async fn collect(body: Body, share: &mut Share) -> Result<Bytes, Problem> {
    let mut chunks = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| read_failed(&error, TEXT_LIMIT))?;
        if whole.len() + chunk.len() > TEXT_LIMIT {
            return Err(too_large(TEXT_LIMIT));
        }
        share.add(chunk.len()).await?;
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// An empty body is no parameters: the app sends a JSON content type with its GETs. A byte order mark is ignored, as RFC 8259 allows.
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
    let title = "The request body is of a kind nobody reads here";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-body", title).detail(detail)
}
