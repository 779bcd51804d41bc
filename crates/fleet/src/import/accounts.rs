//! The table `user`.
//!
//! Rows whose addresses only differ in letter case or blanks are one person's. Their account is the row with a session that lives, else
//! the one whose profile is set, else the one that was there first; the nicknames of the others are remembered as that person's. Of
//! accounts with the same nickname the same rule says which keeps it; the others have to choose another one. Nicknames that only look alike
//! are kept and reported.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, ensure};
use sosohappy_auth::import::{Applied, Importer, LegacyUser, Outcome};
use sosohappy_common::{Account, Look, Nickname, NicknameKey, NicknameLooks};
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, MySqlPool, QueryBuilder};

use super::apis::Request;
use super::report::Report;
use super::sample::Sample;
use super::source::{self, Pictures};
use super::{Pass, Stage};

pub const TABLE: &str = "user";

/// Rows that are looked at together, and taken over in one transaction.
const PAGE: i64 = 200;

/// Rows of one statement where only the decisions are made.
const LIGHT_PAGE: i64 = 5000;

/// Bytes of the photos in one transaction.
const PHOTO_BYTES: u64 = 16 << 20;

/// The columns that [`read`] reads.
pub const COLUMNS: &str = "user_id, email, provider, provider_id, nickname, introduction, device_token, apple_refresh_token, \
    refresh_token, SHA2(profile_img, 256) AS photo, CAST(OCTET_LENGTH(profile_img) AS SIGNED) AS photo_bytes";

const PHOTOS: Pictures = Pictures {
    table: TABLE,
    id: "user_id",
    image: "profile_img",
};

type Key = [u8; 16];

/// The columns that decide between rows; a few bytes each, so that a million fit.
#[derive(Debug)]
struct Candidate {
    id: i64,
    email: Key,
    nickname: Option<Key>,
    /// A session that lives, then a profile that is set.
    rank: (bool, bool),
}

/// Which rows are not what they claim to be.
#[derive(Debug, Default)]
struct Decisions {
    /// Rows that are not the account of their address, and the row that is.
    duplicates: HashMap<i64, i64>,
    /// Accounts whose nickname another account keeps.
    nameless: HashSet<i64>,
    /// Accounts that keep a nickname which looks like another account's.
    alike: HashSet<i64>,
    /// Accounts of which the legacy auth may show another row: one of the same address or nickname.
    contested: HashSet<i64>,
    rows: u64,
    /// The greatest id of this pass.
    last: i64,
}

/// The looks of all nicknames, by the first bytes of each look.
#[derive(Debug, Default)]
struct Looks {
    own: Vec<(u64, i64)>,
    confusable: Vec<(u64, i64)>,
}

impl Looks {
    fn add(&mut self, id: i64, nickname: &str) {
        let prefix = |look: &Look| {
            let mut prefix = [0; 8];
            prefix.copy_from_slice(&look.as_bytes()[..8]);
            u64::from_be_bytes(prefix)
        };
        let looks = NicknameLooks::of(nickname);
        self.own.extend(looks.own.iter().map(|look| (prefix(look), id)));
        self.confusable
            .extend(looks.confusable.iter().map(|look| (prefix(look), id)));
    }

    /// Returns the ids of nicknames that look like another one, among those that are borne.
    fn alike(mut self, is_borne: impl Fn(i64) -> bool) -> HashSet<i64> {
        self.own.retain(|(_, id)| is_borne(*id));
        self.own.sort_unstable();
        let looks_like_another = |(look, id): &(u64, i64)| {
            let first = self.own.partition_point(|(other, _)| other < look);
            let same = self.own[first..].iter().take_while(|(other, _)| other == look);
            is_borne(*id) && same.map(|(_, other)| other).any(|other| other != id)
        };
        let found = self.confusable.iter().filter(|row| looks_like_another(row));
        found.map(|(_, id)| *id).collect()
    }
}

fn half(digest: &[u8; 32]) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}

/// Takes all rows over and, in a second look at the same ids, those that are gone.
pub async fn import(pass: &mut Pass, pool: &MySqlPool, importer: &Importer) -> anyhow::Result<()> {
    let decisions = decide(pool, importer).await.context("user")?;
    let stage = Stage::begin("accounts", decisions.rows);
    let mut names = Vec::new();
    let mut expected = Expected::default();
    let mut last = i64::MIN;
    loop {
        let read_at = pass.context.clock.now();
        let page = page(pool, (last, decisions.last)).await.context("user")?;
        let until = page.last().map_or(i64::MAX, |row| row.user.id);
        delete_missing(pass, importer, &page, last, until).await?;
        if page.is_empty() {
            break;
        }
        let mut batch = Batch::default();
        stage.inc(page.len() as u64);
        for row in page {
            if let Some(winner) = decisions.duplicates.get(&row.user.id) {
                if let Some(nickname) = row.user.nickname.filter(|nickname| !nickname.is_empty()) {
                    names.push((*winner, nickname));
                }
                pass.report.count(TABLE, "duplicate");
                let reason = format!("the address is that of row {winner}, which is the account");
                pass.report
                    .note(TABLE, row.user.id, "duplicate", Some("email"), &reason)?;
                continue;
            }
            if batch.bytes + row.photo_bytes > PHOTO_BYTES && !batch.users.is_empty() {
                let full = std::mem::take(&mut batch);
                take(pass, pool, importer, full, &decisions, &mut expected, read_at).await?;
            }
            batch.push(row, &decisions, &mut pass.report)?;
        }
        take(pass, pool, importer, batch, &decisions, &mut expected, read_at).await?;
        last = until;
    }
    if !pass.dry_run {
        let names = names_of_winners(pool, names).await?;
        importer.set_further_names(&names).await?;
        check(importer, &expected.here).await?;
    }
    compare(pass, &expected.shown.rows).await
}

/// What has to be here at the end of a pass.
#[derive(Default)]
struct Expected {
    /// Rows whose accounts are here.
    here: Vec<i64>,
    /// Some of them whose accounts are as they were read.
    shown: Sample<ShownUser>,
}

/// Reads again which rows are here.
async fn check(importer: &Importer, expected: &[i64]) -> anyhow::Result<()> {
    let mut here = 0;
    for ids in expected.chunks(usize::try_from(LIGHT_PAGE)?) {
        here += importer.count_imported(ids).await?;
    }
    ensure!(
        here == expected.len(),
        "check: {} accounts were read, {here} are here",
        expected.len()
    );
    println!("check: {here} accounts: as they were read");
    Ok(())
}

/// The account of a duplicate is the one of the row that won, whose letter case may be another.
async fn names_of_winners(pool: &MySqlPool, duplicates: Vec<(i64, String)>) -> anyhow::Result<Vec<(String, Account)>> {
    let mut names = Vec::with_capacity(duplicates.len());
    for duplicates in duplicates.chunks(usize::try_from(PAGE)?) {
        let mut query =
            QueryBuilder::<sqlx::MySql>::new("SELECT user_id, email, provider FROM `user` WHERE user_id IN (");
        let mut list = query.separated(", ");
        for (winner, _) in duplicates {
            list.push_bind(*winner);
        }
        query.push(")");
        let mut accounts = HashMap::new();
        for row in query.build().fetch_all(pool).await? {
            let user = address(&row)?;
            if let Ok(account) = user.account() {
                accounts.insert(user.id, account);
            }
        }
        let of_accounts = duplicates.iter();
        names.extend(of_accounts.filter_map(|(winner, name)| Some((name.clone(), accounts.get(winner)?.clone()))));
    }
    Ok(names)
}

fn address(row: &MySqlRow) -> anyhow::Result<LegacyUser> {
    Ok(LegacyUser {
        id: source::integer(row, "user_id")?.context("user_id")?,
        email: source::text(row, "email")?.text,
        provider: source::text(row, "provider")?.text,
        ..LegacyUser::default()
    })
}

async fn decide(pool: &MySqlPool, importer: &Importer) -> anyhow::Result<Decisions> {
    let mut decisions = Decisions {
        last: source::newest(pool, TABLE, "user_id").await?,
        ..Decisions::default()
    };
    let mut candidates = Vec::new();
    let mut looks = Looks::default();
    let mut last = i64::MIN;
    loop {
        let rows = sqlx::query(
            "SELECT user_id, email, provider, nickname, refresh_token FROM `user` WHERE user_id > ? AND user_id <= ? \
             ORDER BY user_id LIMIT ?",
        )
        .bind(last)
        .bind(decisions.last)
        .bind(LIGHT_PAGE)
        .fetch_all(pool)
        .await?;
        let Some(newest) = rows.last() else { break };
        last = source::integer(newest, "user_id")?.context("user_id")?;
        decisions.rows += rows.len() as u64;
        for row in &rows {
            let user = LegacyUser {
                nickname: source::text(row, "nickname")?.text,
                refresh_token: source::text(row, "refresh_token")?.text,
                ..address(row)?
            };
            let Ok(account) = user.account() else { continue };
            let nickname = user.nickname.as_deref().filter(|nickname| !nickname.is_empty());
            if let Some(nickname) = nickname {
                looks.add(user.id, nickname);
            }
            candidates.push(Candidate {
                id: user.id,
                email: half(&account.key()),
                nickname: nickname.map(|nickname| half(NicknameKey::of(nickname).as_bytes())),
                rank: (
                    importer.session_until(&user).is_some(),
                    nickname.is_some_and(|nickname| Nickname::choose(nickname.to_owned()).is_ok()),
                ),
            });
        }
    }
    candidates.sort_unstable_by_key(|row| (row.email, Reverse(row.rank), row.id));
    let mut accounts: Vec<Candidate> = Vec::with_capacity(candidates.len());
    for row in candidates {
        match accounts.last() {
            Some(winner) if winner.email == row.email => {
                decisions.duplicates.insert(row.id, winner.id);
                decisions.contested.insert(winner.id);
            }
            _ => accounts.push(row),
        }
    }
    accounts.retain(|row| row.nickname.is_some());
    accounts.sort_unstable_by_key(|row| (row.nickname, Reverse(row.rank), row.id));
    for pair in accounts.windows(2).filter(|pair| pair[0].nickname == pair[1].nickname) {
        decisions.nameless.insert(pair[1].id);
        decisions.contested.extend([pair[0].id, pair[1].id]);
    }
    decisions.alike = looks.alike(|id| !decisions.duplicates.contains_key(&id) && !decisions.nameless.contains(&id));
    Ok(decisions)
}

/// A row as it was read.
pub struct ReadUser {
    pub user: LegacyUser,
    photo_bytes: u64,
    repaired: Vec<&'static str>,
}

/// Returns rows with ids after the first and up to the second.
async fn page(pool: &MySqlPool, (after, until): (i64, i64)) -> anyhow::Result<Vec<ReadUser>> {
    let select = format!("SELECT {COLUMNS} FROM `user` WHERE user_id > ? AND user_id <= ? ORDER BY user_id LIMIT ?");
    let rows = sqlx::query(AssertSqlSafe(select))
        .bind(after)
        .bind(until)
        .bind(PAGE)
        .fetch_all(pool)
        .await?;
    rows.iter().map(read).collect()
}

pub fn read(row: &MySqlRow) -> anyhow::Result<ReadUser> {
    let mut repaired = Vec::new();
    let mut text = |column: &'static str| {
        let text = source::text(row, column)?;
        if text.repaired {
            repaired.push(column);
        }
        anyhow::Ok(text.text)
    };
    let user = LegacyUser {
        id: source::integer(row, "user_id")?.context("user_id")?,
        email: text("email")?,
        provider: text("provider")?,
        provider_id: text("provider_id")?,
        nickname: text("nickname")?,
        introduction: text("introduction")?,
        device_token: text("device_token")?,
        apple_refresh_token: text("apple_refresh_token")?,
        refresh_token: text("refresh_token")?,
        photo: None,
        bears_nickname: true,
    };
    let photo_bytes = source::integer(row, "photo_bytes")?.unwrap_or(0).unsigned_abs();
    Ok(ReadUser {
        user: LegacyUser {
            // An empty one is none.
            photo: source::digest(row, "photo")?.filter(|_| photo_bytes > 0),
            ..user
        },
        photo_bytes,
        repaired,
    })
}

/// An account as both fleets are asked for it.
struct ShownUser {
    id: i64,
    nickname: String,
}

/// Rows of one transaction.
#[derive(Default)]
struct Batch {
    users: Vec<LegacyUser>,
    sizes: HashMap<i64, u64>,
    bytes: u64,
    /// Rows with bytes that are no text.
    repaired: HashSet<i64>,
}

impl Batch {
    fn push(&mut self, row: ReadUser, decisions: &Decisions, report: &mut Report) -> anyhow::Result<()> {
        let mut user = row.user;
        for column in row.repaired {
            self.repaired.insert(user.id);
            report.note(
                TABLE,
                user.id,
                "altered",
                Some(column),
                "bytes that are no text were replaced",
            )?;
        }
        user.bears_nickname = !decisions.nameless.contains(&user.id);
        if decisions.alike.contains(&user.id) {
            report.note(
                TABLE,
                user.id,
                "look-alike",
                Some("nickname"),
                "it looks like another account's: both keep theirs",
            )?;
        }
        self.bytes += row.photo_bytes;
        self.sizes.insert(user.id, row.photo_bytes);
        self.users.push(user);
        Ok(())
    }
}

async fn take(
    pass: &mut Pass,
    pool: &MySqlPool,
    importer: &Importer,
    batch: Batch,
    decisions: &Decisions,
    expected: &mut Expected,
    read_at: jiff::Timestamp,
) -> anyhow::Result<()> {
    let wanted = importer.photos_to_read(&batch.users).await?;
    let wanted: Vec<_> = wanted.into_iter().map(|id| (id, batch.sizes[&id])).collect();
    let photos = PHOTOS.read(pool, &wanted).await.context("user.profile_img")?;
    let applied = importer.apply(&batch.users, &photos, read_at, pass.dry_run).await?;
    for (user, row) in batch.users.iter().zip(&applied) {
        if is_here(row.outcome) {
            expected.here.push(user.id);
        }
        let nickname = user.nickname.clone().unwrap_or_default();
        // A longer one was generated: the profile is not set.
        let is_set = Nickname::choose(nickname.clone()).is_ok();
        let is_contested = decisions.contested.contains(&user.id) || batch.repaired.contains(&user.id);
        if is_set && !is_contested && shows_what_was_read(row) {
            expected.shown.offer(ShownUser { id: user.id, nickname });
        }
    }
    record(pass, &applied)
}

/// Whether the row is recorded as one that was taken over.
fn is_here(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Unchanged | Outcome::Created | Outcome::Updated | Outcome::KeptOurs
    )
}

/// Whether the account has the nickname and the introduction of its row.
fn shows_what_was_read(row: &Applied) -> bool {
    matches!(row.outcome, Outcome::Unchanged | Outcome::Created | Outcome::Updated)
        && !row
            .notes
            .iter()
            .any(|note| ["nickname", "introduction"].contains(&note.column))
}

/// Asks both fleets for some accounts, if there are two to ask.
async fn compare(pass: &mut Pass, users: &[ShownUser]) -> anyhow::Result<()> {
    let Some(apis) = &mut pass.apis else { return Ok(()) };
    for user in users {
        let request = Request {
            row: &user.id.to_string(),
            route: ("auth-service", "findIntroduction"),
            form: &[("nickname", &user.nickname)],
        };
        apis.compare(&mut pass.report, request).await?;
    }
    Ok(())
}

/// Rows that were taken over from between two ids and are not there any more.
async fn delete_missing(
    pass: &mut Pass,
    importer: &Importer,
    page: &[ReadUser],
    after: i64,
    until: i64,
) -> anyhow::Result<()> {
    let there: HashSet<i64> = page.iter().map(|row| row.user.id).collect();
    let mut missing = importer.imported_between(after, until).await?;
    missing.retain(|id| !there.contains(id));
    if missing.is_empty() {
        return Ok(());
    }
    let applied = importer.delete(&missing, pass.dry_run).await?;
    record(pass, &applied)
}

fn record(pass: &mut Pass, applied: &[Applied]) -> anyhow::Result<()> {
    for row in applied {
        let outcome = name(row.outcome);
        pass.report.count(TABLE, outcome);
        if let Some(reason) = reason(row.outcome) {
            pass.report.note(TABLE, row.id, outcome, None, reason)?;
        }
        let outcome = match row.outcome {
            Outcome::Unplaced => "unplaced",
            _ => "altered",
        };
        for note in &row.notes {
            pass.report
                .note(TABLE, row.id, outcome, Some(note.column), note.reason)?;
        }
    }
    Ok(())
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unchanged => "unchanged",
        Outcome::Created => "created",
        Outcome::Updated => "updated",
        Outcome::Deleted => "deleted",
        Outcome::KeptOurs => "kept-ours",
        Outcome::ExistsHere => "exists-here",
        Outcome::ResignedHere => "deleted-here",
        Outcome::Unplaced => "unplaced",
    }
}

fn reason(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Deleted => Some("the row is gone, and its account with it"),
        Outcome::KeptOurs => Some("the account was changed here since it was imported"),
        Outcome::ExistsHere => Some("there was an account of this address before the import"),
        Outcome::ResignedHere => Some("the account resigned here since it was imported"),
        Outcome::Unchanged | Outcome::Created | Outcome::Updated | Outcome::Unplaced => None,
    }
}
