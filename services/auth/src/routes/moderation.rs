//! Reports, suspensions, the audit and the published contact.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Admin, Caller, Moderator};
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_common::http::params::optional_instant;
use sosohappy_common::http::rate_limit::AccountLimit;
use sosohappy_events::date;
use sosohappy_events::types::ModerationOutcome;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::domain::moderation::{MessageId, NO_ENTRY, Reason, Remark, Resolution, Subject};
use crate::domain::page::PageSize;
use crate::error::Error;
use crate::moderation;
use crate::store::moderation::{Audited, Effect, Report, ReportPage};

#[derive(Debug, Serialize, ToSchema)]
pub struct Done {
    /// False when there was nothing to do.
    success: bool,
}

impl Done {
    pub(super) fn new(success: bool) -> Self {
        Self { success }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct ReportRequest {
    /// Who is reported, or whose post, comment or message it is.
    nickname: String,
    /// The 16-digit date of the person's post.
    #[schema(minimum = 2_000_010_100_000_000_i64, maximum = 9_999_123_199_999_999_i64)]
    post: Option<i64>,
    /// The id of the person's comment.
    #[schema(minimum = 1)]
    comment: Option<i64>,
    /// The id of the person's message: a UUID, or 24 hex digits for one of the legacy Spring services.
    #[schema(value_type = Option<String>, min_length = 24, max_length = 36, pattern = "^[0-9A-Fa-f-]+$")]
    message: Option<MessageId>,
    reason: Reason,
    /// The reporter's words, at most 1,000 characters and 8,000 bytes.
    #[serde(default)]
    #[schema(value_type = String, max_length = 1000)]
    text: Remark,
}

impl ReportRequest {
    fn subject(&self) -> Result<Subject, Error> {
        match (self.post, self.comment, &self.message) {
            (None, None, None) => Ok(Subject::Person),
            (Some(date), None, None) if date::of_post(date).is_ok() => Ok(Subject::Post(date)),
            (Some(_), None, None) => Err(Error::InvalidParameter(
                "post: the 16-digit date of a post, of which the first 8 digits are a day of the calendar",
            )),
            (None, Some(comment), None) if comment >= 1 => Ok(Subject::Comment(comment)),
            (None, Some(_), None) => Err(Error::InvalidParameter("comment: the id of a comment, at least 1")),
            (None, None, Some(message)) if message.is_of_a_message() => Ok(Subject::Message(message.clone())),
            (None, None, Some(_)) => Err(Error::InvalidParameter(
                "message: the id of a message, a UUID or 24 hex digits",
            )),
            _ => Err(Error::InvalidParameter("at most one of post, comment and message")),
        }
    }
}

/// Reports a person, or a post, comment or message of theirs, to the moderators. Reporting the same again is one report. Content that is reported
/// as unlawful imagery is hidden at once, also by a second report of the same person; of a person, introduction and photo.
#[utoipa::path(
    post,
    path = "/report",
    tag = "moderation",
    request_body = ReportRequest,
    responses(
        (status = 200, body = Done),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 404, body = Problem),
        (status = 429, description = "Too many reports of this account", body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn report(
    State(app): State<Arc<App>>,
    caller: Caller,
    limit: Option<Extension<AccountLimit>>,
    Params(asked): Params<ReportRequest>,
) -> Result<Json<Done>, Error> {
    let subject = asked.subject()?;
    if let Some(Extension(limit)) = &limit {
        let reports = app.reports.get();
        reports
            .check(&caller.account)
            .map_err(|limited| limit.refuse(limited))?;
    }
    let reported = moderation::Reported {
        nickname: asked.nickname,
        subject,
        reason: asked.reason,
        text: asked.text,
    };
    moderation::report(&app, &caller.account, &reported).await?;
    Ok(Json(Done::new(true)))
}

/// Where a page begins: `start`, or what the last answer gave as `nextCursor`: the number of its last entry.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct NumberCursor(Option<i64>);

impl TryFrom<String> for NumberCursor {
    type Error = crate::domain::page::InvalidCursor;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() || text == "start" {
            return Ok(Self(None));
        }
        let digits = Some(&text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.and_then(|text| text.parse().ok());
        number
            .map(|number| Self(Some(number)))
            .ok_or(crate::domain::page::InvalidCursor)
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NumberPage {
    /// `start`, or what the last answer gave as `nextCursor`; the first page when it is left out.
    #[param(value_type = Option<String>, pattern = "^(start|[0-9]+)$", example = "start")]
    cursor: Option<NumberCursor>,
    #[serde(default)]
    #[param(inline, required = false)]
    size: PageSize,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ReportsPage {
    /// `start`, or what the last answer gave as `nextCursor`; the first page when it is left out.
    #[param(value_type = Option<String>, pattern = "^(start|[0-9]+)$", example = "start")]
    cursor: Option<NumberCursor>,
    #[serde(default)]
    #[param(inline, required = false)]
    size: PageSize,
    /// False lists resolved reports, too, until they are deleted.
    #[param(default = true)]
    open: Option<bool>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShownReport {
    report: i64,
    /// Who is reported, or whose content it is.
    nickname: String,
    /// `person`, `post`, `comment` or `message`.
    #[schema(example = "post")]
    kind: &'static str,
    /// The date of the post, or the id of the comment or message; feed's `admin/reportedContent` shows what it was. Empty for a person.
    content: String,
    reason: Reason,
    /// The reporter's nickname and words; null when they have resigned.
    reporter: Option<String>,
    text: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    reported_at: Timestamp,
    age_seconds: i64,
    #[schema(value_type = String, format = DateTime)]
    due_at: Timestamp,
    /// Whether it is open and its deadline has passed.
    is_late: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    resolved_at: Option<Timestamp>,
    /// `hide`, `restore`, `warn`, `suspend` or `dismiss`.
    resolution: Option<String>,
}

impl ShownReport {
    fn new(report: Report, now: Timestamp) -> Self {
        let (reporter, text) = report.by.unzip();
        Self {
            report: report.id,
            nickname: report.nickname,
            kind: report.subject.kind(),
            content: report.subject.content(),
            reason: report.reason,
            reporter,
            text,
            reported_at: report.reported_at,
            age_seconds: now.duration_since(report.reported_at).as_secs(),
            due_at: report.due_at,
            is_late: report.resolved_at.is_none() && report.due_at <= now,
            resolved_at: report.resolved_at,
            resolution: report.resolution,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReportList {
    content: Vec<ShownReport>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

/// Cuts what was read to the page, and returns the cursor of the next one.
fn cut<T>(rows: &mut Vec<T>, size: PageSize, number: impl Fn(&T) -> i64) -> Option<String> {
    if rows.len() <= size.get() {
        return None;
    }
    rows.truncate(size.get());
    rows.last().map(|last| number(last).to_string())
}

/// Lists reports, the oldest first, with age and deadline. For moderators.
#[utoipa::path(
    get,
    path = "/admin/reports",
    tag = "moderation",
    params(ReportsPage),
    responses((status = 200, body = ReportList), (status = 400, body = Problem), (status = 503, body = Problem)),
)]
pub async fn list_reports(
    State(app): State<Arc<App>>,
    _moderator: Moderator,
    Params(asked): Params<ReportsPage>,
) -> Result<Json<ReportList>, Error> {
    let page = ReportPage {
        after: asked.cursor.and_then(|cursor| cursor.0).unwrap_or(0),
        open: asked.open.unwrap_or(true),
        rows: asked.size.rows(),
    };
    let mut reports = app.store.reports(page).await?;
    let next_cursor = cut(&mut reports, asked.size, |report| report.id);
    let now = app.now();
    Ok(Json(ReportList {
        content: reports
            .into_iter()
            .map(|report| ShownReport::new(report, now))
            .collect(),
        next_cursor,
    }))
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct ResolveReport {
    report: i64,
    action: Resolution,
    /// With `suspend`: when the suspension ends by itself, in the future; left out: never.
    #[serde(default, deserialize_with = "optional_instant")]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// For the audit, in at most 1,000 characters and 8,000 bytes.
    #[serde(default)]
    #[schema(value_type = String, max_length = 1000)]
    note: Remark,
}

/// Resolves a report: `hide` or `restore` the content, or introduction and photo of a person, `warn` or `suspend` the person, or `dismiss`, which
/// restores what was hidden at once. A later decision replaces an earlier one, whose hiding or suspension ends: content stays hidden while another
/// report hides it, a suspension if it was changed since. For moderators; only an admin suspends a moderator.
#[utoipa::path(
    post,
    path = "/admin/resolveReport",
    tag = "moderation",
    request_body = ResolveReport,
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem)),
)]
pub async fn resolve_report(
    State(app): State<Arc<App>>,
    Moderator(moderator): Moderator,
    Params(asked): Params<ResolveReport>,
) -> Result<Json<Done>, Error> {
    let resolved = moderation::Resolved {
        report: asked.report,
        resolution: asked.action,
        until: asked.until,
        note: asked.note,
    };
    moderation::resolve(&app, &moderator, &resolved).await?;
    Ok(Json(Done::new(true)))
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct Suspend {
    nickname: String,
    reason: Reason,
    /// When the suspension ends by itself, in the future; left out: never.
    #[serde(default, deserialize_with = "optional_instant")]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// For the audit, in at most 1,000 characters and 8,000 bytes.
    #[serde(default)]
    #[schema(value_type = String, max_length = 1000)]
    note: Remark,
}

/// Suspends an account: no token of it is accepted anywhere, its sockets are closed, sign-in and re-issue answer 403 `suspended` with reason and end.
/// Its sessions go on when the suspension ends. For moderators; only an admin suspends a moderator.
#[utoipa::path(
    post,
    path = "/admin/suspend",
    tag = "moderation",
    request_body = Suspend,
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem)),
)]
pub async fn suspend(
    State(app): State<Arc<App>>,
    Moderator(moderator): Moderator,
    Params(asked): Params<Suspend>,
) -> Result<Json<Done>, Error> {
    moderation::suspend(
        &app,
        &moderator,
        &asked.nickname,
        asked.reason,
        asked.until,
        &asked.note,
    )
    .await?;
    Ok(Json(Done::new(true)))
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct Restore {
    nickname: String,
    /// For the audit, in at most 1,000 characters and 8,000 bytes.
    #[serde(default)]
    #[schema(value_type = String, max_length = 1000)]
    note: Remark,
}

/// Ends the suspension of an account. For moderators; only an admin restores a moderator.
#[utoipa::path(
    post,
    path = "/admin/restore",
    tag = "moderation",
    request_body = Restore,
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem)),
)]
pub async fn restore(
    State(app): State<Arc<App>>,
    Moderator(moderator): Moderator,
    Params(asked): Params<Restore>,
) -> Result<Json<Done>, Error> {
    let success = moderation::restore(&app, &moderator, &asked.nickname, &asked.note).await?;
    Ok(Json(Done::new(success)))
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShownAudit {
    entry: i64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    #[schema(example = "suspend")]
    action: String,
    /// The nickname of the acting person, or the masked address (`k…@example.com+kakao`) while the profile is not set; null for an operator, the service itself, or a person who has resigned.
    actor: Option<String>,
    /// The person that it was about, in the same form; null when the person has resigned.
    target: Option<String>,
    /// Keyed hashes of both accounts, which stay; `actorHash` is empty for an operator or the service itself.
    actor_hash: String,
    target_hash: String,
    subject: String,
    reason: String,
    note: Option<String>,
    /// `ordered` while the service that holds the content has not answered, then `applied` (the content is hidden or shown as ordered), `notFound`
    /// (the author has no such content, or it is not shown to the reporter of what is hidden at once), `superseded` (a later order says the opposite) or
    /// `unknown` (an answer of a later release);
    /// null where there is no such content, or the entry is of an older release.
    effect: Option<&'static str>,
    /// When the service answered `applied`.
    #[schema(value_type = Option<String>, format = DateTime)]
    applied_at: Option<Timestamp>,
    /// SHA-256 of this entry and the digest of the one before it.
    digest: String,
}

impl From<Audited> for ShownAudit {
    fn from(audited: Audited) -> Self {
        let entry = audited.entry;
        let (effect, applied_at) = match audited.effect {
            None => (None, None),
            Some(Effect::Ordered) => (Some("ordered"), None),
            Some(Effect::Answered { outcome, at }) => {
                let is_applied = outcome == Some(ModerationOutcome::Applied);
                let effect = outcome.map_or("unknown", ModerationOutcome::as_str);
                (Some(effect), is_applied.then_some(at))
            }
        };
        Self {
            entry: entry.entry,
            at: entry.at,
            action: entry.action,
            actor: audited.actor,
            target: audited.target,
            actor_hash: hex::encode(entry.actor),
            target_hash: hex::encode(entry.target),
            subject: entry.subject,
            reason: entry.reason,
            note: audited.note,
            effect,
            applied_at,
            digest: hex::encode(audited.digest),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    content: Vec<ShownAudit>,
    /// Whether every entry of the page follows from the one before it: false when one was changed or deleted in the database.
    is_intact: bool,
    /// Null on the last page.
    next_cursor: Option<String>,
}

/// Lists the audit, the last entry first: who did what, when and why. For admins.
#[utoipa::path(
    get,
    path = "/admin/audit",
    tag = "moderation",
    params(NumberPage),
    responses((status = 200, body = Audit), (status = 400, body = Problem), (status = 503, body = Problem)),
)]
pub async fn list_audit(
    State(app): State<Arc<App>>,
    _admin: Admin,
    Params(asked): Params<NumberPage>,
) -> Result<Json<Audit>, Error> {
    let below = asked.cursor.and_then(|cursor| cursor.0);
    // The head first: an entry that is added in between is above it, and not missing.
    let head = app.store.audit_head().await?;
    let mut entries = app.store.audit(below.unwrap_or(i64::MAX), asked.size.rows()).await?;
    let is_whole = entries.len() <= asked.size.get();
    let mut is_intact = below.is_some() || reaches(&entries, head.entry, &head.digest);
    for (at, audited) in entries.iter().enumerate().take(asked.size.get()) {
        let previous = match entries.get(at + 1) {
            Some(before) => (before.entry.entry, before.digest),
            None if is_whole => (0, NO_ENTRY),
            None => continue,
        };
        is_intact &= audited.entry.entry == previous.0 + 1 && audited.entry.digest(&previous.1) == audited.digest;
    }
    let next_cursor = cut(&mut entries, asked.size, |audited| audited.entry.entry);
    Ok(Json(Audit {
        content: entries.into_iter().map(ShownAudit::from).collect(),
        is_intact,
        next_cursor,
    }))
}

/// Whether the entries, from the last one on, hold the one that the head names; a head without entries is the first.
fn reaches(entries: &[Audited], entry: i64, digest: &[u8; 32]) -> bool {
    if entry == 0 {
        return *digest == NO_ENTRY;
    }
    let found = entries.iter().find(|audited| audited.entry.entry == entry);
    // Not on the page: more entries than a page has were added since.
    let is_below = entries.last().is_some_and(|last| last.entry.entry > entry);
    is_below || found.is_some_and(|audited| audited.digest == *digest)
}

/// Null where the operator has set none.
#[derive(Debug, Serialize, ToSchema)]
pub struct ContactShown {
    #[schema(example = "help@example.com")]
    email: Option<String>,
    url: Option<String>,
}

/// Shows the published contact of the operator.
#[utoipa::path(get, path = "/contact", tag = "moderation", responses((status = 200, body = ContactShown)))]
pub async fn show_contact(State(app): State<Arc<App>>) -> Json<ContactShown> {
    let contact = app.settings.get().contact.clone();
    let shown = |text: String| Some(text).filter(|text| !text.is_empty());
    Json(ContactShown {
        email: shown(contact.email),
        url: shown(contact.url),
    })
}
