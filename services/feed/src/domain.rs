//! Posts and the queries about them: validated types and rules, no I/O.

pub mod comment;
pub mod companions;
pub mod date;
pub mod draft;
pub mod happiness;
pub mod paging;
pub mod phrases;
pub mod post;
pub mod repeat;
pub mod review;
pub mod view;
pub mod visibility;
pub mod word_list;

pub use comment::{Comment, CommentText};
pub use date::{Day, DayOf, Days, Month, MonthOf, PostDate, YearOf};
pub use paging::{Cursor, CursorParam, Cursors, ListName, PageFrom, PageSize, Paging, Slice, Sort};
pub use post::{Category, Content, NewPost, OwnPost, PostLimits, SeenPost, Weather, Writer};
pub use repeat::{IdempotencyKey, KeyedRequest, Uploads};
pub use visibility::Visibility;
