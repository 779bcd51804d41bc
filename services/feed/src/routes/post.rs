//! A person's own posts.

pub mod delete;
pub mod find_day;
pub mod find_month;
pub mod save;
pub mod update_public_status;

use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::{Nickname, OwnPost, PostDate};
use crate::error::Error;

/// A post as its author sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnFeed {
    nickname: String,
    #[schema(example = "sunny")]
    weather: String,
    #[schema(value_type = i64, example = 2_023_090_513_248_392_i64)]
    date: PostDate,
    #[schema(example = 5)]
    happiness: i32,
    text: String,
    is_public: bool,
    category_list: Vec<String>,
    image_id_list: Vec<i64>,
    like_nickname_list: Vec<String>,
}

/// The posts with the present nicknames of who likes them; who has resigned meanwhile is not named.
async fn show(app: &App, nickname: &Nickname, posts: Vec<OwnPost>) -> Result<Vec<OwnFeed>, Error> {
    let likers: Vec<_> = posts.iter().flat_map(|post| post.likers.iter().cloned()).collect();
    let mut names = app.names.nicknames_of(&likers).await?.into_iter();
    let shown = posts.into_iter().map(|post| OwnFeed {
        nickname: nickname.as_str().to_owned(),
        weather: post.weather,
        date: post.date,
        happiness: post.happiness,
        text: post.text,
        is_public: post.is_public,
        category_list: post.categories,
        image_id_list: post.images.into_iter().map(|image| image.0).collect(),
        like_nickname_list: names.by_ref().take(post.likers.len()).flatten().collect(),
    });
    Ok(shown.collect())
}
