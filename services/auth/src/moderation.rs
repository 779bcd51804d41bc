//! Reports and what comes of them: content is hidden or restored, accounts are suspended or restored, roles are granted. Each decision is one
//! transaction with its entry in the audit and its events.

use jiff::Timestamp;
use serde_json::{Value, json};
use sosohappy_access::Caller;
use sosohappy_common::{Account, Problem};
use sosohappy_events::types::{
    AccountStateChanged, ModeratedContent, ModerationAction, ModerationApplied, ModerationOutcome, NoticeRaised,
    ReviewDecision, Role, State,
};
use sosohappy_events::{Envelope, EventId};
use sosohappy_store::{PRIMARY, StoreError, Timer, retrying};

use crate::app::{App, later};
use crate::audit::{self, Decision};
use crate::domain::moderation::{Reason, Remark, ReportState, Resolution, Subject, Suspension, action};
use crate::domain::person::Person;
use crate::domain::stamp;
use crate::domain::system_notice::SystemNotice;
use crate::error::Error;
use crate::relations;
use crate::sessions;
use crate::store::Transaction;
use crate::store::moderation::{NewReport, Report};

/// Fires when a suspension ends by itself; its key is the account.
pub const TIMER: &str = "suspension";

/// The topics of notices.
const MODERATION_NOTICE: &str = "moderation";
const ROLE_NOTICE: &str = "role";
const SYSTEM_NOTICE: &str = "system";

/// What a person reports.
#[derive(Debug)]
pub struct Reported {
    pub nickname: String,
    pub subject: Subject,
    pub reason: Reason,
    pub text: Remark,
}

/// Stores a report, and hides at once what its reason says. A repeated report of the same subject by the same person is one
/// report: it changes nothing, unless the new reason hides at once and the one before did not. A reason that was dismissed does not hide at once
/// when the same person gives it again.
pub async fn report(app: &App, reporter: &Account, filed: &Reported) -> Result<(), Error> {
    let target = app.bearer_of(&filed.nickname).await?.ok_or(Error::NoSuchPerson)?;
    if target.account == *reporter {
        return Err(Error::InvalidParameter("nickname: a person does not report themselves"));
    }
    retrying(|| report_once(app, reporter, &target.account, filed)).await
}

async fn report_once(app: &App, reporter: &Account, target: &Account, filed: &Reported) -> Result<(), Error> {
    let Reported {
        subject, reason, text, ..
    } = filed;
    let mut tx = app.store.begin().await?;
    let at = relations::lock(app, tx.as_mut(), reporter, target)
        .await?
        .ok_or(Error::NoSuchPerson)?;
    let hides_at_once = reason.hides_at_once() && !tx.was_dismissed(reporter, target, subject, *reason).await?;
    let id = match tx.open_report(reporter, target, subject).await? {
        Some((id, known)) if reason.hides_at_once() && !known.hides_at_once() => {
            tx.change_report(id, *reason, hides_at_once, text.as_str()).await?;
            id
        }
        Some(_) => return Ok(()),
        None => {
            let report = NewReport {
                reporter,
                target,
                subject,
                reason: *reason,
                hidden_at_once: hides_at_once,
                text: text.as_str(),
                at,
                due_at: later(at, app.settings.get().moderation.deadline),
            };
            let id = tx.insert_report(&report).await?;
            if let Some(event) = subject.event(ModerationAction::Reported, target, Some(id), Some(reporter)) {
                app.enqueue(tx.as_mut(), event, at).await?;
            }
            id
        }
    };
    tx.stamp_person(target, at).await?;
    if hides_at_once {
        let by = Some(reporter);
        let order = set_visibility(app, tx.as_mut(), subject, target, ModerationAction::Hidden, by, at).await?;
        let data = content_notice("hidden", subject, *reason);
        notify(app, tx.as_mut(), target, MODERATION_NOTICE, data, at).await?;
        let decision = Decision {
            action: action::HIDDEN_AT_ONCE,
            actor: None,
            target,
            subject: format!("report {id}"),
            reason: reason.as_str(),
            note: "",
        };
        audit::record_order(app, tx.as_mut(), &decision, order, at).await?;
    }
    app.commit(tx).await?;
    app.metrics.reports.with_label_values(&[reason.as_str()]).inc();
    Ok(())
}

/// What a moderator decides about a report.
#[derive(Debug)]
pub struct Resolved {
    pub report: i64,
    pub resolution: Resolution,
    /// When a suspension ends.
    pub until: Option<Timestamp>,
    pub note: Remark,
}

/// Resolves a report; a later decision about the same report replaces an earlier one. Moderators do not decide about themselves.
pub async fn resolve(app: &App, moderator: &Caller, resolved: &Resolved) -> Result<(), Error> {
    let report = app.store.report(resolved.report).await?.ok_or(Error::NoSuchReport)?;
    if report.target == moderator.account {
        return Err(Problem::role_required()
            .detail("moderators do not decide about reports of themselves")
            .into());
    }
    retrying(|| resolve_once(app, moderator, &report, resolved)).await
}

async fn resolve_once(app: &App, moderator: &Caller, report: &Report, resolved: &Resolved) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let person = tx.person(&report.target).await?.ok_or(Error::NoSuchReport)?;
    let target = &person.account;
    let at = stamp::after(person.changed_at, app.now());
    tx.stamp_person(target, at).await?;
    let state = tx.report_state(report.id).await?.ok_or(Error::NoSuchReport)?;
    if !tx.resolve_report(report.id, resolved.resolution.as_str(), at).await? {
        return Err(Error::NoSuchReport);
    }
    if resolved.resolution == Resolution::Suspend {
        require_outranks(moderator, &person)?;
        set_suspension(app, tx.as_mut(), target, state.reason, resolved.until, at).await?;
    } else if let Some((Resolution::Suspend, since)) = state.decision {
        undo_suspension(app, tx.as_mut(), moderator, &person, since, at).await?;
    }
    let effect = effect_on_content(tx.as_mut(), report, &state, resolved.resolution).await?;
    let order = match effect {
        Some(effect) => set_visibility(app, tx.as_mut(), &report.subject, target, effect, None, at).await?,
        None => None,
    };
    if let Some(event) = report
        .subject
        .event(ModerationAction::Closed, target, Some(report.id), None)
    {
        app.enqueue(tx.as_mut(), event, at).await?;
    }
    let changed = effect.map(|effect| {
        if effect == ModerationAction::Hidden {
            "hidden"
        } else {
            "restored"
        }
    });
    let warned = (resolved.resolution == Resolution::Warn).then_some("warned");
    for told in [changed, warned].into_iter().flatten() {
        let data = content_notice(told, &report.subject, state.reason);
        notify(app, tx.as_mut(), target, MODERATION_NOTICE, data, at).await?;
    }
    if let Some(reporter) = tx.reporter(report.id).await? {
        let data = json!({ "action": "reviewed", "report": report.id });
        notify(app, tx.as_mut(), &reporter, MODERATION_NOTICE, data, at).await?;
    }
    let decision = Decision {
        action: action::RESOLVE,
        actor: Some(&moderator.account),
        target,
        subject: format!("report {}: {}", report.id, resolved.resolution.as_str()),
        reason: state.reason.as_str(),
        note: resolved.note.as_str(),
    };
    audit::record_order(app, tx.as_mut(), &decision, order, at).await?;
    app.commit(tx).await
}

/// Returns what a decision changes about the content, in comparison with the one before. `hide` and `restore` are published in any case; the end of
/// another decision restores only what no other report hides.
async fn effect_on_content(
    tx: &mut dyn Transaction,
    report: &Report,
    state: &ReportState,
    resolution: Resolution,
) -> Result<Option<ModerationAction>, Error> {
    match resolution {
        Resolution::Hide => return Ok(Some(ModerationAction::Hidden)),
        Resolution::Restore => return Ok(Some(ModerationAction::Restored)),
        Resolution::Warn | Resolution::Suspend | Resolution::Dismiss => {}
    }
    let before = state.hides(state.decision.map(|(resolution, _)| resolution));
    let after = state.hides(Some(resolution));
    if before == after {
        return Ok(None);
    }
    if after {
        return Ok(Some(ModerationAction::Hidden));
    }
    let stays_hidden = tx
        .is_hidden_by_another(report.id, &report.target, &report.subject)
        .await?;
    Ok((!stays_hidden).then_some(ModerationAction::Restored))
}

/// Ends the suspension of a locked person that a decision of that time began. One that was changed since is not of that decision, and stays.
async fn undo_suspension(
    app: &App,
    tx: &mut dyn Transaction,
    moderator: &Caller,
    person: &Person,
    since: Timestamp,
    at: Timestamp,
) -> Result<(), Error> {
    let suspension = tx.suspension(&person.account).await?;
    if suspension.is_none_or(|suspension| suspension.since != since) {
        return Ok(());
    }
    require_outranks(moderator, person)?;
    tx.delete_suspension(&person.account).await?;
    tx.clear_timer(TIMER, person.account.as_str()).await?;
    publish_state(app, tx, &person.account, State::Restored, at).await
}

/// Suspends the bearer of a nickname, or changes reason and end of a suspension.
pub async fn suspend(
    app: &App,
    moderator: &Caller,
    nickname: &str,
    reason: Reason,
    until: Option<Timestamp>,
    note: &Remark,
) -> Result<(), Error> {
    let target = app.bearer_of(nickname).await?.ok_or(Error::NoSuchPerson)?.account;
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        let person = tx.person(&target).await?.ok_or(Error::NoSuchPerson)?;
        require_outranks(moderator, &person)?;
        let at = stamp::after(person.changed_at, app.now());
        tx.stamp_person(&target, at).await?;
        set_suspension(app, tx.as_mut(), &target, reason, until, at).await?;
        let decision = Decision {
            action: action::SUSPEND,
            actor: Some(&moderator.account),
            target: &target,
            subject: until.map_or_else(|| "without end".to_owned(), |until| format!("until {until}")),
            reason: reason.as_str(),
            note: note.as_str(),
        };
        audit::record(app, tx.as_mut(), &decision, at).await?;
        app.commit(tx).await
    })
    .await
}

/// Ends the suspension of the bearer of a nickname; false when there is none.
pub async fn restore(app: &App, moderator: &Caller, nickname: &str, note: &Remark) -> Result<bool, Error> {
    let target = app.bearer_of(nickname).await?.ok_or(Error::NoSuchPerson)?.account;
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        let person = tx.person(&target).await?.ok_or(Error::NoSuchPerson)?;
        require_outranks(moderator, &person)?;
        let decision = Decision {
            action: action::RESTORE,
            actor: Some(&moderator.account),
            target: &target,
            subject: String::new(),
            reason: "",
            note: note.as_str(),
        };
        let is_restored = lift(app, tx.as_mut(), &person, &decision).await?;
        if is_restored {
            tx.clear_timer(TIMER, target.as_str()).await?;
            app.commit(tx).await?;
        }
        Ok(is_restored)
    })
    .await
}

/// Ends a suspension that has expired.
pub async fn end_suspension(app: &App, tx: &mut dyn Transaction, account: &Account) -> Result<(), Error> {
    let person = tx.person(account).await?;
    if !tx.take_timer(TIMER, account.as_str(), app.now()).await? {
        return Ok(());
    }
    // Without a person, the account has resigned.
    let Some(person) = person else { return Ok(()) };
    let decision = Decision {
        action: action::SUSPENSION_ENDED,
        actor: None,
        target: account,
        subject: String::new(),
        reason: "",
        note: "",
    };
    lift(app, tx, &person, &decision).await?;
    Ok(())
}

/// Deletes the suspension of a locked person, and publishes and records it; false when there is none.
async fn lift(app: &App, tx: &mut dyn Transaction, person: &Person, decision: &Decision<'_>) -> Result<bool, Error> {
    if !tx.delete_suspension(&person.account).await? {
        return Ok(false);
    }
    let at = stamp::after(person.changed_at, app.now());
    tx.stamp_person(&person.account, at).await?;
    publish_state(app, tx, &person.account, State::Restored, at).await?;
    audit::record(app, tx, decision, at).await?;
    Ok(true)
}

async fn set_suspension(
    app: &App,
    tx: &mut dyn Transaction,
    target: &Account,
    reason: Reason,
    until: Option<Timestamp>,
    at: Timestamp,
) -> Result<(), Error> {
    if until.is_some_and(|until| until <= app.now()) {
        return Err(Error::InvalidParameter("until: not in the past"));
    }
    let suspension = Suspension {
        reason,
        since: at,
        until,
    };
    tx.set_suspension(target, &suspension).await?;
    match until {
        Some(fire_at) => {
            let timer = Timer {
                kind: TIMER.to_owned(),
                key: target.as_str().to_owned(),
                fire_at,
            };
            tx.set_timer(&timer).await?;
        }
        None => tx.clear_timer(TIMER, target.as_str()).await?,
    }
    publish_state(app, tx, target, State::Suspended, at).await
}

async fn publish_state(
    app: &App,
    tx: &mut dyn Transaction,
    account: &Account,
    state: State,
    at: Timestamp,
) -> Result<(), Error> {
    let account = account.clone();
    app.enqueue(tx, AccountStateChanged { account, state }, at).await
}

/// Moderators act on members, admins on moderators as well; an account never acts on itself or its equals.
fn require_outranks(moderator: &Caller, person: &Person) -> Result<(), Error> {
    if moderator.role > person.role {
        Ok(())
    } else {
        Err(Problem::role_required()
            .detail("a role above that of the account is required")
            .into())
    }
}

/// Stores the wish of an account for a role; a later one replaces it.
pub async fn apply(app: &App, account: &Account, role: Role, text: &Remark) -> Result<(), Error> {
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        let person = tx.person(account).await?.ok_or(Error::UnknownAccount)?;
        if person.role >= role {
            return Err(Error::InvalidParameter("role: a role above the present one"));
        }
        tx.set_role_application(account, role, text.as_str(), app.now()).await?;
        Ok(tx.commit().await?)
    })
    .await
}

/// Decides the application of the bearer of a nickname, who gets a notice.
pub async fn decide(app: &App, admin: &Caller, nickname: &str, is_accepted: bool, note: &Remark) -> Result<(), Error> {
    let target = app.bearer_of(nickname).await?.ok_or(Error::NoSuchPerson)?.account;
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        let person = tx.person(&target).await?.ok_or(Error::NoSuchPerson)?;
        let role = tx
            .take_role_application(&target)
            .await?
            .ok_or(Error::NoSuchApplication)?;
        let at = stamp::after(person.changed_at, app.now());
        tx.stamp_person(&target, at).await?;
        let before = tx.known_role(&target).await?;
        // Meanwhile an operator may have granted a higher one.
        if is_accepted && before.is_none_or(|before| role > before) {
            change_role(app, tx.as_mut(), &target, before, role).await?;
        }
        let data = json!({ "role": role.as_str(), "accepted": is_accepted });
        notify(app, tx.as_mut(), &target, ROLE_NOTICE, data, at).await?;
        let decision = Decision {
            action: if is_accepted {
                action::GRANT_ROLE
            } else {
                action::REFUSE_ROLE
            },
            actor: Some(&admin.account),
            target: &target,
            subject: role.to_string(),
            reason: "",
            note: note.as_str(),
        };
        audit::record(app, tx.as_mut(), &decision, at).await?;
        app.commit(tx).await
    })
    .await
}

/// Gives an account a role on behalf of an operator.
pub async fn grant(app: &App, account: &Account, role: Role) -> Result<(), Error> {
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        let person = tx.person_at(account).await?.ok_or(Error::NoSuchPerson)?;
        let account = &person.account;
        let before = tx.known_role(account).await?;
        if before == Some(role) {
            return Ok(());
        }
        let at = stamp::after(person.changed_at, app.now());
        tx.stamp_person(account, at).await?;
        tx.take_role_application(account).await?;
        change_role(app, tx.as_mut(), account, before, role).await?;
        let data = json!({ "role": role.as_str(), "accepted": true });
        notify(app, tx.as_mut(), account, ROLE_NOTICE, data, at).await?;
        let decision = Decision {
            action: action::GRANT_ROLE,
            actor: None,
            target: account,
            subject: role.to_string(),
            reason: "",
            note: "",
        };
        audit::record(app, tx.as_mut(), &decision, at).await?;
        app.commit(tx).await
    })
    .await
}

/// Changes the role of an account. A lower role than before closes its sessions: other services know the role by the token. So does any role after
/// one that only a later release knows (`None`), whose replicas may let the account do more.
async fn change_role(
    app: &App,
    tx: &mut dyn Transaction,
    account: &Account,
    before: Option<Role>,
    role: Role,
) -> Result<(), Error> {
    tx.set_role(account, role).await?;
    if before.is_none_or(|before| role < before) {
        for session in tx.sessions_of(account).await? {
            sessions::close(app, tx, &session).await?;
        }
    }
    Ok(())
}

/// Hides or restores content. Returns the order that the service which holds the content carries out when it reads it; introduction and photo of a
/// person are auth's own, and changed here.
async fn set_visibility(
    app: &App,
    tx: &mut dyn Transaction,
    subject: &Subject,
    target: &Account,
    action: ModerationAction,
    reporter: Option<&Account>,
    at: Timestamp,
) -> Result<Option<EventId>, Error> {
    if let Some(event) = subject.event(action, target, None, reporter) {
        let mut order = Envelope::new(event, &app.context);
        order.meta.occurred_at = at;
        tx.enqueue(&order.to_outgoing(), app.now()).await?;
        return Ok(Some(order.meta.id));
    }
    let hidden_at = (action == ModerationAction::Hidden).then_some(at);
    tx.set_profile_hidden(target, hidden_at).await?;
    Ok(None)
}

/// Records what became of an order at the service that holds the content. The first answer counts.
pub async fn note_answer(
    app: &App,
    order: EventId,
    outcome: ModerationOutcome,
    at: Timestamp,
) -> Result<(), StoreError> {
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        tx.note_answer(order, outcome, at).await?;
        tx.commit().await
    })
    .await
}

/// Adds what a moderator decided about held content at its service to the audit, once. An account that has resigned meanwhile leaves its keyed hash
/// only.
pub async fn note_decision(
    app: &App,
    applied: &ModerationApplied,
    decided: &ReviewDecision,
    at: Timestamp,
) -> Result<(), Error> {
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        for account in [&applied.author, &decided.moderator] {
            if let Some(person) = tx.person_at(account).await? {
                tx.name_audited(&app.hasher.hash(account), &person.account).await?;
            }
        }
        let decision = Decision {
            action: if decided.accepted {
                action::RELEASE_HELD
            } else {
                action::REFUSE_HELD
            },
            actor: Some(&decided.moderator),
            target: &applied.author,
            subject: match &decided.content {
                ModeratedContent::Post { date } => format!("post {date}"),
                ModeratedContent::Comment { comment } => format!("comment {comment}"),
                ModeratedContent::Message { message } => format!("message {message}"),
            },
            reason: "",
            note: "",
        };
        let entry = audit::append(app, tx.as_mut(), &decision, at).await?;
        match tx.insert_order(applied.order, entry).await {
            Ok(()) => {}
            // A duplicate: the entry is rolled back with the transaction.
            Err(StoreError::Conflict(rule)) if rule == PRIMARY => return Ok(()),
            Err(error) => return Err(Error::Store(error)),
        }
        tx.note_answer(applied.order, ModerationOutcome::Applied, at).await?;
        Ok(tx.commit().await?)
    })
    .await
}

/// Sends an account a notice of the operators, whose title and text are the note of its entry in the audit. A repeated call sends another one.
pub async fn send_system_notice(app: &App, account: &Account, notice: &SystemNotice) -> Result<(), Error> {
    let note = notice.note();
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        let person = tx.person_at(account).await?.ok_or(Error::NoSuchPerson)?;
        let at = stamp::after(person.changed_at, app.now());
        notify(app, tx.as_mut(), &person.account, SYSTEM_NOTICE, notice.data(), at).await?;
        let decision = Decision {
            action: action::SEND_SYSTEM_NOTICE,
            actor: None,
            target: &person.account,
            subject: SYSTEM_NOTICE.to_owned(),
            reason: "",
            note: &note,
        };
        audit::record(app, tx.as_mut(), &decision, at).await?;
        app.commit(tx).await
    })
    .await
}

async fn notify(
    app: &App,
    tx: &mut dyn Transaction,
    receiver: &Account,
    topic: &str,
    data: Value,
    at: Timestamp,
) -> Result<(), Error> {
    let notice = NoticeRaised {
        receiver: receiver.clone(),
        topic: topic.to_owned(),
        data,
        about: None,
    };
    app.enqueue(tx, notice, at).await
}

fn content_notice(action: &str, subject: &Subject, reason: Reason) -> Value {
    let mut notice = json!({ "action": action, "kind": subject.kind(), "reason": reason.as_str() });
    match subject {
        Subject::Person => {}
        Subject::Post(date) => notice["date"] = (*date).into(),
        Subject::Comment(comment) => notice["commentId"] = (*comment).into(),
        Subject::Message(_) => notice["messageId"] = subject.content().into(),
    }
    notice
}
