//! Public posts, as others see them.

pub mod find_detail;
pub mod find_other;
pub mod find_user;

use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::{Cursor, Paging, PostDate, SeenPost, Slice};
use crate::error::Error;
use crate::store::Shown;

/// A public post as somebody else sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OtherFeed {
    nickname: String,
    #[schema(example = "sunny")]
    weather: String,
    #[schema(value_type = i64, example = 2_023_090_513_248_392_i64)]
    date: PostDate,
    #[schema(example = 5)]
    happiness: i32,
    text: String,
    category_list: Vec<String>,
    image_id_list: Vec<i64>,
    is_liked: bool,
}

impl OtherFeed {
    fn new(nickname: String, post: SeenPost) -> Self {
        Self {
            nickname,
            weather: post.weather,
            date: post.date,
            happiness: post.happiness,
            text: post.text,
            category_list: post.categories,
            image_id_list: post.images.into_iter().map(|image| image.0).collect(),
            is_liked: post.is_liked,
        }
    }
}

/// A page of public posts with the present nicknames of their authors; who has resigned meanwhile is not shown.
async fn slice(app: &App, shown: &Shown<'_>, paging: &Paging) -> Result<Slice<OtherFeed>, Error> {
    let posts = app.store.public(shown, paging.from(), paging.rows()).await?;
    let authors: Vec<_> = posts.iter().map(|post| post.author.clone()).collect();
    let names = app.names.nicknames_of(&authors).await?;
    let rows = posts.into_iter().zip(names).collect();
    let cursor = |(post, _): &(SeenPost, _)| Cursor {
        date: post.date.into(),
        post: post.id,
    };
    Ok(Slice::build(rows, paging, cursor, |(post, name)| {
        name.map(|nickname| OtherFeed::new(nickname, post))
    }))
}
