//! Reports, suspensions, roles and the audit. No statement updates or deletes an entry of the audit.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_events::types::{ModerationOutcome, Role};
use sosohappy_store::{PRIMARY, StoreError, retrying};
use sqlx::Row as _;

use super::transaction::SqlTransaction;
use super::{Row, SqlStore, last_id, rows};
use crate::domain::moderation::{AuditEntry, Reason, ReportState, Resolution, Subject, Suspension};
use crate::store::moderation::{
    AuditHead, Audited, Effect, Moderation, ModerationTransaction, NewReport, OpenReports, Report, ReportPage,
    RoleApplication,
};

/// The rule that a reporter has one open report of a subject.
const REPEAT_KEY: &str = "report_by_repeat_key";

/// A report of what this release does not know is left to the later one that has stored it.
macro_rules! kind_is_known {
    () => {
        "report.kind IN ('person', 'post', 'comment', 'message')"
    };
}

const REPORT: &str = concat!(
    "SELECT report.report, report.target, account.nickname, report.kind, report.content, report.reason,
    reporter.nickname AS reporter, report_by.text, report.reported_at, report.due_at, report.resolved_at, report.resolution
    FROM report JOIN account ON account.account = report.target AND ",
    kind_is_known!(),
    " LEFT JOIN report_by ON report_by.report = report.report
    LEFT JOIN account reporter ON reporter.account = report_by.account"
);

const AUDIT: &str =
    "SELECT audit.entry, audit.at, audit.action, audit.actor, audit.target, audit.subject, audit.reason, audit.note,
    audit.digest, audit_note.text, content_order.content_order, content_order.applied_at, content_order.outcome,
    actor.account AS actor_account, actor.nickname AS actor_nickname, actor.profile_set AS actor_profile_set,
    target.account AS target_account, target.nickname AS target_nickname, target.profile_set AS target_profile_set
    FROM audit
    LEFT JOIN audit_account actor_of ON actor_of.hash = audit.actor
    LEFT JOIN account actor ON actor.account = actor_of.account
    LEFT JOIN audit_account target_of ON target_of.hash = audit.target
    LEFT JOIN account target ON target.account = target_of.account
    LEFT JOIN audit_note ON audit_note.entry = audit.entry
    LEFT JOIN content_order ON content_order.entry = audit.entry";

#[async_trait]
impl Moderation for SqlStore {
    async fn report(&self, id: i64) -> Result<Option<Report>, StoreError> {
        let row = sqlx::query(rows::select(REPORT, "report.report = ?"))
            .bind(id)
            .fetch_optional(self.0.reader())
            .await?;
        row.as_ref().map(report).transpose()
    }

    async fn reports(&self, page: ReportPage) -> Result<Vec<Report>, StoreError> {
        let condition = if page.open {
            "report.report > ? AND report.resolved_at IS NULL ORDER BY report.report LIMIT ?"
        } else {
            "report.report > ? ORDER BY report.report LIMIT ?"
        };
        let found = sqlx::query(rows::select(REPORT, condition))
            .bind(page.after)
            .bind(page.rows)
            .fetch_all(self.0.reader())
            .await?;
        found.iter().map(report).collect()
    }

    async fn open_reports(&self, now: Timestamp) -> Result<OpenReports, StoreError> {
        // Without a table in FROM that is a query: MariaDB merges it, and refuses the second execution under MySQL's ONLY_FULL_GROUP_BY.
        let row = sqlx::query(concat!(
            "SELECT COUNT(CASE WHEN ",
            kind_is_known!(),
            " THEN 1 END), COUNT(CASE WHEN ",
            kind_is_known!(),
            " AND due_at <= ? THEN 1 END), COUNT(CASE WHEN NOT ",
            kind_is_known!(),
            " THEN 1 END) FROM report WHERE resolved_at IS NULL"
        ))
        .bind(now.as_millisecond())
        .fetch_one(self.0.reader())
        .await?;
        Ok(OpenReports {
            open: row.try_get(0)?,
            late: row.try_get(1)?,
            unknown: row.try_get(2)?,
        })
    }

    async fn forget_reports(&self, resolved_before: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.0.begin().await?;
            sqlx::query("DELETE FROM report WHERE resolved_at < ?")
                .bind(resolved_before.as_millisecond())
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn role_applications(&self, rows: i64) -> Result<Vec<RoleApplication>, StoreError> {
        let found = sqlx::query(
            "SELECT account.nickname, role_application.role, role_application.text,
            role_application.applied_at FROM role_application JOIN account ON account.account = role_application.account
            ORDER BY role_application.applied_at, role_application.account LIMIT ?",
        )
        .bind(rows)
        .fetch_all(self.0.reader())
        .await?;
        found.iter().filter_map(|row| application(row).transpose()).collect()
    }

    async fn audit(&self, below: i64, rows: i64) -> Result<Vec<Audited>, StoreError> {
        let found = sqlx::query(rows::select(AUDIT, "audit.entry < ? ORDER BY audit.entry DESC LIMIT ?"))
            .bind(below)
            .bind(rows)
            .fetch_all(self.0.reader())
            .await?;
        found.iter().map(audited).collect()
    }

    async fn audit_head(&self) -> Result<AuditHead, StoreError> {
        let row = sqlx::query("SELECT entry, digest FROM audit_head WHERE id = 1")
            .fetch_one(self.0.reader())
            .await?;
        head(&row)
    }
}

#[async_trait]
impl ModerationTransaction for SqlTransaction {
    async fn suspension(&mut self, account: &Account) -> Result<Option<Suspension>, StoreError> {
        let row = sqlx::query("SELECT reason, suspended_at, ends_at FROM suspension WHERE account = ?")
            .bind(account.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        row.as_ref().map(suspension).transpose()
    }

    async fn set_suspension(&mut self, account: &Account, suspension: &Suspension) -> Result<(), StoreError> {
        self.delete_suspension(account).await?;
        let insert = sqlx::query("INSERT INTO suspension (account, reason, suspended_at, ends_at) VALUES (?, ?, ?, ?)")
            .bind(account.as_str())
            .bind(suspension.reason.as_str())
            .bind(suspension.since.as_millisecond())
            .bind(suspension.until.map(Timestamp::as_millisecond));
        self.run(insert).await?;
        Ok(())
    }

    async fn delete_suspension(&mut self, account: &Account) -> Result<bool, StoreError> {
        let delete = sqlx::query("DELETE FROM suspension WHERE account = ?").bind(account.as_str());
        Ok(self.run(delete).await? > 0)
    }

    async fn set_profile_hidden(&mut self, account: &Account, hidden_at: Option<Timestamp>) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM hidden_profile WHERE account = ?").bind(account.as_str());
        self.run(delete).await?;
        if let Some(hidden_at) = hidden_at {
            let insert = sqlx::query("INSERT INTO hidden_profile (account, hidden_at) VALUES (?, ?)")
                .bind(account.as_str())
                .bind(hidden_at.as_millisecond());
            self.run(insert).await?;
        }
        Ok(())
    }

    async fn open_report(
        &mut self,
        reporter: &Account,
        target: &Account,
        subject: &Subject,
    ) -> Result<Option<(i64, Reason)>, StoreError> {
        let row = sqlx::query(
            "SELECT report.report, report.reason FROM report_by JOIN report ON report.report = report_by.report
            WHERE report_by.repeat_key = ?",
        )
        .bind(subject.repeat_key(reporter, target).to_vec())
        .fetch_optional(&mut *self.0)
        .await?;
        let open = |row: &Row| -> Result<(i64, Reason), StoreError> { Ok((row.try_get("report")?, reason(row)?)) };
        row.as_ref().map(open).transpose()
    }

    async fn insert_report(&mut self, report: &NewReport<'_>) -> Result<i64, StoreError> {
        let content = report.subject.content();
        let inserted = sqlx::query(
            "INSERT INTO report (target, kind, content, reason, hidden_at_once, reported_at, due_at)
            VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(report.target.as_str())
        .bind(report.subject.kind())
        .bind(&content)
        .bind(report.reason.as_str())
        .bind(report.hidden_at_once)
        .bind(report.at.as_millisecond())
        .bind(report.due_at.as_millisecond())
        .execute(&mut *self.0)
        .await?;
        let id = last_id(&inserted);
        let by = sqlx::query("INSERT INTO report_by (report, account, text, repeat_key) VALUES (?, ?, ?, ?)")
            .bind(id)
            .bind(report.reporter.as_str())
            .bind(report.text)
            .bind(report.subject.repeat_key(report.reporter, report.target).to_vec());
        self.run(by)
            .await
            .map_err(|error| error.retry_if_taken(&[REPEAT_KEY]))?;
        Ok(id)
    }

    async fn change_report(
        &mut self,
        id: i64,
        reason: Reason,
        hidden_at_once: bool,
        text: &str,
    ) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE report SET reason = ?, hidden_at_once = ? WHERE report = ?")
            .bind(reason.as_str())
            .bind(hidden_at_once)
            .bind(id);
        self.run(update).await?;
        if !text.is_empty() {
            let update = sqlx::query("UPDATE report_by SET text = ? WHERE report = ?")
                .bind(text)
                .bind(id);
            self.run(update).await?;
        }
        Ok(())
    }

    async fn was_dismissed(
        &mut self,
        reporter: &Account,
        target: &Account,
        subject: &Subject,
        reason: Reason,
    ) -> Result<bool, StoreError> {
        let found = sqlx::query(
            "SELECT 1 FROM report JOIN report_by ON report_by.report = report.report
            WHERE report_by.account = ? AND report.target = ? AND report.kind = ? AND report.content = ? AND report.reason = ?
            AND report.resolution IN ('dismiss', 'restore') LIMIT 1",
        )
        .bind(reporter.as_str())
        .bind(target.as_str())
        .bind(subject.kind())
        .bind(subject.content())
        .bind(reason.as_str())
        .fetch_optional(&mut *self.0)
        .await?;
        Ok(found.is_some())
    }

    async fn is_hidden_by_another(
        &mut self,
        report: i64,
        target: &Account,
        subject: &Subject,
    ) -> Result<bool, StoreError> {
        // As `ReportState::hides` says.
        let found = sqlx::query(
            "SELECT 1 FROM report WHERE target = ? AND kind = ? AND content = ? AND report <> ?
            AND (resolution = 'hide' OR ((resolution IS NULL OR resolution NOT IN ('restore', 'dismiss'))
            AND COALESCE(hidden_at_once, reason = 'unlawfulImagery' AND kind <> 'person') = 1)) LIMIT 1",
        )
        .bind(target.as_str())
        .bind(subject.kind())
        .bind(subject.content())
        .bind(report)
        .fetch_optional(&mut *self.0)
        .await?;
        Ok(found.is_some())
    }

    async fn report_state(&mut self, id: i64) -> Result<Option<ReportState>, StoreError> {
        let row =
            sqlx::query("SELECT kind, reason, hidden_at_once, resolved_at, resolution FROM report WHERE report = ?")
                .bind(id)
                .fetch_optional(&mut *self.0)
                .await?;
        row.as_ref().map(report_state).transpose()
    }

    async fn resolve_report(&mut self, id: i64, resolution: &str, at: Timestamp) -> Result<bool, StoreError> {
        let update = sqlx::query("UPDATE report SET resolved_at = ?, resolution = ? WHERE report = ?")
            .bind(at.as_millisecond())
            .bind(resolution)
            .bind(id);
        let is_found = self.run(update).await? > 0;
        let update = sqlx::query("UPDATE report_by SET repeat_key = NULL WHERE report = ?").bind(id);
        self.run(update).await?;
        Ok(is_found)
    }

    async fn reporter(&mut self, id: i64) -> Result<Option<Account>, StoreError> {
        let row = sqlx::query("SELECT account FROM report_by WHERE report = ?")
            .bind(id)
            .fetch_optional(&mut *self.0)
            .await?;
        row.as_ref().map(|row| rows::account(row, "account")).transpose()
    }

    async fn known_role(&mut self, account: &Account) -> Result<Option<Role>, StoreError> {
        let row = sqlx::query(rows::lock("SELECT role FROM account", "account = ?"))
            .bind(account.as_str())
            .fetch_one(&mut *self.0)
            .await?;
        Ok(rows::text(&row, "role")?.parse().ok())
    }

    async fn set_role(&mut self, account: &Account, role: Role) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE account SET role = ? WHERE account = ?")
            .bind(role.as_str())
            .bind(account.as_str());
        self.run(update).await?;
        Ok(())
    }

    async fn set_role_application(
        &mut self,
        account: &Account,
        role: Role,
        text: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.take_role_application(account).await?;
        let insert = sqlx::query("INSERT INTO role_application (account, role, text, applied_at) VALUES (?, ?, ?, ?)")
            .bind(account.as_str())
            .bind(role.as_str())
            .bind(text)
            .bind(at.as_millisecond());
        self.run(insert).await?;
        Ok(())
    }

    async fn take_role_application(&mut self, account: &Account) -> Result<Option<Role>, StoreError> {
        let row = sqlx::query("SELECT role FROM role_application WHERE account = ?")
            .bind(account.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let delete = sqlx::query("DELETE FROM role_application WHERE account = ?").bind(account.as_str());
        self.run(delete).await?;
        Ok(rows::text(&row, "role")?.parse().ok())
    }

    async fn lock_audit(&mut self) -> Result<AuditHead, StoreError> {
        let row = sqlx::query(rows::lock("SELECT entry, digest FROM audit_head", "id = 1"))
            .fetch_one(&mut *self.0)
            .await?;
        head(&row)
    }

    async fn insert_audit(&mut self, entry: &AuditEntry, digest: &[u8; 32]) -> Result<(), StoreError> {
        let insert = sqlx::query(
            "INSERT INTO audit (entry, at, action, actor, target, subject, reason, note, digest)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(entry.entry)
        .bind(entry.at.as_millisecond())
        .bind(&entry.action)
        .bind(&entry.actor)
        .bind(&entry.target)
        .bind(&entry.subject)
        .bind(&entry.reason)
        .bind(&entry.note)
        .bind(digest.as_slice());
        self.run(insert).await?;
        let update = sqlx::query("UPDATE audit_head SET entry = ?, digest = ? WHERE id = 1")
            .bind(entry.entry)
            .bind(digest.as_slice());
        self.run(update).await?;
        Ok(())
    }

    async fn name_audited(&mut self, hash: &[u8; 32], account: &Account) -> Result<(), StoreError> {
        let known = sqlx::query("SELECT 1 FROM audit_account WHERE hash = ?")
            .bind(hash.as_slice())
            .fetch_optional(&mut *self.0)
            .await?;
        if known.is_some() {
            return Ok(());
        }
        let insert = sqlx::query("INSERT INTO audit_account (hash, account) VALUES (?, ?)")
            .bind(hash.as_slice())
            .bind(account.as_str());
        match self.run(insert).await {
            Ok(_) => Ok(()),
            // Not seen by this transaction, whose view of the table is older.
            Err(StoreError::Conflict(rule)) if rule == PRIMARY => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn insert_order(&mut self, order: EventId, entry: i64) -> Result<(), StoreError> {
        let insert = sqlx::query("INSERT INTO content_order (content_order, entry) VALUES (?, ?)")
            .bind(order.to_string())
            .bind(entry);
        self.run(insert).await?;
        Ok(())
    }

    async fn note_answer(
        &mut self,
        order: EventId,
        outcome: ModerationOutcome,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let update = sqlx::query(
            "UPDATE content_order SET applied_at = ?, outcome = ? WHERE content_order = ? AND applied_at IS NULL",
        )
        .bind(at.as_millisecond())
        .bind(outcome.as_str())
        .bind(order.to_string());
        self.run(update).await?;
        Ok(())
    }

    async fn insert_audit_note(&mut self, entry: i64, account: &Account, text: &str) -> Result<(), StoreError> {
        let insert = sqlx::query("INSERT INTO audit_note (entry, account, text) VALUES (?, ?, ?)")
            .bind(entry)
            .bind(account.as_str())
            .bind(text);
        self.run(insert).await?;
        Ok(())
    }
}

fn suspension(row: &Row) -> Result<Suspension, StoreError> {
    let until: Option<i64> = row.try_get("ends_at")?;
    Ok(Suspension {
        reason: reason(row)?,
        since: rows::instant(row, "suspended_at")?,
        until: until.map(rows::from_millis).transpose()?,
    })
}

fn report_state(row: &Row) -> Result<ReportState, StoreError> {
    let reason = reason(row)?;
    let hidden_at_once: Option<bool> = row.try_get_unchecked("hidden_at_once")?;
    // Older releases hid content at once, but no profile.
    let by_reason = reason.hides_at_once() && rows::text(row, "kind")? != Subject::Person.kind();
    let resolution: Option<String> = row.try_get_unchecked("resolution")?;
    let decision: Option<Resolution> = resolution.and_then(|resolution| resolution.parse().ok());
    let decision = match decision {
        Some(resolution) => Some((resolution, rows::instant(row, "resolved_at")?)),
        None => None,
    };
    Ok(ReportState {
        reason,
        hidden_at_once: hidden_at_once.unwrap_or(by_reason),
        decision,
    })
}

/// Returns the reason of a report or suspension. One of a later release is `other`, and stays in the row.
fn reason(row: &Row) -> Result<Reason, StoreError> {
    Ok(rows::text(row, "reason")?.parse().unwrap_or(Reason::Other))
}

fn report(row: &Row) -> Result<Report, StoreError> {
    let resolved_at: Option<i64> = row.try_get("resolved_at")?;
    let reporter: Option<String> = row.try_get_unchecked("reporter")?;
    let text: Option<String> = row.try_get_unchecked("text")?;
    let (kind, content) = (rows::text(row, "kind")?, rows::text(row, "content")?);
    Ok(Report {
        id: row.try_get("report")?,
        target: rows::account(row, "target")?,
        nickname: rows::text(row, "nickname")?,
        subject: Subject::stored(&kind, &content).ok_or_else(|| rows::broken("kind"))?,
        reason: reason(row)?,
        by: reporter.zip(text),
        reported_at: rows::instant(row, "reported_at")?,
        due_at: rows::instant(row, "due_at")?,
        resolved_at: resolved_at.map(rows::from_millis).transpose()?,
        resolution: row.try_get_unchecked("resolution")?,
    })
}

/// `None` of an application for a role of a later release: it waits for that release.
fn application(row: &Row) -> Result<Option<RoleApplication>, StoreError> {
    let Ok(role) = rows::text(row, "role")?.parse::<Role>() else {
        return Ok(None);
    };
    Ok(Some(RoleApplication {
        nickname: rows::text(row, "nickname")?,
        role,
        text: rows::text(row, "text")?,
        applied_at: rows::instant(row, "applied_at")?,
    }))
}

fn effect(row: &Row) -> Result<Option<Effect>, StoreError> {
    let order: Option<String> = row.try_get_unchecked("content_order")?;
    let applied_at: Option<i64> = row.try_get("applied_at")?;
    let outcome: Option<String> = row.try_get_unchecked("outcome")?;
    // Releases without outcomes noted every answer as this one.
    let outcome = outcome.map_or(Some(ModerationOutcome::Applied), |outcome| outcome.parse().ok());
    Ok(match (order, applied_at) {
        (None, _) => None,
        (Some(_), None) => Some(Effect::Ordered),
        (Some(_), Some(at)) => Some(Effect::Answered {
            outcome,
            at: rows::from_millis(at)?,
        }),
    })
}

fn audited(row: &Row) -> Result<Audited, StoreError> {
    Ok(Audited {
        entry: AuditEntry {
            entry: row.try_get("entry")?,
            at: rows::instant(row, "at")?,
            action: rows::text(row, "action")?,
            actor: row.try_get_unchecked("actor")?,
            target: row.try_get_unchecked("target")?,
            subject: rows::text(row, "subject")?,
            reason: rows::text(row, "reason")?,
            note: row.try_get_unchecked("note")?,
        },
        digest: digest(row)?,
        actor: audited_person(row, ["actor_account", "actor_nickname", "actor_profile_set"])?,
        target: audited_person(row, ["target_account", "target_nickname", "target_profile_set"])?,
        note: row.try_get_unchecked("text")?,
        effect: effect(row)?,
    })
}

/// Returns the name of a person in an entry of the audit. The placeholder of a profile that is not set is a random number and identifies no person.
fn audited_person(row: &Row, [account, nickname, profile_set]: [&str; 3]) -> Result<Option<String>, StoreError> {
    let found: Option<String> = row.try_get_unchecked(account)?;
    if found.is_none() {
        return Ok(None);
    }
    let profile_set: bool = row.try_get_unchecked(profile_set)?;
    if profile_set {
        return Ok(Some(rows::text(row, nickname)?));
    }
    Ok(Some(rows::account(row, account)?.masked()))
}

fn head(row: &Row) -> Result<AuditHead, StoreError> {
    Ok(AuditHead {
        entry: row.try_get("entry")?,
        digest: digest(row)?,
    })
}

fn digest(row: &Row) -> Result<[u8; 32], StoreError> {
    let digest: Vec<u8> = row.try_get_unchecked("digest")?;
    digest.try_into().map_err(|_| rows::broken("digest"))
}
