//! The tables `feed`, `feed_category`, `feed_image` and `feed_like_nickname`.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_feed::import::{Applied, Importer, LegacyLike, LegacyPost, Outcome};
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, MySqlConnection, MySqlExecutor, MySqlPool, QueryBuilder};

use super::apis::Request;
use super::names::Names;
use super::report::Report;
use super::sample::Sample;
use super::source::{self, Pictures};
use super::{Pass, Stage};

pub const TABLE: &str = "feed";
const CATEGORIES: &str = "feed_category";
const IMAGES: &str = "feed_image";
const LIKES: &str = "feed_like_nickname";

/// Posts that are looked at together.
const PAGE: i64 = 200;

/// Bytes of the pictures of one transaction; two are in memory at once.
const PICTURE_BYTES: u64 = 8 << 20;

/// Rows without a post that are read at once.
const ORPHANS: i64 = 1000;

const REPAIRED: &str = "bytes that are no text were replaced";

const POST: &str =
    "SELECT feed_id, date, happiness, CAST(is_public AS SIGNED) AS is_public, nickname, weather, text FROM feed";
const CATEGORY: &str = "SELECT feed_category_id AS id, feed_id, category AS text FROM feed_category";
const IMAGE: &str = "SELECT feed_image_id AS id, feed_id, NULL AS text FROM feed_image";
const LIKE: &str = "SELECT feed_like_nickname_id AS id, feed_id, nickname AS text FROM feed_like_nickname";

const DOUBLED: &str = "the account likes the post already";

/// Weather of posts that have none.
const NO_WEATHER: &str = "unknown";

const WORD_CHARS: usize = 50;

/// The digits of a date after those of its day, as a divisor.
const DIGITS_BELOW_DAY: i64 = 100_000_000;

/// Bytes of the categories of one post: the column takes 65,535, and JSON may double them.
const CATEGORY_BYTES: usize = 30_000;

/// Pictures of one post, for the same reason.
const MOST_IMAGES: usize = 2000;

const PICTURES: Pictures = Pictures {
    table: IMAGES,
    id: "feed_image_id",
    image: "image",
};

/// Rows of one statement where only the decisions are made.
const LIGHT_PAGE: i64 = 5000;

/// Expected counts at the end of a pass.
#[derive(Debug, Default)]
struct Expected {
    posts: i64,
    happiness: i64,
    /// Rows that are unchanged since an earlier pass, with their happiness: their posts may have changed here.
    unchanged: Vec<(i64, i32)>,
    /// Some pictures that were placed.
    images: Sample<PlacedImage>,
    /// Some public posts of which the legacy feed answers what was imported.
    shown: Sample<ShownPost>,
    /// Rows whose posts, if there are any, are here as an earlier pass or this fleet has written them.
    others: Vec<i64>,
    /// Posts of this pass that a row took the place of which was written while it ran: the next pass counts them.
    raced: u64,
}

/// A picture of a post, by the ids of their rows.
#[derive(Debug)]
struct PlacedImage {
    id: i64,
    post: i64,
}

/// A post as both fleets are asked for it.
#[derive(Debug)]
struct ShownPost {
    id: i64,
    author: Account,
    nickname: String,
    date: i64,
}

/// Which rows another row of the same author and day takes the place of, among those up to the last id. Of a day's rows the one with the
/// latest date stays, of equal dates the one with the greatest id.
#[derive(Debug, Default)]
struct Decisions {
    superseded: HashSet<i64>,
    /// Those and the rows that take their places: the legacy feed may show either.
    contested: HashSet<i64>,
    rows: u64,
    last: i64,
}

/// Reads authors and dates of all rows; a few bytes each are kept, so that millions fit.
async fn decide(pool: &MySqlPool, names: &Names) -> anyhow::Result<Decisions> {
    let mut decisions = Decisions {
        last: source::newest(pool, TABLE, "feed_id").await?,
        ..Decisions::default()
    };
    let mut authors: HashMap<&Account, u32> = HashMap::new();
    let mut rows: Vec<(u32, Reverse<i64>, Reverse<i64>)> = Vec::new();
    let mut last = i64::MIN;
    loop {
        let page = sqlx::query(
            "SELECT feed_id, nickname, date FROM feed WHERE feed_id > ? AND feed_id <= ? ORDER BY feed_id LIMIT ?",
        )
        .bind(last)
        .bind(decisions.last)
        .bind(LIGHT_PAGE)
        .fetch_all(pool)
        .await?;
        let Some(newest) = page.last() else { break };
        last = id(newest, "feed_id")?;
        decisions.rows += page.len() as u64;
        for row in &page {
            let nickname = source::text(row, "nickname")?.text;
            let author = nickname.and_then(|nickname| names.present(&nickname).ok());
            if let (Some(author), Some(date)) = (author, source::integer(row, "date")?) {
                let next = u32::try_from(authors.len())?;
                let author = *authors.entry(author).or_insert(next);
                rows.push((author, Reverse(date), Reverse(id(row, "feed_id")?)));
            }
        }
    }
    rows.sort_unstable();
    let day = |date: i64| date.div_euclid(DIGITS_BELOW_DAY);
    let pairs = rows.windows(2);
    let of_one_day = pairs.filter(|pair| pair[0].0 == pair[1].0 && day(pair[0].1.0) == day(pair[1].1.0));
    for pair in of_one_day {
        decisions.superseded.insert(pair[1].2.0);
        decisions.contested.extend([pair[0].2.0, pair[1].2.0]);
    }
    Ok(decisions)
}

/// Takes all posts over, and deletes those that are gone.
pub async fn import(pass: &mut Pass, pool: &MySqlPool, importer: &Importer, names: &Names) -> anyhow::Result<()> {
    let decisions = decide(pool, names).await.context(TABLE)?;
    let stage = Stage::begin("posts", decisions.rows);
    let mut feeder = Feeder {
        pool,
        importer,
        names,
        decisions: &decisions,
        context: pass.context.clone(),
        waiting: VecDeque::new(),
        sizes: HashMap::new(),
        read_at: pass.context.clock.now(),
        last: i64::MIN,
        ended: false,
    };
    let mut expected = Expected::default();
    let mut next = feeder.batch().await?;
    // The next batch is read while this one is written.
    while let Some(batch) = next {
        let (written, read) = tokio::join!(write(pass, importer, batch, &decisions, &mut expected), feeder.batch());
        stage.inc(written?);
        next = read?;
    }
    for table in [CATEGORIES, IMAGES, LIKES] {
        report_orphans(&mut pass.report, pool, table).await?;
    }
    if !pass.dry_run {
        check(pool, importer, &mut expected).await?;
        compare(pass, names, &expected.shown.rows).await?;
    }
    Ok(())
}

/// A post that was read, with its altered columns.
struct ReadPost {
    id: i64,
    /// As the row has it.
    nickname: String,
    /// Whether the legacy feed shows others what is imported: no value is missing or altered.
    is_verbatim: bool,
    post: Result<LegacyPost, (&'static str, &'static str)>,
    notes: Vec<Note>,
    /// Rows of children, of which those that could be placed are in the post.
    images: usize,
    likes: usize,
    /// Likes whose accounts cannot be identified, and why.
    untold: HashMap<i64, &'static str>,
}

struct Note {
    table: &'static str,
    id: i64,
    outcome: &'static str,
    column: &'static str,
    reason: &'static str,
}

/// Posts of one transaction, and their pictures.
struct Batch {
    rows: Vec<ReadPost>,
    pictures: HashMap<i64, bytes::Bytes>,
    read_at: Timestamp,
    /// Ids after this one and up to that one were looked at; those that were taken over before and are not among the rows are gone.
    after: i64,
    until: i64,
}

/// Reads posts in the order of their ids.
struct Feeder<'a> {
    pool: &'a MySqlPool,
    importer: &'a Importer,
    names: &'a Names,
    decisions: &'a Decisions,
    context: sosohappy_common::Context,
    waiting: VecDeque<ReadPost>,
    /// Bytes of the pictures that have to be read for those waiting.
    sizes: HashMap<i64, u64>,
    read_at: Timestamp,
    last: i64,
    ended: bool,
}

impl Feeder<'_> {
    async fn batch(&mut self) -> anyhow::Result<Option<Batch>> {
        let after = self.last;
        if self.waiting.is_empty() {
            if self.ended {
                return Ok(None);
            }
            self.read_at = self.context.clock.now();
            self.fill().await.context(TABLE)?;
        }
        let (mut rows, mut wanted, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(row) = self.waiting.pop_front() {
            let images = row.post.iter().flat_map(|post| post.images.iter());
            let sizes: Vec<(i64, u64)> = images
                .filter_map(|image| Some((*image, *self.sizes.get(image)?)))
                .collect();
            let more: u64 = sizes.iter().map(|(_, size)| size).sum();
            if bytes + more > PICTURE_BYTES && !rows.is_empty() {
                self.waiting.push_front(row);
                break;
            }
            bytes += more;
            wanted.extend(sizes);
            rows.push(row);
        }
        self.last = rows.last().map_or(i64::MAX, |row| row.id);
        self.ended = rows.is_empty();
        let pictures = PICTURES.read(self.pool, &wanted).await.context("feed_image.image")?;
        Ok(Some(Batch {
            rows,
            pictures,
            read_at: self.read_at,
            after,
            until: self.last,
        }))
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        let select = format!("{POST} WHERE feed_id > ? AND feed_id <= ? ORDER BY feed_id LIMIT ?");
        let rows = sqlx::query(AssertSqlSafe(select))
            .bind(self.last)
            .bind(self.decisions.last)
            .bind(PAGE)
            .fetch_all(self.pool)
            .await?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(());
        };
        let range = (id(first, "feed_id")?, id(last, "feed_id")?);
        let mut categories = children(self.pool, CATEGORY, range).await?;
        let mut images = children(self.pool, IMAGE, range).await?;
        let mut likes = children(self.pool, LIKE, range).await?;
        for row in &rows {
            let post = id(row, "feed_id")?;
            let children = Children {
                categories: categories.remove(&post).unwrap_or_default(),
                images: images.remove(&post).unwrap_or_default(),
                likes: likes.remove(&post).unwrap_or_default(),
            };
            let mut read = read(row, children, self.names)?;
            if let Ok(post) = &mut read.post {
                post.is_superseded = self.decisions.superseded.contains(&read.id);
            }
            self.waiting.push_back(read);
        }
        let posts: Vec<LegacyPost> = self
            .waiting
            .iter()
            .filter_map(|row| row.post.as_ref().ok().cloned())
            .collect();
        self.sizes = self.sizes_of(&self.importer.images_to_read(&posts).await?).await?;
        Ok(())
    }

    async fn sizes_of(&self, images: &[i64]) -> anyhow::Result<HashMap<i64, u64>> {
        let mut sizes = HashMap::with_capacity(images.len());
        for images in images.chunks(1000) {
            let mut query = QueryBuilder::<sqlx::MySql>::new(
                "SELECT feed_image_id, CAST(OCTET_LENGTH(image) AS SIGNED) AS size FROM feed_image WHERE feed_image_id IN (",
            );
            let mut list = query.separated(", ");
            for image in images {
                list.push_bind(*image);
            }
            query.push(")");
            for row in query.build().fetch_all(self.pool).await? {
                let size = source::integer(&row, "size")?.unwrap_or(0).unsigned_abs();
                sizes.insert(id(&row, "feed_image_id")?, size);
            }
        }
        Ok(sizes)
    }
}

/// Rows of a child table by their post, of posts with ids from the first to the last.
async fn children(
    executor: impl MySqlExecutor<'_>,
    select: &'static str,
    (first, last): (i64, i64),
) -> anyhow::Result<HashMap<i64, Vec<Child>>> {
    let select = format!("{select} WHERE feed_id BETWEEN ? AND ? ORDER BY id");
    let rows = sqlx::query(AssertSqlSafe(select))
        .bind(first)
        .bind(last)
        .fetch_all(executor)
        .await?;
    by_post(&rows)
}

fn by_post(rows: &[MySqlRow]) -> anyhow::Result<HashMap<i64, Vec<Child>>> {
    let mut children: HashMap<i64, Vec<Child>> = HashMap::new();
    for row in rows {
        let child = Child {
            id: id(row, "id")?,
            text: source::text(row, "text")?,
        };
        children.entry(id(row, "feed_id")?).or_default().push(child);
    }
    Ok(children)
}

/// Returns the rows of a table that have one of these values in `feed_id`.
async fn of_posts(
    connection: &mut MySqlConnection,
    select: &'static str,
    posts: &[i64],
    order: &'static str,
) -> anyhow::Result<Vec<MySqlRow>> {
    let mut query = QueryBuilder::<sqlx::MySql>::new(select);
    query.push(" WHERE feed_id IN (");
    let mut list = query.separated(", ");
    for post in posts {
        list.push_bind(*post);
    }
    query.push(") ORDER BY ").push(order);
    Ok(query.build().fetch_all(connection).await?)
}

/// Reads posts as an import would; without those that are not there, or whose authors cannot be identified.
pub async fn read_some(
    connection: &mut MySqlConnection,
    posts: &[i64],
    names: &Names,
) -> anyhow::Result<HashMap<i64, LegacyPost>> {
    let mut found = HashMap::with_capacity(posts.len());
    if posts.is_empty() {
        return Ok(found);
    }
    let mut categories = by_post(&of_posts(connection, CATEGORY, posts, "id").await?)?;
    let mut images = by_post(&of_posts(connection, IMAGE, posts, "id").await?)?;
    let mut likes = by_post(&of_posts(connection, LIKE, posts, "id").await?)?;
    for row in of_posts(connection, POST, posts, "feed_id").await? {
        let post = id(&row, "feed_id")?;
        let children = Children {
            categories: categories.remove(&post).unwrap_or_default(),
            images: images.remove(&post).unwrap_or_default(),
            likes: likes.remove(&post).unwrap_or_default(),
        };
        if let Ok(legacy) = read(&row, children, names)?.post {
            found.insert(post, legacy);
        }
    }
    Ok(found)
}

fn id(row: &MySqlRow, column: &str) -> anyhow::Result<i64> {
    source::integer(row, column)?.with_context(|| column.to_owned())
}

struct Child {
    id: i64,
    text: source::Text,
}

#[derive(Default)]
struct Children {
    categories: Vec<Child>,
    images: Vec<Child>,
    likes: Vec<Child>,
}

fn read(row: &MySqlRow, children: Children, names: &Names) -> anyhow::Result<ReadPost> {
    let post = id(row, "feed_id")?;
    let mut notes = Vec::new();
    let mut altered = |column, reason| {
        notes.push(Note {
            table: TABLE,
            id: post,
            outcome: "altered",
            column,
            reason,
        });
    };
    let nickname = source::text(row, "nickname")?;
    let author = match nickname.text.as_deref() {
        None => Err(("nickname", "no nickname")),
        Some(nickname) => names
            .present(nickname)
            .cloned()
            .map_err(|unknown| ("nickname", unknown.reason())),
    };
    let date = source::integer(row, "date")?.ok_or(("date", "no date"));
    let happiness = source::integer(row, "happiness")?;
    let happiness = happiness.unwrap_or_else(|| {
        altered("happiness", "none: 0 is written");
        0
    });
    let text = source::text(row, "text")?;
    if text.repaired {
        altered("text", REPAIRED);
    }
    let weather_there = source::text(row, "weather")?;
    if weather_there.repaired {
        altered("weather", REPAIRED);
    }
    let weather = word(weather_there.text.as_deref().unwrap_or_default(), &mut |reason| {
        altered("weather", reason);
    });
    let weather = weather.unwrap_or_else(|| {
        altered("weather", "none: `unknown` is written");
        NO_WEATHER.to_owned()
    });
    let is_public = source::integer(row, "is_public")? == Some(1);
    let counts = (children.images.len(), children.likes.len());
    let categories = categories(&children.categories, &mut notes);
    let is_verbatim = is_public
        && text.text.is_some()
        && weather_there.text.as_deref() == Some(weather.as_str())
        && texts(&children.categories).eq(categories.iter().map(|category| Some(category.as_str())))
        && texts(&children.likes).all(|liker| has_one_name(liker, names));
    let mut untold = HashMap::new();
    let likes = likes(children.likes, names, &mut notes, &mut untold);
    let mut images: Vec<i64> = children.images.iter().map(|child| child.id).collect();
    for surplus in images.iter().skip(MOST_IMAGES) {
        notes.push(Note {
            table: IMAGES,
            id: *surplus,
            outcome: "unplaced",
            column: "feed_id",
            reason: "the post has more than 2000 pictures",
        });
    }
    images.truncate(MOST_IMAGES);
    let read = |author, date| LegacyPost {
        id: post,
        author,
        date,
        weather,
        happiness: i32::try_from(happiness).unwrap_or(i32::MAX),
        text: text.text.unwrap_or_default(),
        is_public,
        categories,
        images,
        likes,
        is_superseded: false,
    };
    Ok(ReadPost {
        id: post,
        is_verbatim: is_verbatim && notes.is_empty(),
        nickname: nickname.text.clone().unwrap_or_default(),
        post: author.and_then(|author: Account| Ok(read(author, date?))),
        notes,
        images: counts.0,
        likes: counts.1,
        untold,
    })
}

fn texts(children: &[Child]) -> impl Iterator<Item = Option<&str>> {
    children.iter().map(|child| child.text.text.as_deref())
}

/// Whether a like shows the nickname that its account has now, and none of another account.
fn has_one_name(liker: Option<&str>, names: &Names) -> bool {
    liker.is_some_and(|liker| names.ever(liker).is_ok() && names.ever(liker) == names.present(liker))
}

/// A weather or category as feed takes it.
fn word(text: &str, cut: &mut dyn FnMut(&'static str)) -> Option<String> {
    let text = text.trim();
    if text.chars().count() <= WORD_CHARS {
        return Some(text.to_owned()).filter(|text| !text.is_empty());
    }
    cut("cut to 50 characters");
    let text: String = text.chars().take(WORD_CHARS).collect();
    Some(text.trim_end().to_owned())
}

fn categories(children: &[Child], notes: &mut Vec<Note>) -> Vec<String> {
    let (mut categories, mut seen, mut bytes) = (Vec::new(), HashSet::new(), 0);
    for child in children {
        let mut note = |outcome, reason| {
            notes.push(Note {
                table: CATEGORIES,
                id: child.id,
                outcome,
                column: "category",
                reason,
            });
        };
        let text = child.text.text.as_deref().unwrap_or_default();
        let Some(category) = word(text, &mut |reason| note("altered", reason)) else {
            note("unplaced", "no category");
            continue;
        };
        if bytes + category.len() > CATEGORY_BYTES {
            note("unplaced", "the post has more categories than fit");
        } else if seen.insert(category.clone()) {
            bytes += category.len() + 3;
            categories.push(category);
        } else {
            note("unplaced", "the post has this category already");
        }
    }
    categories
}

/// Likes by the accounts that bore the nicknames, each account once.
fn likes(
    children: Vec<Child>,
    names: &Names,
    notes: &mut Vec<Note>,
    untold: &mut HashMap<i64, &'static str>,
) -> Vec<LegacyLike> {
    let (mut given, mut seen) = (Vec::new(), HashSet::new());
    for Child { id, text } in children {
        let account = match text.text.as_deref().map(|nickname| names.ever(nickname)) {
            None => Err("no nickname"),
            Some(account) => account.cloned().map_err(super::names::Unknown::reason),
        };
        match account {
            Err(reason) => {
                untold.insert(id, reason);
                given.push(LegacyLike { id, liker: None });
            }
            Ok(account) if seen.insert(account.clone()) => given.push(LegacyLike {
                id,
                liker: Some(account),
            }),
            Ok(_) => notes.push(Note {
                table: LIKES,
                id,
                outcome: "unplaced",
                column: "nickname",
                reason: DOUBLED,
            }),
        }
    }
    given
}

/// Writes a batch, and returns the number of its rows.
async fn write(
    pass: &mut Pass,
    importer: &Importer,
    batch: Batch,
    decisions: &Decisions,
    expected: &mut Expected,
) -> anyhow::Result<u64> {
    let there: HashSet<i64> = batch.rows.iter().map(|row| row.id).collect();
    let mut gone = importer.imported_between(batch.after, batch.until).await?;
    gone.retain(|id| !there.contains(id));
    if !gone.is_empty() {
        for row in importer.delete(&gone, pass.dry_run).await? {
            record(&mut pass.report, &row, expected)?;
        }
    }
    let mut posts = Vec::with_capacity(batch.rows.len());
    let mut rows = HashMap::with_capacity(batch.rows.len());
    for row in batch.rows {
        for note in &row.notes {
            pass.report
                .note(note.table, note.id, note.outcome, Some(note.column), note.reason)?;
        }
        match row.post {
            Ok(post) => {
                let read = Read {
                    is_shown: row.is_verbatim && !decisions.contested.contains(&row.id),
                    nickname: row.nickname,
                    post: post.clone(),
                    images: row.images,
                    likes: row.likes,
                    untold: row.untold,
                };
                rows.insert(row.id, read);
                posts.push(post);
            }
            Err((column, reason)) => {
                pass.report.count(TABLE, "unplaced");
                pass.report.note(TABLE, row.id, "unplaced", Some(column), reason)?;
                expected.others.push(row.id);
                count(&mut pass.report, IMAGES, "without-post", row.images);
                count(&mut pass.report, LIKES, "without-post", row.likes);
            }
        }
    }
    let read = there.len() as u64;
    if posts.is_empty() {
        return Ok(read);
    }
    let applied = importer
        .apply(&posts, &batch.pictures, batch.read_at, pass.dry_run)
        .await?;
    for row in &applied {
        if let Some(read) = rows.remove(&row.id) {
            record(&mut pass.report, row, expected)?;
            record_children(&mut pass.report, row, read, expected)?;
        } else if !decisions.superseded.contains(&row.id) {
            expected.raced += 1;
        }
    }
    Ok(read)
}

fn count(report: &mut Report, table: &'static str, outcome: &'static str, times: usize) {
    for _ in 0..times {
        report.count(table, outcome);
    }
}

/// A post that was handed over, with how many rows of pictures and likes it had.
struct Read {
    /// Whether other people see it as it is in the legacy database.
    is_shown: bool,
    nickname: String,
    post: LegacyPost,
    images: usize,
    likes: usize,
    untold: HashMap<i64, &'static str>,
}

/// Counts a post.
fn record(report: &mut Report, row: &Applied, expected: &mut Expected) -> anyhow::Result<()> {
    let (outcome, reason) = explain(row.outcome);
    report.count(TABLE, outcome);
    if let Some(reason) = reason {
        report.note(TABLE, row.id, outcome, None, reason)?;
    }
    if !is_as_read(row.outcome) {
        expected.others.push(row.id);
    }
    Ok(())
}

/// Whether the post is here as it was read.
fn is_as_read(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Unchanged | Outcome::Created | Outcome::Updated)
}

/// Counts the pictures and likes of a post.
fn record_children(report: &mut Report, row: &Applied, read: Read, expected: &mut Expected) -> anyhow::Result<()> {
    let Read {
        is_shown,
        nickname,
        post,
        images,
        likes,
        untold,
    } = read;
    if !is_as_read(row.outcome) {
        count(report, IMAGES, "without-post", images);
        count(report, LIKES, "without-post", likes);
        return Ok(());
    }
    expected.posts += 1;
    expected.happiness += i64::from(post.happiness);
    if matches!(row.outcome, Outcome::Unchanged) {
        expected.unchanged.push((row.id, post.happiness));
    }
    let unfit: HashMap<i64, &str> = row.unfit_images.iter().copied().collect();
    for image in &post.images {
        if let Some(reason) = unfit.get(image) {
            report.note(IMAGES, image, "unplaced", Some("image"), reason)?;
        } else {
            expected.images.offer(PlacedImage {
                id: *image,
                post: row.id,
            });
        }
    }
    count(report, IMAGES, "placed", post.images.len() - unfit.len());
    count(report, IMAGES, "unplaced", images - (post.images.len() - unfit.len()));
    let left_out = &row.left_out_likes;
    let doubled = left_out.doubled.iter().map(|like| (like, DOUBLED));
    let resigned = row.resigned_likes.iter().map(|like| (like, "the account has resigned"));
    let untold = left_out
        .untold
        .iter()
        .map(|like| (like, untold.get(like).copied().unwrap_or("unknown")));
    let unplaced: Vec<_> = doubled.chain(resigned).chain(untold).collect();
    for (like, reason) in &unplaced {
        report.note(LIKES, like, "unplaced", Some("nickname"), reason)?;
    }
    if is_shown && unfit.is_empty() {
        expected.shown.offer(ShownPost {
            id: post.id,
            author: post.author,
            nickname,
            date: post.date,
        });
    }
    let placed = post.likes.len() - unplaced.len();
    count(report, LIKES, "placed", placed);
    count(report, LIKES, "unplaced", likes - placed);
    Ok(())
}

fn explain(outcome: Outcome) -> (&'static str, Option<&'static str>) {
    match outcome {
        Outcome::Unchanged => ("unchanged", None),
        Outcome::Created => ("created", None),
        Outcome::Updated => ("updated", None),
        Outcome::Deleted => ("deleted", Some("the row is gone, and its post with it")),
        Outcome::KeptOurs => ("kept-ours", Some("the post was changed here since it was imported")),
        Outcome::DeletedHere => ("deleted-here", Some("the post was deleted here since it was imported")),
        Outcome::ExistsHere => ("exists-here", Some("the author has a post of that day here")),
        Outcome::Superseded => ("superseded", Some("the author has a later post of the same day")),
        Outcome::NoSuchDay => ("unplaced", Some("date: no day of the calendar from 2000 on")),
        Outcome::InFuture => ("unplaced", Some("date: later than tomorrow")),
        Outcome::Resigned => ("unplaced", Some("the author has resigned")),
    }
}

/// Rows of a child table whose post is missing.
async fn report_orphans(report: &mut Report, pool: &MySqlPool, table: &'static str) -> anyhow::Result<()> {
    let key = format!("{table}_id");
    let mut last = i64::MIN;
    loop {
        let mut query = QueryBuilder::<sqlx::MySql>::new(format!(
            "SELECT c.{key} AS id FROM `{table}` c LEFT JOIN feed f ON f.feed_id = c.feed_id \
             WHERE f.feed_id IS NULL AND c.{key} > "
        ));
        query
            .push_bind(last)
            .push(format!(" ORDER BY c.{key} LIMIT "))
            .push_bind(ORPHANS);
        let rows = query.build().fetch_all(pool).await?;
        for row in &rows {
            last = id(row, "id")?;
            report.count(table, "unplaced");
            report.note(table, last, "unplaced", Some("feed_id"), "there is no such post")?;
        }
        if rows.len() < usize::try_from(ORPHANS)? {
            return Ok(());
        }
    }
}

/// Posts of this fleet that are read at once.
const PAGE_HERE: u32 = 500;

/// Returns those of the rows that are unchanged in the legacy database whose posts were changed or deleted here since the pass that has
/// taken them over.
async fn changed_here(importer: &Importer, unchanged: &[(i64, i32)]) -> anyhow::Result<HashSet<i64>> {
    let mut changed: HashSet<i64> = importer.deleted().await?.into_iter().collect();
    let mut last = i64::MIN;
    loop {
        let page = importer.posts_after(last, PAGE_HERE).await?;
        let Some(newest) = page.last() else { break };
        last = newest.id;
        let of_page = page.iter().filter(|post| !post.is_unchanged);
        changed.extend(of_page.filter_map(|post| post.legacy_id));
    }
    let unchanged: HashSet<i64> = unchanged.iter().map(|(row, _)| *row).collect();
    changed.retain(|row| unchanged.contains(row));
    Ok(changed)
}

/// Compares totals, and what some pictures show.
async fn check(pool: &MySqlPool, importer: &Importer, expected: &mut Expected) -> anyhow::Result<()> {
    let mut changed = None;
    let (mut posts, mut happiness) = importer.totals_without(&expected.others).await?;
    if expected.raced == 0 {
        if (posts, happiness) != (expected.posts, expected.happiness) {
            let changed = changed.insert(changed_here(importer, &expected.unchanged).await?);
            for (row, happiness) in expected.unchanged.iter().filter(|(row, _)| changed.contains(row)) {
                expected.posts -= 1;
                expected.happiness -= i64::from(*happiness);
                expected.others.push(*row);
            }
            println!(
                "check: {} posts were changed or deleted here: not compared",
                changed.len()
            );
            (posts, happiness) = importer.totals_without(&expected.others).await?;
        }
        ensure!(
            (posts, happiness) == (expected.posts, expected.happiness),
            "check: {} posts with a happiness of {} were read, {posts} with {happiness} are here",
            expected.posts,
            expected.happiness
        );
        println!("check: {posts} posts, happiness {happiness}: as they were read");
    } else {
        println!(
            "check: totals are not compared: {} posts were replaced in the legacy database during this run",
            expected.raced
        );
    }
    let mut same = 0;
    for PlacedImage { id, post } in &expected.images.rows {
        // A picture that was deleted since is for the next pass.
        let Some(bytes) = PICTURES.read_one(pool, *id).await? else {
            continue;
        };
        if importer.shows(*id, bytes).await? {
            same += 1;
            continue;
        }
        if changed.is_none() {
            changed = Some(changed_here(importer, &expected.unchanged).await?);
        }
        ensure!(
            changed.as_ref().is_some_and(|changed| changed.contains(post)),
            "check: picture {id} does not show here what it shows there"
        );
    }
    println!("check: {same} pictures compared: the same");
    Ok(())
}

/// Asks both fleets for some posts, if there are two to ask.
async fn compare(pass: &mut Pass, names: &Names, posts: &[ShownPost]) -> anyhow::Result<()> {
    let Some(apis) = &mut pass.apis else { return Ok(()) };
    let viewer = apis.nickname(names)?;
    for post in posts {
        // An account that has another nickname here is in the report already.
        if names.nickname_here(&post.author) != Some(&post.nickname) {
            continue;
        }
        let request = Request {
            row: &post.id.to_string(),
            route: ("feed-service", "findDetailFeed"),
            form: &[
                ("srcNickname", viewer),
                ("dstNickname", &post.nickname),
                ("date", &post.date.to_string()),
            ],
        };
        apis.compare(&mut pass.report, request).await?;
    }
    Ok(())
}
