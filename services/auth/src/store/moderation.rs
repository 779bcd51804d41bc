//! Reports, suspensions, roles and the audit.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_events::types::{ModerationOutcome, Role};
use sosohappy_store::StoreError;

use crate::domain::moderation::{AuditEntry, Reason, ReportState, Subject, Suspension};

/// A report that is to be stored.
#[derive(Debug)]
pub struct NewReport<'a> {
    pub reporter: &'a Account,
    pub target: &'a Account,
    pub subject: &'a Subject,
    pub reason: Reason,
    /// Whether the content is hidden in the same transaction.
    pub hidden_at_once: bool,
    pub text: &'a str,
    pub at: Timestamp,
    pub due_at: Timestamp,
}

/// A report as moderators see it.
#[derive(Debug, Clone)]
pub struct Report {
    pub id: i64,
    pub target: Account,
    pub nickname: String,
    pub subject: Subject,
    pub reason: Reason,
    /// The reporter's nickname and words; `None` where the reporter has resigned.
    pub by: Option<(String, String)>,
    pub reported_at: Timestamp,
    pub due_at: Timestamp,
    pub resolved_at: Option<Timestamp>,
    pub resolution: Option<String>,
}

/// Which reports are listed, by their numbers.
#[derive(Debug, Clone, Copy)]
pub struct ReportPage {
    pub after: i64,
    pub open: bool,
    pub rows: i64,
}

/// How many reports are open, by what this release knows of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenReports {
    /// Those that moderators can list.
    pub open: i64,
    /// Those of them whose deadline has passed.
    pub late: i64,
    /// Those of content of a kind that only a later release knows, which no list shows.
    pub unknown: i64,
}

#[derive(Debug, Clone)]
pub struct RoleApplication {
    pub nickname: String,
    pub role: Role,
    pub text: String,
    pub applied_at: Timestamp,
}

/// An entry of the audit with what is known of its hashes.
#[derive(Debug, Clone)]
pub struct Audited {
    pub entry: AuditEntry,
    pub digest: [u8; 32],
    /// Nicknames of accounts that have not resigned, or the masked address where the profile is not set.
    pub actor: Option<String>,
    pub target: Option<String>,
    pub note: Option<String>,
    /// Of content that another service holds.
    pub effect: Option<Effect>,
}

/// How far another service is with what was decided about content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The service has not answered yet.
    Ordered,
    Answered {
        /// `None` where a replica of a later release has written one that this one does not know.
        outcome: Option<ModerationOutcome>,
        at: Timestamp,
    },
}

/// The number and digest of the last entry of the audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    pub entry: i64,
    pub digest: [u8; 32],
}

#[async_trait]
pub trait Moderation {
    async fn report(&self, id: i64) -> Result<Option<Report>, StoreError>;

    /// Returns reports in the order of their numbers, which is that of their deadlines.
    async fn reports(&self, page: ReportPage) -> Result<Vec<Report>, StoreError>;

    async fn open_reports(&self, now: Timestamp) -> Result<OpenReports, StoreError>;

    /// Deletes reports that were resolved before then.
    async fn forget_reports(&self, resolved_before: Timestamp) -> Result<(), StoreError>;

    /// Returns applications, the oldest first.
    async fn role_applications(&self, rows: i64) -> Result<Vec<RoleApplication>, StoreError>;

    /// Returns entries of the audit below that number, the last first.
    async fn audit(&self, below: i64, rows: i64) -> Result<Vec<Audited>, StoreError>;

    async fn audit_head(&self) -> Result<AuditHead, StoreError>;
}

/// A report is locked after the people that it is about, and the audit last of all.
#[async_trait]
pub trait ModerationTransaction {
    async fn suspension(&mut self, account: &Account) -> Result<Option<Suspension>, StoreError>;

    /// Inserts or replaces the suspension of an account.
    async fn set_suspension(&mut self, account: &Account, suspension: &Suspension) -> Result<(), StoreError>;

    /// False when there was none.
    async fn delete_suspension(&mut self, account: &Account) -> Result<bool, StoreError>;

    /// Records when introduction and photo of an account were hidden; `None` shows them again.
    async fn set_profile_hidden(&mut self, account: &Account, hidden_at: Option<Timestamp>) -> Result<(), StoreError>;

    /// Returns number and reason of the reporter's open report of this subject. Both people are locked, so that it stays as it is.
    async fn open_report(
        &mut self,
        reporter: &Account,
        target: &Account,
        subject: &Subject,
    ) -> Result<Option<(i64, Reason)>, StoreError>;

    /// Returns the number of the report. [`StoreError::Retry`] when the reporter has an open report of this subject.
    async fn insert_report(&mut self, report: &NewReport<'_>) -> Result<i64, StoreError>;

    /// Replaces the reason of a report, and the reporter's words unless the new ones are empty.
    async fn change_report(
        &mut self,
        id: i64,
        reason: Reason,
        hidden_at_once: bool,
        text: &str,
    ) -> Result<(), StoreError>;

    /// Returns whether the content stayed visible after a decision about a report of it by this reporter for this reason.
    async fn was_dismissed(
        &mut self,
        reporter: &Account,
        target: &Account,
        subject: &Subject,
        reason: Reason,
    ) -> Result<bool, StoreError>;

    /// Returns whether another report than this one hides the content.
    async fn is_hidden_by_another(
        &mut self,
        report: i64,
        target: &Account,
        subject: &Subject,
    ) -> Result<bool, StoreError>;

    /// `None` when the report is gone.
    async fn report_state(&mut self, id: i64) -> Result<Option<ReportState>, StoreError>;

    /// Resolves a report, open or not; false when it is gone.
    async fn resolve_report(&mut self, id: i64, resolution: &str, at: Timestamp) -> Result<bool, StoreError>;

    /// Returns who has filed the report, unless they have resigned.
    async fn reporter(&mut self, id: i64) -> Result<Option<Account>, StoreError>;

    /// Returns the role of an account; `None` for one that only a later release knows.
    async fn known_role(&mut self, account: &Account) -> Result<Option<Role>, StoreError>;

    async fn set_role(&mut self, account: &Account, role: Role) -> Result<(), StoreError>;

    /// Inserts or replaces the application of an account.
    async fn set_role_application(
        &mut self,
        account: &Account,
        role: Role,
        text: &str,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Returns the role of an application, which is deleted; `None` where there is none, or for a role that only a later release knows.
    async fn take_role_application(&mut self, account: &Account) -> Result<Option<Role>, StoreError>;

    /// Locks the end of the audit.
    async fn lock_audit(&mut self) -> Result<AuditHead, StoreError>;

    /// Adds an entry behind the last one.
    async fn insert_audit(&mut self, entry: &AuditEntry, digest: &[u8; 32]) -> Result<(), StoreError>;

    /// Remembers whose hash it is until the account resigns.
    async fn name_audited(&mut self, hash: &[u8; 32], account: &Account) -> Result<(), StoreError>;

    /// Remembers which order an entry of the audit is about.
    async fn insert_order(&mut self, order: EventId, entry: i64) -> Result<(), StoreError>;

    /// Records what became of an order, unless that is known.
    async fn note_answer(
        &mut self,
        order: EventId,
        outcome: ModerationOutcome,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// The note is deleted with the account.
    async fn insert_audit_note(&mut self, entry: i64, account: &Account, text: &str) -> Result<(), StoreError>;
}
