//! Uploaded pictures: type sniffed, size and pixels bounded, kept in an object store under unguessable ids.

mod picture;
mod settings;
mod store;

pub use picture::Picture;
pub use settings::ImageSettings;
pub use store::{Chunks, ImageId, Images, Reading, Stored};

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("not a JPEG, PNG, GIF or WebP picture")]
    UnknownType,
    #[error("the picture has more than {0} pixels")]
    TooManyPixels(u64),
    #[error("the picture has more than {0} bytes")]
    TooLarge(usize),
    #[error("images.url: {0}")]
    Settings(String),
    #[error("the image store failed")]
    Store(#[from] object_store::Error),
}

#[cfg(test)]
mod tests;
