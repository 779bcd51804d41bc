//! The Spring feed service: posts by nickname, one token per account, nicknames in memory only.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use sosohappy_bus::{Bus, Start};
use sosohappy_common::http::params::{FilesOnly, comma_list};
use sosohappy_common::http::{Params, Upload};
use sosohappy_events::Topic;
use sqlx::{MySqlPool, Row as _};

use super::{Host, Publisher, Tokens, tables};

/// A running Spring feed service.
#[derive(Debug)]
pub struct SpringFeed {
    host: Host,
    names: Names,
    pub pool: MySqlPool,
}

#[derive(Debug)]
struct Service {
    pool: MySqlPool,
    tokens: Tokens,
    names: Names,
    publisher: Publisher,
}

/// Nicknames by account. In memory: lost at a restart.
type Names = Arc<Mutex<HashMap<String, String>>>;

type Shared = State<Arc<Service>>;

impl SpringFeed {
    /// Starts the service on a `MySQL` database. `start` is the earliest record of the topics for a new service, and the latest for a
    /// restarted one.
    pub async fn start(bus: &Arc<dyn Bus>, database: &str, start: Start) -> Self {
        let pool = tables::open(database, tables::FEED)
            .await
            .expect("the tables are created");
        let mut host = Host::new(bus.clone());
        let names = Names::default();
        host.listen_to_tokens(start).await;
        listen_to_names(&mut host, &names, &pool, start).await;
        listen_to_resignations(&mut host, &pool, start).await;
        let service = Arc::new(Service {
            pool: pool.clone(),
            tokens: host.tokens.clone(),
            names: names.clone(),
            publisher: host.publisher(),
        });
        let routes = Router::new()
            .route("/feed-service/saveFeed", post(save))
            .route("/feed-service/findDayFeed", post(find_day))
            .route("/feed-service/findMonthFeed", post(find_month))
            .route("/feed-service/findOtherFeed", get(find_others))
            .route("/feed-service/findDetailFeed", post(find_detail))
            .route("/feed-service/updateLike", post(update_like))
            .with_state(service);
        host.serve(routes).await;
        Self { host, names, pool }
    }

    /// Returns the base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.host.url
    }

    /// Returns the number of records with a null value that have blocked a listener.
    #[must_use]
    pub fn stalls(&self) -> usize {
        self.host.stalls()
    }

    /// Returns whether the service has received this nickname since it started. Until then it publishes likes of the account as `null`.
    #[must_use]
    pub fn knows(&self, nickname: &str) -> bool {
        self.names.lock().values().any(|known| known == nickname)
    }

    /// Returns the number of posts with a nickname.
    pub async fn posts_of(&self, nickname: &str) -> i64 {
        sqlx::query_scalar("SELECT COUNT(*) FROM feed WHERE nickname = ?")
            .bind(nickname)
            .fetch_one(&self.pool)
            .await
            .expect("the table exists")
    }
}

/// Renames posts when a nickname changes. Likes keep the old nickname, as in the Java service.
async fn listen_to_names(host: &mut Host, names: &Names, pool: &MySqlPool, start: Start) {
    let (names, pool) = (names.clone(), pool.clone());
    host.listen(Topic::EmailAndNickname, start, move |account, nickname| {
        let before = names.lock().insert(account, nickname.clone());
        let pool = pool.clone();
        async move {
            if let Some(before) = before.filter(|before| *before != nickname) {
                let rename = sqlx::query("UPDATE feed SET nickname = ? WHERE nickname = ?");
                let renamed = rename.bind(&nickname).bind(&before).execute(&pool).await;
                renamed.expect("posts can be renamed");
            }
        }
    })
    .await;
}

/// Deletes the posts of the nickname in the value, again at each duplicate of the record.
async fn listen_to_resignations(host: &mut Host, pool: &MySqlPool, start: Start) {
    let (pool, tokens) = (pool.clone(), host.tokens.clone());
    host.listen(Topic::Resign, start, move |account, nickname| {
        tokens.0.lock().remove(&account);
        let pool = pool.clone();
        async move {
            for child in ["feed_category", "feed_image", "feed_like_nickname"] {
                let delete =
                    format!("DELETE FROM {child} WHERE feed_id IN (SELECT feed_id FROM feed WHERE nickname = ?)");
                let deleted = sqlx::query(sqlx::AssertSqlSafe(delete)).bind(&nickname).execute(&pool);
                deleted.await.expect("rows can be deleted");
            }
            let delete = sqlx::query("DELETE FROM feed WHERE nickname = ?").bind(&nickname);
            delete.execute(&pool).await.expect("posts can be deleted");
        }
    })
    .await;
}

/// The response to an exception in the Java service.
struct Failed(StatusCode);

impl From<sqlx::Error> for Failed {
    fn from(_: sqlx::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<StatusCode> for Failed {
    fn from(status: StatusCode) -> Self {
        Self(status)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewPost {
    nickname: String,
    date: i64,
    weather: String,
    happiness: i32,
    #[serde(default, deserialize_with = "comma_list")]
    category_list: Vec<String>,
    text: Option<String>,
    is_public: bool,
    #[serde(default, rename = "imageList")]
    _image_list: FilesOnly,
}

/// The units of a day in a 16-digit date: `date / DAY` is the day.
const DAY: i64 = 100_000_000;

async fn save(
    State(service): Shared,
    headers: HeaderMap,
    Upload { params, .. }: Upload<NewPost>,
) -> Result<Response, Failed> {
    service.tokens.caller(&headers)?;
    let day = params.date / DAY;
    let old: Option<i64> = sqlx::query_scalar("SELECT feed_id FROM feed WHERE nickname = ? AND date DIV 100000000 = ?")
        .bind(&params.nickname)
        .bind(day)
        .fetch_optional(&service.pool)
        .await?;
    let id = if let Some(id) = old {
        sqlx::query("UPDATE feed SET date = ?, weather = ?, happiness = ?, text = ?, is_public = ? WHERE feed_id = ?")
            .bind(params.date)
            .bind(&params.weather)
            .bind(params.happiness)
            .bind(&params.text)
            .bind(params.is_public)
            .bind(id)
            .execute(&service.pool)
            .await?;
        sqlx::query("DELETE FROM feed_category WHERE feed_id = ?")
            .bind(id)
            .execute(&service.pool)
            .await?;
        id
    } else {
        let insert = "INSERT INTO feed (nickname, date, weather, happiness, text, is_public) VALUES (?, ?, ?, ?, ?, ?)";
        let inserted = sqlx::query(insert)
            .bind(&params.nickname)
            .bind(params.date)
            .bind(&params.weather)
            .bind(params.happiness)
            .bind(&params.text)
            .bind(params.is_public)
            .execute(&service.pool)
            .await?;
        i64::try_from(inserted.last_insert_id()).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?
    };
    for category in &params.category_list {
        sqlx::query("INSERT INTO feed_category (category, feed_id) VALUES (?, ?)")
            .bind(category)
            .bind(id)
            .execute(&service.pool)
            .await?;
    }
    Ok(Json(json!({ "success": true, "message": "등록 성공" })).into_response())
}

#[derive(Deserialize)]
struct Dated {
    nickname: String,
    date: i64,
}

const POST: &str = "SELECT feed_id, nickname, date, weather, happiness, text FROM feed";

async fn find_day(
    State(service): Shared,
    headers: HeaderMap,
    Params(asked): Params<Dated>,
) -> Result<Response, Failed> {
    service.tokens.caller(&headers)?;
    let posts = own(&service, &asked.nickname, asked.date / DAY, DAY).await?;
    Ok(posts
        .into_iter()
        .next()
        .map_or_else(|| ().into_response(), |post| Json(post).into_response()))
}

async fn find_month(
    State(service): Shared,
    headers: HeaderMap,
    Params(asked): Params<Dated>,
) -> Result<Response, Failed> {
    service.tokens.caller(&headers)?;
    let month = DAY * 100;
    let posts = own(&service, &asked.nickname, asked.date / month, month).await?;
    Ok(Json(posts).into_response())
}

/// Returns the posts of a nickname of a day or a month, newest first.
async fn own(service: &Service, nickname: &str, time: i64, unit: i64) -> Result<Vec<Value>, Failed> {
    let select = format!("{POST} WHERE nickname = ? AND date DIV ? = ? ORDER BY date DESC");
    let rows = sqlx::query(sqlx::AssertSqlSafe(select))
        .bind(nickname)
        .bind(unit)
        .bind(time)
        .fetch_all(&service.pool)
        .await?;
    let mut posts = Vec::new();
    for row in rows {
        let likers: Vec<String> = sqlx::query_scalar("SELECT nickname FROM feed_like_nickname WHERE feed_id = ?")
            .bind(row.try_get::<i64, _>("feed_id")?)
            .fetch_all(&service.pool)
            .await?;
        let mut post = shown(&row)?;
        post["likeNicknameList"] = json!(likers);
        posts.push(post);
    }
    Ok(posts)
}

fn shown(row: &sqlx::mysql::MySqlRow) -> Result<Value, sqlx::Error> {
    Ok(json!({
        "nickname": row.try_get::<Option<String>, _>("nickname")?,
        "date": row.try_get::<Option<i64>, _>("date")?,
        "weather": row.try_get::<Option<String>, _>("weather")?,
        "happiness": row.try_get::<Option<i32>, _>("happiness")?,
        "text": row.try_get::<Option<String>, _>("text")?,
        "imageIdList": [],
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    src_nickname: String,
    dst_nickname: String,
    date: i64,
}

/// Shows one public post of another account.
async fn find_detail(
    State(service): Shared,
    headers: HeaderMap,
    Params(asked): Params<Detail>,
) -> Result<Response, Failed> {
    service.tokens.caller(&headers)?;
    let select = format!("{POST} WHERE nickname = ? AND date DIV ? = ? AND is_public = 1");
    let row = sqlx::query(sqlx::AssertSqlSafe(select))
        .bind(&asked.dst_nickname)
        .bind(DAY)
        .bind(asked.date / DAY)
        .fetch_optional(&service.pool)
        .await?
        .ok_or(StatusCode::NOT_FOUND)?;
    let of_post = async |column: &str, table: &str| {
        let select = format!("SELECT {column} FROM {table} WHERE feed_id = ?");
        let id = row.try_get::<i64, _>("feed_id")?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(select))
            .bind(id)
            .fetch_all(&service.pool);
        rows.await
    };
    let texts = |rows: Vec<sqlx::mysql::MySqlRow>| {
        rows.iter()
            .map(|row| row.try_get(0))
            .collect::<Result<Vec<String>, _>>()
    };
    let likers = texts(of_post("nickname", "feed_like_nickname").await?)?;
    let images = of_post("feed_image_id", "feed_image").await?;
    let images: Vec<i64> = images.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let mut shown = shown(&row)?;
    shown["categoryList"] = json!(texts(of_post("category", "feed_category").await?)?);
    shown["imageIdList"] = json!(images);
    shown["isLiked"] = json!(likers.contains(&asked.src_nickname));
    Ok(Json(shown).into_response())
}

#[derive(Deserialize)]
struct Asking {
    nickname: String,
}

async fn find_others(
    State(service): Shared,
    headers: HeaderMap,
    Params(asked): Params<Asking>,
) -> Result<Response, Failed> {
    service.tokens.caller(&headers)?;
    let select = format!("{POST} WHERE nickname <> ? AND is_public = 1 ORDER BY date DESC LIMIT 25");
    let rows = sqlx::query(sqlx::AssertSqlSafe(select))
        .bind(&asked.nickname)
        .fetch_all(&service.pool)
        .await?;
    let mut content = Vec::new();
    for row in &rows {
        let mut post = shown(row)?;
        post["isLiked"] = json!(false);
        content.push(post);
    }
    let count = content.len();
    let slice =
        json!({ "content": content, "numberOfElements": count, "pageNumber": 0, "pageSize": 25, "isLast": true });
    Ok(Json(slice).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Like {
    src_nickname: String,
    nickname: String,
    date: i64,
}

async fn update_like(
    State(service): Shared,
    headers: HeaderMap,
    Params(like): Params<Like>,
) -> Result<Response, Failed> {
    service.tokens.caller(&headers)?;
    let found: Option<(i64, i64)> =
        sqlx::query_as("SELECT feed_id, date FROM feed WHERE nickname = ? AND date DIV 100000000 = ?")
            .bind(&like.nickname)
            .bind(like.date / DAY)
            .fetch_optional(&service.pool)
            .await?;
    let (id, date) = found.ok_or(StatusCode::NOT_FOUND)?;
    let removed = sqlx::query("DELETE FROM feed_like_nickname WHERE feed_id = ? AND nickname = ?")
        .bind(id)
        .bind(&like.src_nickname)
        .execute(&service.pool)
        .await?;
    if removed.rows_affected() > 0 {
        return Ok(Json(json!({ "like": false })).into_response());
    }
    sqlx::query("INSERT INTO feed_like_nickname (nickname, feed_id) VALUES (?, ?)")
        .bind(&like.src_nickname)
        .bind(id)
        .execute(&service.pool)
        .await?;
    // The account of the author, or `null` if its nickname was not received since the start.
    let author = {
        let names = service.names.lock();
        let found = names.iter().find(|(_, nickname)| **nickname == like.nickname);
        found.map_or_else(|| "null".to_owned(), |(account, _)| account.clone())
    };
    let publisher = &service.publisher;
    publisher
        .publish(Topic::NoticeLike, &like.src_nickname, &format!("{author},{date}"))
        .await?;
    Ok(Json(json!({ "like": true })).into_response())
}
