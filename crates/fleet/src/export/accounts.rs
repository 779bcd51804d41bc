//! The export of accounts to the table `user`.

use anyhow::Context as _;
use secrecy::ExposeSecret;
use sha2::{Digest as _, Sha256};
use sosohappy_auth::export::ExportedAccount;
use sosohappy_auth::import::{Importer, LegacyUser};
use sosohappy_common::{Account, Context};
use sqlx::{MySql, MySqlPool, Transaction};

use crate::import::accounts::{COLUMNS, TABLE, read};
use crate::import::{Report, source};

/// The number of accounts of one transaction.
const PAGE: u32 = 100;

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
        let mut rows = Vec::with_capacity(page.len());
        for account in &page {
            let (row, outcome) = write(&mut tx, account).await?;
            report.count(TABLE, outcome);
            rows.push(row);
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

/// Finds the row of an account and writes the differences. Returns the resulting row, and `created`, `updated` or `unchanged`.
async fn write(
    tx: &mut Transaction<'static, MySql>,
    account: &ExportedAccount,
) -> anyhow::Result<(LegacyUser, &'static str)> {
    let present = match account.legacy_id {
        Some(id) => find(tx, "user_id = ?", &id.to_string()).await?,
        None => None,
    };
    // A killed run may have written the row without recording its id.
    let present = match present {
        Some(present) => Some(present),
        None => find(tx, "email = ? ORDER BY user_id LIMIT 1", account.account.as_str()).await?,
    };
    let introduction = account.introduction.as_str();
    let device = account.device_token.as_deref();
    let apple = account.apple_refresh_token.as_ref().map(ExposeSecret::expose_secret);
    let Some(present) = present else {
        let inserted = sqlx::query(
            "INSERT INTO `user` (apple_refresh_token, device_token, email, introduction, nickname, provider, provider_id, profile_img) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(apple.unwrap_or("-"))
        .bind(device)
        .bind(account.account.as_str())
        .bind(introduction)
        .bind(&account.nickname)
        .bind(&account.provider)
        .bind(&account.subject)
        .bind(account.photo.as_deref())
        .execute(&mut **tx)
        .await?;
        let row = find(tx, "user_id = ?", &inserted.last_insert_id().to_string()).await?;
        return Ok((row.context("the row that was inserted")?, "created"));
    };
    let has_device = device.is_none() || present.device_token.as_deref() == device;
    let has_apple = apple.is_none() || present.apple_refresh_token.as_deref() == apple;
    // A photo that could not be imported is kept, and so is one that was imported: ours is encoded anew. One that moderation hides here is removed
    // there, where everybody would see it, and written again when it is restored.
    let is_missing = present.photo.is_none();
    let photo = account.photo.as_deref().filter(|_| !account.is_unchanged || is_missing);
    let has_photo = if account.is_hidden {
        is_missing
    } else {
        photo.is_none_or(|photo| present.photo == Some(Sha256::digest(photo).into()))
    };
    if present.nickname.as_deref() == Some(&account.nickname)
        && present.introduction.as_deref().unwrap_or_default() == introduction
        && has_device
        && has_apple
        && has_photo
    {
        return Ok((present, "unchanged"));
    }
    sqlx::query(
        "UPDATE `user` SET nickname = ?, introduction = ?, device_token = COALESCE(?, device_token), \
         apple_refresh_token = COALESCE(?, apple_refresh_token), profile_img = IF(?, NULL, COALESCE(?, profile_img)) WHERE user_id = ?",
    )
    .bind(&account.nickname)
    .bind(introduction)
    .bind(device)
    .bind(apple)
    .bind(account.is_hidden)
    .bind(photo)
    .bind(present.id)
    .execute(&mut **tx)
    .await?;
    let row = find(tx, "user_id = ?", &present.id.to_string()).await?;
    Ok((row.context("the row that was updated")?, "updated"))
}

async fn find(
    tx: &mut Transaction<'static, MySql>,
    condition: &'static str,
    value: &str,
) -> anyhow::Result<Option<LegacyUser>> {
    let select = format!("SELECT {COLUMNS} FROM `user` WHERE {condition}");
    let row = sqlx::query(sqlx::AssertSqlSafe(select))
        .bind(value)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|row| read(&row)).transpose()?.map(|read| read.user))
}

/// Deletes the rows of accounts that resigned here. Keeps a row that belongs to another account by now.
async fn delete_resigned(report: &mut Report, pool: &MySqlPool, auth: &Importer, dry_run: bool) -> anyhow::Result<()> {
    for (id, person) in auth.resigned().await? {
        let row = sqlx::query("SELECT user_id, email, provider FROM `user` WHERE user_id = ?")
            .bind(id)
            .fetch_optional(pool)
            .await?;
        let Some(row) = row else { continue };
        let user = LegacyUser {
            id,
            email: source::text(&row, "email")?.text,
            provider: source::text(&row, "provider")?.text,
            ..LegacyUser::default()
        };
        if user.account().as_ref().map(Account::fingerprint).as_ref() != Ok(&person) {
            continue;
        }
        report.count(TABLE, "deleted");
        report.note(TABLE, id, "deleted", None, "the account resigned here")?;
        if !dry_run {
            let delete = sqlx::query("DELETE FROM `user` WHERE user_id = ?").bind(id);
            delete.execute(pool).await?;
        }
    }
    Ok(())
}
