use bytes::Bytes;

/// A file part of a multipart body.
#[derive(Debug, Clone)]
pub struct File {
    /// The part's name without an index: `imageList` for `imageList[1]`.
    pub field: String,
    pub bytes: Bytes,
}

/// Whether the file parts of a multipart body are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileParts {
    Kept,
    Dropped,
}
