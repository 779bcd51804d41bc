//! Reads multipart bodies into fields and files.

use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};
use multer::{Field, Multipart};
use serde_json::{Map, Value};

use super::content_type::is_json;
use super::fields::{Fields, TEXT_LIMIT, check_count, check_name, split_index};
use super::file::{File, FileParts};
use super::upload_buffer::UploadBuffer;
use crate::http::Problem;
use crate::http::body_limit::{Reservation, read_failed, too_large};

/// The bounds and the buffer of a body.
#[derive(Debug)]
pub(super) struct Bounds {
    /// The limit of the whole body, for problem details.
    pub limit: usize,
    pub reservation: Reservation,
    /// Holds the files.
    pub buffer: UploadBuffer,
}

/// The files in the order of their parts, by field, as ranges of the buffer.
pub(super) type FileRanges = Vec<(String, Range<usize>)>;

/// How a part is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A field, whatever its bytes.
    Field {
        json: bool,
    },
    /// A field with a file name, as `FormData` sends a `Blob` and Spring's clients a `@RequestPart`: text or JSON by its type. Read as a file
    /// where its bytes are not UTF-8.
    Blob {
        json: bool,
    },
    File,
}

impl Kind {
    fn of(part: &Field<'_>) -> Self {
        let named = part.file_name().is_some();
        let Some(content_type) = part.content_type() else {
            return if named { Self::File } else { Self::Field { json: false } };
        };
        let essence = content_type.essence_str();
        let json = is_json(essence);
        let binary =
            content_type.type_() == "image" || content_type.type_() == "video" || essence == "application/octet-stream";
        match named {
            true if json || essence == "text/plain" => Self::Blob { json },
            true => Self::File,
            false if binary => Self::File,
            false => Self::Field { json },
        }
    }
}

/// Reads all parts. Fields together are bounded by [`TEXT_LIMIT`], everything by the guard of the body; kept bytes count against the
/// reservation.
pub(super) async fn read(
    body: Body,
    boundary: String,
    keep: FileParts,
    bounds: &mut Bounds,
) -> Result<(Map<String, Value>, FileRanges), Problem> {
    let mut parts = Multipart::new(paced(body.into_data_stream()), boundary);
    let mut collected = Collected::default();
    let mut texts_left = TEXT_LIMIT;
    let mut count = 0;
    while let Some(mut part) = parts.next_field().await.map_err(|error| failed(&error, bounds.limit))? {
        count += 1;
        check_count(count)?;
        let name = part
            .name()
            .ok_or_else(|| Problem::invalid_parameter("a part has no name"))?
            .to_owned();
        check_name(&name)?;
        match (Kind::of(&part), keep) {
            (Kind::Field { json }, _) => {
                let bytes = field(&mut part, bounds, texts_left).await?;
                let bytes = bytes.ok_or_else(|| too_large(TEXT_LIMIT))?;
                let text = std::str::from_utf8(&bytes);
                let text = text.map_err(|_| Problem::invalid_parameter(format!("{name}: not valid UTF-8")))?;
                texts_left -= text.len();
                collected.add_field(&name, text, json)?;
            }
            (Kind::Blob { json }, FileParts::Dropped) => {
                let bytes = field(&mut part, bounds, texts_left).await?;
                if let Some(text) = bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()) {
                    texts_left -= text.len();
                    collected.add_field(&name, text, json)?;
                }
            }
            (Kind::Blob { json }, FileParts::Kept) => {
                let range = file(&mut part, bounds).await?;
                match std::str::from_utf8(bounds.buffer.get(range.clone())) {
                    Ok(text) if text.len() <= texts_left => {
                        texts_left -= text.len();
                        collected.add_field(&name, text, json)?;
                        bounds.buffer.truncate(range.start);
                    }
                    _ => collected.add_file(&name, range),
                }
            }
            (Kind::File, FileParts::Kept) => {
                let unnamed = part.file_name().is_some_and(str::is_empty);
                let range = file(&mut part, bounds).await?;
                // A browser sends an empty part for a file input in which no file was chosen.
                if !(unnamed && range.is_empty()) {
                    collected.add_file(&name, range);
                }
            }
            (Kind::File, FileParts::Dropped) => while chunk(&mut part, bounds.limit).await?.is_some() {},
        }
    }
    Ok(collected.finish())
}

#[derive(Debug, Default)]
struct Collected {
    fields: Fields,
    /// Members of the JSON parts that are objects.
    members: Map<String, Value>,
    files: Vec<(Option<u32>, String, Range<usize>)>,
}

impl Collected {
    /// Adds a field. A JSON object gives its members as fields, whatever the name of its part: it is a `@RequestPart` with all parameters. Other
    /// JSON is the value of the field; invalid JSON is read as text.
    fn add_field(&mut self, name: &str, text: &str, json: bool) -> Result<(), Problem> {
        let value = json.then(|| serde_json::from_str(text).ok()).flatten();
        match value {
            Some(Value::Object(members)) => {
                check_count(members.len())?;
                members.keys().try_for_each(|name| check_name(name))?;
                self.members.extend(members);
                Ok(())
            }
            Some(value) => self.fields.add(name, value),
            None => self.fields.add(name, Value::String(text.to_owned())),
        }
    }

    fn add_file(&mut self, name: &str, range: Range<usize>) {
        let (field, index) = split_index(name);
        self.files.push((index, field.to_owned(), range));
    }

    /// Builds the tree. A field wins over a member of an object of the same name.
    fn finish(mut self) -> (Map<String, Value>, FileRanges) {
        let mut tree = self.members;
        tree.extend(self.fields.into_tree());
        // A stable sort: files without an index keep their order.
        self.files.sort_by_key(|(index, ..)| index.unwrap_or(u32::MAX));
        let files = self.files.into_iter().map(|(_, field, range)| (field, range));
        (tree, files.collect())
    }
}

pub(super) fn into_files(buffer: UploadBuffer, named: FileRanges) -> Vec<File> {
    let (fields, ranges): (Vec<_>, Vec<_>) = named.into_iter().unzip();
    let files = fields.into_iter().zip(buffer.into_files(ranges));
    files.map(|(field, bytes)| File { field, bytes }).collect()
}

/// Yields to the task after each chunk: the parser would otherwise read all available chunks into an unbounded buffer before it parses
/// any.
fn paced(mut chunks: BodyDataStream) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send {
    let mut gave = false;
    stream::poll_fn(move |cx| {
        if std::mem::take(&mut gave) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = Pin::new(&mut chunks).poll_next_unpin(cx);
        gave = polled.is_ready();
        polled
    })
}

/// Returns the bytes of a field; `None` where they exceed `most`, and the part has been read to its end.
async fn field(part: &mut Field<'_>, bounds: &mut Bounds, most: usize) -> Result<Option<Bytes>, Problem> {
    let mut whole = Some(BytesMut::new());
    while let Some(chunk) = chunk(part, bounds.limit).await? {
        let Some(bytes) = &mut whole else { continue };
        if bytes.len() + chunk.len() > most {
            whole = None;
            continue;
        }
        bounds.reservation.arrived(chunk.len())?;
        // Copied, because a chunk keeps the whole buffer that it is a part of.
        bytes.extend_from_slice(&chunk);
    }
    Ok(whole.map(BytesMut::freeze))
}

async fn file(part: &mut Field<'_>, bounds: &mut Bounds) -> Result<Range<usize>, Problem> {
    let start = bounds.buffer.len();
    while let Some(chunk) = chunk(part, bounds.limit).await? {
        bounds.reservation.arrived(chunk.len())?;
        let taken = bounds.buffer.extend(&chunk);
        taken.map_err(|_full| Problem::unavailable())?;
    }
    Ok(start..bounds.buffer.len())
}

async fn chunk(part: &mut Field<'_>, limit: usize) -> Result<Option<Bytes>, Problem> {
    part.chunk().await.map_err(|error| failed(&error, limit))
}

fn failed(error: &multer::Error, limit: usize) -> Problem {
    read_failed(error, limit)
}
