//! The export of accounts to the table `user`.

use std::collections::{HashMap, HashSet};

use anyhow::Context as _;
use secrecy::ExposeSecret;
use sha2::{Digest as _, Sha256};
use sosohappy_auth::export::ExportedAccount;
use sosohappy_auth::import::{Importer, LegacyUser};
use sosohappy_common::{Account, Context};
use sqlx::{MySql, MySqlPool, QueryBuilder, Transaction};

use super::{ROWS, push_ids, statements};
use crate::import::accounts::{COLUMNS, TABLE, read};
use crate::import::{Report, source};

/// The number of accounts of one transaction.
const PAGE: u32 = 100;

/// The outcome of a row that the legacy Spring auth deleted after it was read.
const GONE: &str = "gone";

type Tx = Transaction<'static, MySql>;
type Query = QueryBuilder<MySql>;

/// Writes accounts that differ, and deletes the rows of accounts that resigned.
pub async fn export(
    report: &mut Report,
    pool: &MySqlPool,
    auth: &Importer,
    context: &Context,
    dry_run: bool,
) -> anyhow::Result<()> {
    let mut last = String::new();
    loop {
        let page = auth.accounts_after(&last, PAGE).await?;
        let Some(newest) = page.last() else { break };
        newest.account.as_str().clone_into(&mut last);
        let mut tx = pool.begin().await?;
        let written = write(&mut tx, &page).await?;
        let mut rows = Vec::with_capacity(written.len());
        for (row, outcome) in written {
            report.count(TABLE, outcome);
            if outcome == GONE {
                report.note(TABLE, row.id, GONE, None, "the row was deleted while it was exported")?;
            } else {
                rows.push(row);
            }
        }
        if dry_run {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
            auth.exported(&rows, context.clock.now()).await?;
        }
    }
    delete_resigned(report, pool, auth, dry_run).await
}

/// Writes the accounts that differ from their rows. Returns the resulting row of each, and `created`, `updated` or `unchanged`; of
/// one that was deleted since it was read the row as it was, and [`GONE`].
async fn write(tx: &mut Tx, accounts: &[ExportedAccount]) -> anyhow::Result<Vec<(LegacyUser, &'static str)>> {
    let present = rows_of(tx, accounts).await?;
    let (mut new, mut changed) = (Vec::new(), Vec::new());
    for (account, row) in accounts.iter().zip(&present) {
        match row {
            None => new.push(account),
            Some(row) if differs(account, row) => changed.push((account, row)),
            Some(_) => {}
        }
    }
    let ids: Vec<i64> = changed.iter().map(|(_, row)| row.id).collect();
    let there = lock(tx, &ids).await?;
    changed.retain(|(_, row)| there.contains(&row.id));
    insert(tx, &new).await?;
    update(tx, &changed).await?;
    remove_hidden_photos(tx, &changed).await?;
    let created = by_address(tx, &new).await?;
    let left: Vec<i64> = changed.iter().map(|(_, row)| row.id).collect();
    let mut updated = by_id(tx, &left).await?;
    let rows = accounts.iter().zip(present).map(|(account, row)| {
        let Some(row) = row else {
            // Addresses that differ in letter case only share one: see `nicknames` in auth.
            let row = created.get(&account.account.key()).cloned();
            return Ok((row.context("a row that was inserted is missing")?, "created"));
        };
        Ok(match updated.remove(&row.id) {
            Some(row) => (row, "updated"),
            None if ids.contains(&row.id) && !there.contains(&row.id) => (row, GONE),
            None => (row, "unchanged"),
        })
    });
    rows.collect()
}

/// Returns the row of each account: the one that it was imported from, else one of its address, which a killed run may have written without
/// recording its id.
async fn rows_of(tx: &mut Tx, accounts: &[ExportedAccount]) -> anyhow::Result<Vec<Option<LegacyUser>>> {
    let ids: Vec<i64> = accounts.iter().filter_map(|account| account.legacy_id).collect();
    let imported = by_id(tx, &ids).await?;
    let imported_from = |account: &ExportedAccount| account.legacy_id.and_then(|id| imported.get(&id));
    let others: Vec<&ExportedAccount> = accounts
        .iter()
        .filter(|account| imported_from(account).is_none())
        .collect();
    let found = by_address(tx, &others).await?;
    let row = |account: &ExportedAccount| imported_from(account).or_else(|| found.get(&account.account.key()));
    Ok(accounts.iter().map(|account| row(account).cloned()).collect())
}

/// Returns whether the row has to be written.
fn differs(account: &ExportedAccount, row: &LegacyUser) -> bool {
    let device = account.device_token.as_deref();
    let has_device = device.is_none() || row.device_token.as_deref() == device;
    let apple = apple_token(account);
    let has_apple = apple.is_none() || row.apple_refresh_token.as_deref() == apple;
    let has_photo = if account.is_hidden {
        row.photo.is_none()
    } else {
        changed_photo(account, row).is_none_or(|photo| row.photo == Some(Sha256::digest(photo).into()))
    };
    row.nickname.as_deref() != Some(&account.nickname)
        || row.introduction.as_deref().unwrap_or_default() != account.introduction
        || !has_device
        || !has_apple
        || !has_photo
}

fn apple_token(account: &ExportedAccount) -> Option<&str> {
    account.apple_refresh_token.as_ref().map(ExposeSecret::expose_secret)
}

/// Returns the photo that replaces the row's. A photo that could not be imported is kept, and so is one that was imported: ours is encoded
/// anew. One that was removed while moderation hid it here is written again.
fn changed_photo<'a>(account: &'a ExportedAccount, row: &LegacyUser) -> Option<&'a [u8]> {
    let is_missing = row.photo.is_none();
    account.photo.as_deref().filter(|_| !account.is_unchanged || is_missing)
}

/// Returns the bytes of an account in a statement.
fn bytes(account: &ExportedAccount) -> usize {
    account.photo.as_ref().map_or(0, bytes::Bytes::len) + account.introduction.len()
}

async fn insert(tx: &mut Tx, accounts: &[&ExportedAccount]) -> anyhow::Result<()> {
    for accounts in statements(accounts, |account| bytes(account)) {
        let mut query = Query::new(
            "INSERT INTO `user` (apple_refresh_token, device_token, email, introduction, nickname, provider, provider_id, profile_img) ",
        );
        query.push_values(accounts, |mut values, account| {
            values
                .push_bind(apple_token(account).unwrap_or("-"))
                .push_bind(account.device_token.as_deref())
                .push_bind(account.account.as_str())
                .push_bind(&account.introduction)
                .push_bind(&account.nickname)
                .push_bind(&account.provider)
                .push_bind(account.subject.as_deref())
                .push_bind(account.photo.as_deref());
        });
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Locks rows until the transaction ends, and returns the ids of those that are there: [`update`] would insert the others.
async fn lock(tx: &mut Tx, ids: &[i64]) -> anyhow::Result<HashSet<i64>> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let mut query = Query::new("SELECT user_id FROM `user` WHERE user_id IN ");
    push_ids(&mut query, ids);
    query.push(" FOR UPDATE");
    let rows = query.build().fetch_all(&mut **tx).await?;
    let id = |row| source::integer(row, "user_id")?.context("user_id");
    rows.iter().map(id).collect()
}

async fn update(tx: &mut Tx, changed: &[(&ExportedAccount, &LegacyUser)]) -> anyhow::Result<()> {
    for changed in statements(changed, |(account, _)| bytes(account)) {
        let mut query = Query::new(
            "INSERT INTO `user` (user_id, nickname, introduction, device_token, apple_refresh_token, profile_img) ",
        );
        query.push_values(changed, |mut values, (account, row)| {
            values
                .push_bind(row.id)
                .push_bind(&account.nickname)
                .push_bind(&account.introduction)
                .push_bind(account.device_token.as_deref())
                .push_bind(apple_token(account))
                .push_bind(changed_photo(account, row));
        });
        query.push(
            " ON DUPLICATE KEY UPDATE nickname = VALUES(nickname), introduction = VALUES(introduction), \
             device_token = COALESCE(VALUES(device_token), device_token), \
             apple_refresh_token = COALESCE(VALUES(apple_refresh_token), apple_refresh_token), \
             profile_img = COALESCE(VALUES(profile_img), profile_img)",
        );
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Removes the photos that moderation hides here: there everybody would see them.
async fn remove_hidden_photos(tx: &mut Tx, changed: &[(&ExportedAccount, &LegacyUser)]) -> anyhow::Result<()> {
    let hidden = changed.iter().filter(|(account, _)| account.is_hidden);
    let ids: Vec<i64> = hidden.map(|(_, row)| row.id).collect();
    if !ids.is_empty() {
        let mut query = Query::new("UPDATE `user` SET profile_img = NULL WHERE user_id IN ");
        push_ids(&mut query, &ids);
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Returns rows by their ids.
async fn by_id(tx: &mut Tx, ids: &[i64]) -> anyhow::Result<HashMap<i64, LegacyUser>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut query = Query::new(format!("SELECT {COLUMNS} FROM `user` WHERE user_id IN "));
    push_ids(&mut query, ids);
    let rows = query.build().fetch_all(&mut **tx).await?;
    let users = rows.iter().map(|row| anyhow::Ok(read(row)?.user));
    users.map(|user| user.map(|user| (user.id, user))).collect()
}

/// Returns the rows of accounts by [`Account::key`]; of several the one with the smallest id.
async fn by_address(tx: &mut Tx, accounts: &[&ExportedAccount]) -> anyhow::Result<HashMap<[u8; 32], LegacyUser>> {
    let mut found = HashMap::new();
    if accounts.is_empty() {
        return Ok(found);
    }
    let mut query = Query::new(format!("SELECT {COLUMNS} FROM `user` WHERE email IN ("));
    let mut list = query.separated(", ");
    for account in accounts {
        list.push_bind(account.account.as_str());
    }
    query.push(") ORDER BY user_id");
    for row in &query.build().fetch_all(&mut **tx).await? {
        let user = read(row)?.user;
        // The database may take letter case and blanks for equal.
        let account = user.email.as_deref().and_then(|email| email.parse::<Account>().ok());
        if let Some(account) = account {
            found.entry(account.key()).or_insert(user);
        }
    }
    Ok(found)
}

/// Deletes the rows of accounts that resigned here. Keeps a row that belongs to another account by now.
async fn delete_resigned(report: &mut Report, pool: &MySqlPool, auth: &Importer, dry_run: bool) -> anyhow::Result<()> {
    let resigned: HashMap<i64, String> = auth.resigned().await?.into_iter().collect();
    let ids: Vec<i64> = resigned.keys().copied().collect();
    for ids in ids.chunks(ROWS) {
        let mut query = Query::new("SELECT user_id, email, provider FROM `user` WHERE user_id IN ");
        push_ids(&mut query, ids);
        query.push(" ORDER BY user_id");
        let mut theirs = Vec::new();
        for row in &query.build().fetch_all(pool).await? {
            let user = LegacyUser {
                id: source::integer(row, "user_id")?.context("user_id")?,
                email: source::text(row, "email")?.text,
                provider: source::text(row, "provider")?.text,
                ..LegacyUser::default()
            };
            let person = user.account().as_ref().map(Account::fingerprint).ok();
            if person.as_ref() == resigned.get(&user.id) {
                theirs.push(user.id);
            }
        }
        if theirs.is_empty() {
            continue;
        }
        for id in &theirs {
            report.count(TABLE, "deleted");
            report.note(TABLE, id, "deleted", None, "the account resigned here")?;
        }
        if !dry_run {
            let mut delete = Query::new("DELETE FROM `user` WHERE user_id IN ");
            push_ids(&mut delete, &theirs);
            delete.build().execute(pool).await?;
        }
    }
    Ok(())
}
