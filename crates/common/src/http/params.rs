//! Extractors of request parameters from query string, form, multipart and JSON alike.

mod content_type;
mod fields;
mod file;
mod instant;
mod multipart;
mod read;
mod upload_buffer;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::Value;

use file::FileParts;

pub use crate::lenient::comma_list;
pub use file::File;
pub use instant::{instant, optional_instant};

use super::Problem;
use super::body_limit::Reservation;
use crate::lenient::{self, Empty};

/// Parameters from **any** of query string, `application/x-www-form-urlencoded`, `multipart/form-data` and a
/// JSON object; a body field wins over the query. `name[0]`, `name[1]`… and a repeated `name` are the same
/// list. Text is converted to numbers and booleans by the types in `T`, except inside `#[serde(flatten)]`: a tuple of structures reads each
/// of them from the same parameters instead. File parts are dropped; see [`Upload`].
///
/// A part of a multipart body that is text or JSON by its type is a field, with or without a file name; one that is a JSON object
/// gives its members as fields. A parameter that is empty text or `null` is absent where its type has no empty value, as in Spring.
///
/// Refuses with 400 `invalid-parameter` (naming the field) or `unreadable-body`, 408 `body-too-slow`, 413
/// `body-too-large`, 415 `unsupported-body`, 503 when there is no memory for a large body.
#[derive(Debug, Clone)]
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Self::Rejection> {
        let body = read::read(request, FileParts::Dropped).await?;
        typed(body.tree).map(Self)
    }
}

/// The file parts of a request in the order they came (by index where they have one). Their bytes count
/// against the memory for large bodies while this value lives.
#[derive(Debug, Default)]
pub struct Files {
    files: Vec<File>,
    _reservation: Option<Reservation>,
}

impl Files {
    /// Removes and returns the files of one field. An empty part is no file: forms send it where no file was chosen.
    #[must_use]
    pub fn take(&mut self, field: &str) -> Vec<Bytes> {
        self.files
            .extract_if(.., |file| file.field == field)
            .map(|file| file.bytes)
            .filter(|bytes| !bytes.is_empty())
            .collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// Parameters and files of one request. The files' bytes count against `server.upload-memory` while `files`
/// lives; 503 at once when it cannot be had. Otherwise as [`Params`].
#[derive(Debug)]
pub struct Upload<T> {
    pub params: T,
    pub files: Files,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Upload<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Self::Rejection> {
        let mut body = read::read(request, FileParts::Kept).await?;
        if let Some(reservation) = &mut body.reservation {
            reservation.shrink(body.files.iter().map(|file| file.bytes.len()).sum());
        }
        let files = Files {
            files: body.files,
            _reservation: body.reservation,
        };
        Ok(Self {
            params: typed(body.tree)?,
            files,
        })
    }
}

/// The raw body of a request of any media type, up to `server.body-limit`. Its memory is reserved until it is dropped. For signed bodies,
/// and for texts.
#[derive(Debug)]
pub struct WholeBody {
    pub bytes: Bytes,
    _reservation: Reservation,
}

impl<S: Send + Sync> FromRequest<S> for WholeBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Self::Rejection> {
        let (bytes, reservation) = read::whole(request).await?;
        Ok(Self {
            bytes,
            _reservation: reservation,
        })
    }
}

/// The parameter of an [`Upload`] whose files are taken from [`Files`]: refuses text in that field. Used with `#[serde(default)]`, because a
/// valid request has no parameter of that name.
#[derive(Debug, Clone, Copy, Default)]
pub struct FilesOnly;

impl<'de> Deserialize<'de> for FilesOnly {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        if texts.iter().all(String::is_empty) {
            Ok(Self)
        } else {
            Err(D::Error::custom("a file part of a multipart form is expected"))
        }
    }
}

/// Reads the tree as `T`. Clients send parameters without a value as empty, and Spring reads an empty number, date or flag as absent: an
/// empty parameter that is invalid is removed, so that an optional one is absent and a required one missing.
fn typed<T: DeserializeOwned>(mut tree: Value) -> Result<T, Problem> {
    loop {
        match lenient::from_tree(&tree, Empty::Text) {
            Ok(typed) => return Ok(typed),
            // At most once for each parameter that `T` asks for.
            Err(error) if remove_empty(&mut tree, &error.path) => {}
            Err(error) => return Err(Problem::invalid_parameter(error.to_string())),
        }
    }
}

fn remove_empty(tree: &mut Value, name: &str) -> bool {
    let Value::Object(tree) = tree else { return false };
    let is_empty = |value: &Value| value.is_null() || value.as_str() == Some("");
    let empty = match tree.get(name) {
        Some(Value::Array(items)) => matches!(items.as_slice(), [item] if is_empty(item)),
        Some(value) => is_empty(value),
        None => false,
    };
    empty && tree.remove(name).is_some()
}

#[cfg(test)]
#[path = "params/tests.rs"]
mod tests;
