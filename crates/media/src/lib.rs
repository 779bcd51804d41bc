//! Pictures people upload: bounded in bytes, pixels and frames, decoded and encoded anew without metadata, kept in an object store under
//! unguessable ids, and served in small widths and in parts.

#[cfg(feature = "heic")]
mod heic;
mod picture;
mod range;
mod respond;
mod sanitize;
mod settings;
mod store;
mod structure;
mod variant;

pub use picture::Picture;
pub use respond::{BinaryBody, PictureRequest};
pub use sanitize::Bounds;
pub use settings::ImageSettings;
pub use store::{Chunks, ImageId, Images, Reading, Stored};
pub use variant::{InvalidWidth, Width};

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("not a JPEG, PNG, GIF, WebP or HEIC picture")]
    UnknownType,
    #[error("the picture has more than {0} pixels")]
    TooManyPixels(u64),
    #[error("the picture has more than {0} bytes")]
    TooLarge(usize),
    #[error("the picture has more than {0} frames")]
    TooManyFrames(usize),
    #[error("the picture is broken or cut off")]
    Broken,
    #[error("images.url: {0}")]
    Settings(String),
    #[error("a picture could not be processed: {0}")]
    Processing(&'static str),
    #[error("the image store failed")]
    Store(#[from] object_store::Error),
}

impl ImageError {
    /// Returns why the picture is refused. None if the failure is not that of the picture.
    #[must_use]
    pub fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::UnknownType => Some("not a JPEG, PNG, GIF, WebP or HEIC picture"),
            Self::TooManyPixels(_) => Some("more pixels than images.max-pixels"),
            Self::TooLarge(_) => Some("larger than images.max-bytes"),
            Self::TooManyFrames(_) => Some("more frames than an animation may have"),
            Self::Broken => Some("broken or cut off"),
            Self::Settings(_) | Self::Processing(_) | Self::Store(_) => None,
        }
    }
}

#[cfg(test)]
mod s3_tests;
#[cfg(test)]
mod tests;
