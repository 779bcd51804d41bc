//! Bookmarks, which only the person who saves them sees.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::{Account, Nickname, Problem};
use sosohappy_events::Envelope;
use sosohappy_events::types::NoticeRaised;
use utoipa::ToSchema;

use crate::app::{App, writer};
use crate::domain::{Cursor, DayOf, ListName, PostDate, Slice};
use crate::error::Error;
use crate::routes::others::OtherFeed;
use crate::routes::params::{CursorPage, Own};

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateBookmark {
    src_nickname: Nickname,
    /// The nickname of the post's author.
    nickname: Nickname,
    date: DayOf,
}

impl Actor for UpdateBookmark {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.src_nickname.as_str())
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct BookmarkUpdated {
    bookmark: bool,
}

/// Bookmarks a post that the caller sees, or removes the bookmark, also from a post that the caller no longer sees. The caller's own devices get
/// a notice, `bookmark` or `bookmarkCanceled`.
#[utoipa::path(
    post,
    path = "/updateBookmark",
    tag = "bookmark",
    request_body = UpdateBookmark,
    responses((status = 200, body = BookmarkUpdated), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn update_bookmark(
    State(app): State<App>,
    Act { caller, params }: Act<UpdateBookmark>,
) -> Result<Json<BookmarkUpdated>, Error> {
    let DayOf(day) = params.date;
    let author = app.names.account_of(params.nickname.as_str()).await?;
    let author = author.ok_or(Error::NoSuchPost)?;
    let marked = app.marked(&author, day);
    let saver = writer(caller);
    let notice = |saved: bool, date: PostDate| {
        let event = NoticeRaised {
            receiver: saver.account.clone(),
            topic: if saved { "bookmark" } else { "bookmarkCanceled" }.to_owned(),
            data: json!({ "nickname": params.nickname.as_str(), "date": i64::from(date) }),
            about: (author != saver.account).then(|| author.clone()),
        };
        let envelope = Envelope::new(event, &app.context).authorized(saver.authorized_at);
        envelope.to_outgoing()
    };
    let toggled = app.store.toggle_bookmark(&saver, marked, &notice, app.now()).await?;
    let bookmark = toggled.ok_or(Error::NoSuchPost)?;
    app.relay.wake();
    Ok(Json(BookmarkUpdated { bookmark }))
}

/// Lists the posts that the caller has bookmarked and still sees, the latest bookmark first. Those of others with a word that the caller has muted
/// are left out.
#[utoipa::path(
    get,
    path = "/findBookmark",
    tag = "bookmark",
    params(Own, CursorPage),
    responses((status = 200, body = Slice<OtherFeed>), (status = 400, body = Problem))
)]
pub async fn find_bookmark(
    State(app): State<App>,
    Act {
        caller,
        params: (_, page),
    }: Act<(Own, CursorPage)>,
) -> Result<Json<Slice<OtherFeed>>, Error> {
    let list = ListName(format!("findBookmark,{}", caller.account.as_str()));
    let paging = page.of(list, &app)?;
    let saved = app
        .store
        .bookmarks(&caller.account, app.today(), paging.from, paging.rows())
        .await?;
    let authors: Vec<Account> = saved.iter().map(|saved| saved.post.author.clone()).collect();
    let (names, muted) = tokio::join!(app.nicknames_of(&authors), app.muted_words.of(&caller.account));
    let now = app.now();
    let rows = saved.into_iter().zip(names?).collect();
    Ok(Json(Slice::build(
        rows,
        &paging,
        |(saved, _)| Cursor {
            rank: 0,
            date: saved.saved_at,
            id: saved.post.id,
        },
        |(saved, name)| {
            if saved.post.author != caller.account && muted.is_in(&saved.post.text, now) {
                return None;
            }
            name.map(|nickname| OtherFeed::new(nickname, saved.post))
        },
    )))
}
