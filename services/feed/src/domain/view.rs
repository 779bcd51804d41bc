//! Entries of the post view.

use super::{PostDate, Visibility};

/// Counts of a post, and the viewer's own marks on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostView {
    pub id: i64,
    pub date: PostDate,
    pub visibility: Visibility,
    pub is_hidden: bool,
    pub likes: i64,
    pub bookmarks: i64,
    pub comments: i64,
    pub is_liked: bool,
    pub is_bookmarked: bool,
}
