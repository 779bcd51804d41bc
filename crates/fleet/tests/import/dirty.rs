//! Twenty thousand posts with everything that the legacy schema allows: each row is in the database afterwards or in the report with
//! its reason, and none of them twice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sosohappy_testkit::{Bed, EngineSet, Person, Running};

use super::legacy::{Legacy, PNG, Target, count};

/// With posts of 50 days each: twenty thousand.
const PEOPLE: i64 = 400;

/// On the real engines: a quarter of the posts, of every kind. What becomes of a row does not depend on the engine, and SQL stores share their
/// statements.
const PEOPLE_ON_REAL: i64 = 100;

const DAYS: i64 = 50;

/// Kinds of posts; those without an arm in [`Rows::post`] are clean.
const KINDS: i64 = 50;

const NO_NICKNAME: (&str, &str) = ("nickname", "unplaced: no nickname");
const NO_ACCOUNT: (&str, &str) = ("nickname", "unplaced: no account has this nickname");
const SEVERAL: (&str, &str) = ("nickname", "unplaced: more than one account has or had this nickname");
const NO_SUCH_DAY: (&str, &str) = ("", "unplaced: date: no day of the calendar from 2000 on");
const SUPERSEDED: (&str, &str) = ("", "superseded: the author has a later post of the same day");
const BROKEN: (&str, &str) = ("image", "unplaced: broken or cut off");
const UNFIT: (&str, &str) = ("image", "unplaced: not a JPEG, PNG, GIF, WebP or HEIC picture");

/// The column and the reason of a row that is not imported.
type Refusal = (&'static str, &'static str);

/// A row of `feed` as SQL literals, and its expected outcome.
struct Post {
    id: i64,
    date: String,
    happiness: String,
    is_public: &'static str,
    nickname: String,
    weather: String,
    text: String,
    refused: Option<Refusal>,
}

/// A row of a child table: its post, its value as an SQL literal, and its expected outcome when the post is imported.
type Child = (i64, String, Option<Refusal>);

#[derive(Default)]
struct Rows {
    people: i64,
    posts: Vec<Post>,
    categories: Vec<(i64, String)>,
    images: Vec<Child>,
    likes: Vec<Child>,
}

/// A day of an account: `number` counts from the first of a year with months of 25 days.
fn date(year: i64, number: i64) -> i64 {
    (year * 10_000 + 101 + number / 25 * 100 + number % 25) * 100_000_000 + 12_000_000
}

fn uuid(person: i64) -> String {
    format!("{person:08x}-1a2b-4c3d-8e9f-001122334455")
}

fn quoted(text: &str) -> String {
    format!("'{text}'")
}

impl Rows {
    fn new(people: i64) -> Self {
        let mut rows = Self {
            people,
            ..Self::default()
        };
        for number in 0..people * DAYS {
            rows.post(number);
        }
        rows
    }

    #[expect(clippy::too_many_lines, reason = "a table of rows and what becomes of each")]
    fn post(&mut self, number: i64) {
        let (person, day, id) = (number % self.people, number / self.people, number + 1);
        let kind = (number + 7 * day) % KINDS;
        let mut post = Post {
            id,
            date: date(2023, day).to_string(),
            happiness: (number % 6).to_string(),
            is_public: "b'1'",
            nickname: quoted(&format!("person{person}")),
            weather: quoted("sunny"),
            text: quoted(&format!("day {number}")),
            refused: None,
        };
        match kind {
            0 => (post.date, post.refused) = ("NULL".to_owned(), Some(("date", "unplaced: no date"))),
            1 => (post.date, post.refused) = ("0".to_owned(), Some(NO_SUCH_DAY)),
            2 => (post.date, post.refused) = (format!("-{}", post.date), Some(NO_SUCH_DAY)),
            3 => {
                (post.date, post.refused) = (
                    date(9999, day).to_string(),
                    Some(("", "unplaced: date: later than tomorrow")),
                );
            }
            4 => (post.date, post.refused) = ("2023023012000000".to_owned(), Some(NO_SUCH_DAY)),
            5 => (post.date, post.refused) = ("20230101120000".to_owned(), Some(NO_SUCH_DAY)),
            6 => (post.date, post.refused) = (date(1999, day).to_string(), Some(NO_SUCH_DAY)),
            7 => (post.date, post.refused) = (i64::MAX.to_string(), Some(NO_SUCH_DAY)),
            8 => (post.nickname, post.refused) = ("NULL".to_owned(), Some(NO_NICKNAME)),
            9 => (post.nickname, post.refused) = (quoted(""), Some(NO_ACCOUNT)),
            10 => (post.nickname, post.refused) = (quoted(&format!("stranger{number}")), Some(NO_ACCOUNT)),
            11 => (post.nickname, post.refused) = (quoted("twin"), Some(SEVERAL)),
            12 => (post.nickname, post.refused) = (quoted(&format!("PERSON{person}")), Some(NO_ACCOUNT)),
            13 => (post.nickname, post.refused) = (quoted("foreign"), Some(NO_ACCOUNT)),
            14 => {
                let none = || "NULL".to_owned();
                (post.date, post.happiness, post.nickname, post.weather, post.text) =
                    (none(), none(), none(), none(), none());
                (post.is_public, post.refused) = ("NULL", Some(NO_NICKNAME));
            }
            // The row of a person's day that stays has a lower or a greater id; the other may be in the same page or in the last one.
            15 => self.second(&mut post, 1_000_000, true),
            16 => self.second(&mut post, -1_000_000, false),
            17 => self.second(&mut post, 0, true),
            18 => "NULL".clone_into(&mut post.happiness),
            19 => post.happiness = i32::MIN.to_string(),
            20 => post.happiness = i32::MAX.to_string(),
            21 => "NULL".clone_into(&mut post.weather),
            22 => "REPEAT('비', 255)".clone_into(&mut post.weather),
            23 => post.weather = quoted("   "),
            24 => "NULL".clone_into(&mut post.text),
            25 => "REPEAT('행복', 35000)".clone_into(&mut post.text),
            26 => "CONCAT('a', CHAR(0), 'b', CHAR(10), CHAR(13))".clone_into(&mut post.text),
            27 => post.is_public = "NULL",
            28 => post.date = (date(2023, day) / 100_000_000 * 100_000_000 + 99_999_999).to_string(),
            // Nicknames that count as a profile that is not set, of an account all the same.
            29 => post.nickname = quoted(&uuid(person)),
            30 => post.nickname = quoted(&format!("NAMESAKE{person}")),
            31 => post.nickname = quoted(&format!("ghost\u{200b}{person}")),
            // A second row of the person's address: its posts belong to the same account.
            32 => {
                post.nickname = quoted(&format!("copy{person}"));
                post.date = date(2024, day).to_string();
            }
            33 => {
                for category in [
                    "NULL",
                    "''",
                    "'sea'",
                    "'sea'",
                    "' sea '",
                    "REPEAT('c', 255)",
                    "'no such category'",
                ] {
                    self.categories.push((id, category.to_owned()));
                }
            }
            34 => {
                let cut = &hex::encode(PNG)[..40];
                for (image, refused) in [
                    ("NULL".to_owned(), UNFIT),
                    ("''".to_owned(), UNFIT),
                    ("'HEIC'".to_owned(), UNFIT),
                    (format!("x'{cut}'"), BROKEN),
                ] {
                    self.images.push((id, image, Some(refused)));
                }
            }
            35 => {
                for liker in [
                    ("NULL", "unplaced: no nickname"),
                    ("''", NO_ACCOUNT.1),
                    ("'stranger'", NO_ACCOUNT.1),
                    ("'twin'", SEVERAL.1),
                ] {
                    self.likes.push((id, liker.0.to_owned(), Some(("nickname", liker.1))));
                }
            }
            36 => {
                self.likes.push((id, quoted("person1"), None));
                for doubled in ["'person1'", "'copy1'"] {
                    let reason = ("nickname", "unplaced: the account likes the post already");
                    self.likes.push((id, doubled.to_owned(), Some(reason)));
                }
            }
            // By a nickname that its account has changed since, and by one that another account has taken then.
            37 => {
                self.likes.push((id, quoted("old2"), None));
                self.likes.push((id, quoted("old3"), Some(("nickname", SEVERAL.1))));
            }
            _ => {}
        }
        // Children of every kind of post, refused ones among them.
        if number % 3 == 0 {
            self.categories.push((id, quoted("coffee")));
        }
        if number % 10 == 0 {
            self.images
                .push((id, format!("x'{}{number:08x}'", hex::encode(PNG)), None));
        }
        if number % 5 == 0 {
            self.likes
                .push((id, quoted(&format!("person{}", self.people - 1)), None));
        }
        self.posts.push(post);
    }

    /// A further row of the same person and day, later by that much; the later one stays, of equal ones the second.
    fn second(&mut self, first: &mut Post, later: i64, stays: bool) {
        let date: i64 = first.date.parse().expect("a clean date");
        self.posts.push(Post {
            id: self.people * DAYS + first.id,
            date: (date + later).to_string(),
            happiness: "5".to_owned(),
            is_public: "b'1'",
            nickname: first.nickname.clone(),
            weather: quoted("rainy"),
            text: quoted("second"),
            refused: (!stays).then_some(SUPERSEDED),
        });
        if stays {
            first.refused = Some(SUPERSEDED);
        }
    }

    async fn insert(&self, legacy: &Legacy) {
        let posts = self.posts.iter().map(|post| {
            format!(
                "({}, {}, {}, {}, {}, {}, {})",
                post.id, post.date, post.happiness, post.is_public, post.nickname, post.weather, post.text
            )
        });
        let children = |rows: &[Child]| -> Vec<String> {
            let numbered = rows.iter().zip(1..);
            numbered
                .map(|((post, value, _), id)| format!("({id}, {value}, {post})"))
                .collect()
        };
        let categories = self.categories.iter().map(|(post, value)| format!("({value}, {post})"));
        for (insert, rows) in [
            (
                "feed (feed_id, date, happiness, is_public, nickname, weather, text)",
                posts.collect(),
            ),
            ("feed_category (category, feed_id)", categories.collect()),
            ("feed_image (feed_image_id, image, feed_id)", children(&self.images)),
            (
                "feed_like_nickname (feed_like_nickname_id, nickname, feed_id)",
                children(&self.likes),
            ),
        ] {
            for rows in rows.chunks(500) {
                legacy
                    .run(format!("INSERT INTO {insert} VALUES {}", rows.join(", ")))
                    .await;
            }
        }
    }

    /// Returns the expected report of rows that are not imported: the row, the column, the outcome with its reason.
    fn refusals(&self) -> BTreeSet<(String, String, String)> {
        let posts = self
            .posts
            .iter()
            .filter_map(|post| Some(("feed", post.id, post.refused?)));
        let placed = self.placed();
        let children = [("feed_image", &self.images), ("feed_like_nickname", &self.likes)];
        let children = children.into_iter().flat_map(|(table, rows)| {
            let of_placed = rows.iter().zip(1..).filter(|((post, ..), _)| placed.contains(post));
            of_placed.filter_map(move |((_, _, refused), id)| Some((table, id, (*refused)?)))
        });
        let lines = posts.chain(children);
        lines
            .map(|(table, id, (column, reason))| (format!("{table} {id}"), column.to_owned(), reason.to_owned()))
            .collect()
    }

    fn placed(&self) -> BTreeSet<i64> {
        let placed = self.posts.iter().filter(|post| post.refused.is_none());
        placed.map(|post| post.id).collect()
    }

    /// The ids of children that have to be imported.
    fn placed_of(&self, children: &[Child]) -> BTreeSet<i64> {
        let placed = self.placed();
        let rows = children.iter().zip(1..);
        let fit = rows.filter(|((post, _, refused), _)| refused.is_none() && placed.contains(post));
        fit.map(|(_, id)| id).collect()
    }

    fn happiness(&self) -> i64 {
        let placed = self.posts.iter().filter(|post| post.refused.is_none());
        placed.map(|post| post.happiness.parse().unwrap_or(0)).sum()
    }
}

/// Accounts whose nicknames posts and likes have; every column of some of them is dirty.
async fn insert_users(legacy: &Legacy, people: i64) {
    let mut rows = Vec::new();
    let mut add = |email: String, provider: &str, nickname: String, introduction: &str, photo: &str| {
        rows.push(format!(
            "('-', '{email}', '{nickname}', '{provider}', 's', {introduction}, {photo}, 'no token')"
        ));
    };
    for person in 0..people {
        let email = format!("person{person}@example.com+kakao");
        let (introduction, photo) = match person % 4 {
            0 => ("NULL", "NULL".to_owned()),
            1 => ("REPEAT('가', 255)", "'not a picture'".to_owned()),
            2 => ("CONCAT('a', CHAR(0))", "''".to_owned()),
            _ => ("'hello'", format!("x'{}'", hex::encode(PNG))),
        };
        let nickname = match person {
            2 | 3 => format!("old{person}"),
            _ => format!("person{person}"),
        };
        add(email.clone(), "kakao", nickname, introduction, &photo);
        add(
            format!(" {}", email.to_uppercase().replace("+KAKAO", "+kakao")),
            "kakao",
            format!("copy{person}"),
            "NULL",
            "NULL",
        );
        add(
            format!("new{person}@example.com"),
            "kakao",
            uuid(person),
            "NULL",
            "NULL",
        );
        add(
            format!("first{person}@example.com+google"),
            "google",
            format!("namesake{person}"),
            "NULL",
            "NULL",
        );
        add(
            format!("namesake{person}@example.com+google"),
            "google",
            format!("NAMESAKE{person}"),
            "NULL",
            "NULL",
        );
        add(
            format!("ghost{person}@example.com+apple"),
            "apple",
            format!("ghost\u{200b}{person}"),
            "NULL",
            "NULL",
        );
    }
    add(
        "one@example.com+kakao".to_owned(),
        "kakao",
        "twin".to_owned(),
        "NULL",
        "NULL",
    );
    add(
        "two@example.com+kakao".to_owned(),
        "kakao",
        "twin".to_owned(),
        "NULL",
        "NULL",
    );
    add(
        "foreign@example.com+naver".to_owned(),
        "naver",
        "foreign".to_owned(),
        "NULL",
        "NULL",
    );
    for rows in rows.chunks(500) {
        legacy
            .run_at_auth(&format!(
                "INSERT INTO `user` (apple_refresh_token, email, nickname, provider, provider_id, introduction, profile_img, refresh_token) \
                 VALUES {}",
                rows.join(", ")
            ))
            .await;
    }
}

async fn feed(bed: &Bed) -> Running {
    let settings = bed.settings("feed", sosohappy_feed::DEFAULTS, &[]).await;
    let built = sosohappy_feed::build(settings, bed.context(sosohappy_feed::SERVICE), bed.bus.clone()).await;
    bed.start(built).await
}

async fn month(feed: &Running, person: &Person, month: i64) -> Vec<Value> {
    let date = ((month * 100 + 1) * 100_000_000).to_string();
    let ask = sosohappy_common::tls::client().post(feed.at("/feed-service/findMonthFeed"));
    let ask = ask.form(&[("nickname", person.nickname.as_str()), ("date", &date)]);
    let answer = person.sign(ask).send().await.expect("feed answers");
    assert_eq!(answer.status(), 200);
    answer.json().await.expect("a list")
}

#[expect(
    clippy::too_many_lines,
    reason = "two passes over the same rows, compared with one list"
)]
async fn every_row_of_twenty_thousand_posts_is_here_or_in_the_report(bed: Bed) {
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    let people = match bed.set {
        EngineSet::Embedded => PEOPLE,
        EngineSet::Real => PEOPLE_ON_REAL,
    };
    insert_users(&legacy, people).await;
    let rows = Rows::new(people);
    rows.insert(&legacy).await;
    // Rows whose post is missing.
    legacy
        .run("INSERT INTO feed_category (category) VALUES ('sea'), (NULL)")
        .await;
    let orphaned_image = legacy.run("INSERT INTO feed_image (image) VALUES (x'00')").await;
    let orphaned_like = legacy
        .run("INSERT INTO feed_like_nickname (nickname) VALUES ('person1')")
        .await;
    let urls = ["auth", "feed"].map(|service| legacy.url(service));
    let arguments = ["--auth", urls[0].as_str(), "--feed", urls[1].as_str()];
    target.import(&arguments[..2]);
    // Between two passes accounts change their nicknames, and another account takes one of them.
    legacy
        .run_at_auth(
            "UPDATE `user` SET nickname = REPLACE(nickname, 'old', 'person') WHERE nickname IN ('old2', 'old3')",
        )
        .await;
    legacy.user("late@example.com+kakao", "old3").await;

    let summary = target.import(&arguments);
    let report = target.report();
    let refused = |line: &&(String, String, String)| {
        let of_import = ["feed ", "feed_image ", "feed_like_nickname "];
        of_import.iter().any(|table| line.0.starts_with(table)) && !line.2.starts_with("altered: ")
    };
    let found: Vec<_> = report.iter().filter(refused).cloned().collect();
    let mut wanted = rows.refusals();
    for orphan in [
        format!("feed_image {orphaned_image}"),
        format!("feed_like_nickname {orphaned_like}"),
    ] {
        wanted.insert((
            orphan,
            "feed_id".to_owned(),
            "unplaced: there is no such post".to_owned(),
        ));
    }
    let found_once: BTreeSet<_> = found.iter().cloned().collect();
    let missing: Vec<_> = wanted.difference(&found_once).take(10).collect();
    let surplus: Vec<_> = found_once.difference(&wanted).take(10).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing: {missing:?}, surplus: {surplus:?}"
    );
    assert_eq!(found.len(), found_once.len(), "each line is there once");

    let placed = rows.placed();
    for (query, wanted) in [
        ("SELECT legacy_id FROM imported_post", placed.clone()),
        ("SELECT legacy_id FROM imported_image", rows.placed_of(&rows.images)),
        ("SELECT liked_at FROM post_like", rows.placed_of(&rows.likes)),
    ] {
        let found = target.numbers(query).await;
        let found_once: BTreeSet<i64> = found.iter().copied().collect();
        assert_eq!(found.len(), found_once.len(), "{query}: none twice");
        assert_eq!(found_once, wanted, "{query}");
    }
    let posts = i64::try_from(placed.len()).expect("few");
    assert_eq!(target.number("SELECT COUNT(*) FROM post").await, Some(posts));
    let check = format!(
        "check: {posts} posts, happiness {}: as they were read",
        rows.happiness()
    );
    assert!(summary.contains(&check), "{check} is not in {summary}");
    for table in ["feed", "feed_image", "feed_like_nickname"] {
        let section: Vec<_> = summary
            .lines()
            .skip_while(|line| !line.starts_with(&format!("{table}: ")))
            .collect();
        let total: String = legacy
            .text(&format!("SELECT CAST(COUNT(*) AS CHAR) FROM {table}"), false)
            .await;
        assert_eq!(section[0], format!("{table}: {total} rows"), "each row is counted once");
    }
    let mut superseded: BTreeMap<&str, u64> = BTreeMap::new();
    for post in rows.posts.iter().filter_map(|post| post.refused) {
        *superseded
            .entry(post.1.split(':').next().unwrap_or_default())
            .or_default() += 1;
    }
    for (outcome, posts) in superseded {
        assert_eq!(count(&summary, "feed", outcome), posts, "{summary}");
    }

    let again = target.import(&arguments);
    let counts = ["created", "updated", "unchanged"].map(|outcome| count(&again, "feed", outcome));
    assert_eq!(counts, [0, 0, placed.len() as u64], "{again}");
    assert!(again.contains(&check), "{again}");

    let feed = feed(&bed).await;
    let person = bed.person("person1@example.com+kakao", "person1").await;
    let mut shown = BTreeMap::new();
    for number in [202_301, 202_302, 202_401, 202_402] {
        for post in month(&feed, &person, number).await {
            let day = post["date"].as_i64().expect("a date");
            assert!(shown.insert(day, post).is_none(), "one post a day");
        }
    }
    let of_person = |post: &&Post| ["'person1'", "'copy1'"].contains(&post.nickname.as_str()) && post.refused.is_none();
    let wanted: BTreeSet<i64> = rows
        .posts
        .iter()
        .filter(of_person)
        .map(|post| post.date.parse().expect("a date"))
        .collect();
    assert_eq!(
        shown.keys().copied().collect::<BTreeSet<_>>(),
        wanted,
        "every post of the person is shown"
    );
    let others = sosohappy_common::tls::client().get(feed.at("/feed-service/findOtherFeed"));
    let others = others.query(&[("nickname", "person1"), ("page", "0"), ("size", "10")]);
    let others: Value = person
        .sign(others)
        .send()
        .await
        .expect("feed answers")
        .json()
        .await
        .expect("a slice");
    let dates = others["content"].as_array().expect("a list").iter();
    let dates: Vec<i64> = dates.map(|post| post["date"].as_i64().expect("a date")).collect();
    assert_eq!(dates.len(), 10);
    assert!(
        dates.iter().all(|date| *date < 2_025_000_000_000_000),
        "none of the year 9999: {dates:?}"
    );
}

on_both_targets!(every_row_of_twenty_thousand_posts_is_here_or_in_the_report);
