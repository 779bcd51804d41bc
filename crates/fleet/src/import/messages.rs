//! The collection `message`.

use anyhow::{Context as _, ensure};
use futures::TryStreamExt as _;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection};
use sosohappy_common::Account;
use sosohappy_common::text::to_portable;
use sosohappy_dm::import::{Importer, LegacyMessage, Outcome};

use super::apis::Request;
use super::names::Names;
use super::sample::Sample;
use super::{Pass, Stage};

pub const TABLE: &str = "message";

/// The field of a message that `fleet export spring` has written: its id in dm's own store.
pub const ORIGIN: &str = "origin";

/// Messages that are looked at together.
const PAGE: i64 = 500;

/// Opens the legacy database: `mongodb://…/<database>`.
pub async fn open(url: &str) -> anyhow::Result<Collection<Document>> {
    const EXPECTED: &str = "--messages: mongodb://user:password@host:port/database is expected";
    sosohappy_common::tls::install_provider();
    // The driver's words about a URL may hold what is in it.
    let options = ClientOptions::parse(url).await.map_err(|_| anyhow::anyhow!(EXPECTED))?;
    let database = options.default_database.clone().context(EXPECTED)?;
    let client = Client::with_options(options).map_err(|_| anyhow::anyhow!(EXPECTED))?;
    Ok(client.database(&database).collection(TABLE))
}

/// Takes all messages over whose people can be identified. Messages that the legacy dm stores meanwhile are left to the next pass: on a busy
/// service this one would not end.
pub async fn import(
    pass: &mut Pass,
    messages: &Collection<Document>,
    importer: &Importer,
    names: &Names,
) -> anyhow::Result<()> {
    let all = messages.count_documents(doc! {}).await.context("--messages")?;
    let stage = Stage::begin("messages", all);
    let mut seen = 0;
    let (mut expected, mut lost) = (0, 0);
    let mut shown = Sample::default();
    let until = newest_id(messages).await?;
    let mut passed = ObjectId::from_bytes([0; 12]);
    loop {
        // Only ids of the kind the legacy dm makes are greater.
        let page: Vec<Document> = messages
            .find(doc! { "_id": { "$gt": passed, "$lte": until } })
            .sort(doc! { "_id": 1 })
            .limit(PAGE)
            .await?
            .try_collect()
            .await?;
        let Some(newest) = page.last() else { break };
        passed = newest.get_object_id("_id").context("message._id")?;
        seen += page.len() as u64;
        let mut batch = Vec::with_capacity(page.len());
        for document in &page {
            if document.contains_key(ORIGIN) {
                pass.report.count(TABLE, "ours");
                continue;
            }
            match read(document, names) {
                Ok(message) => batch.push(message),
                Err((field, reason)) => {
                    let id = document.get_object_id("_id").map(ObjectId::to_hex).unwrap_or_default();
                    pass.report.count(TABLE, "unplaced");
                    pass.report.note(TABLE, id, "unplaced", Some(field), reason)?;
                }
            }
        }
        let outcomes = importer.apply(&batch, pass.dry_run).await?;
        for (message, outcome) in batch.iter().zip(outcomes) {
            let is_here = is_here(outcome);
            expected += u64::from(is_here);
            if let Some(apis) = &pass.apis
                && is_here
                && let Some(message) = shown_to(&apis.account, message, names)
            {
                shown.offer(message);
            }
            let (outcome, reason) = explain(outcome);
            pass.report.count(TABLE, outcome);
            if let Some((field, reason)) = reason {
                pass.report.note(TABLE, &message.id, outcome, Some(field), reason)?;
            }
        }
        if !pass.dry_run {
            lost += lost_of(importer, &batch).await?;
        }
        stage.inc(page.len() as u64);
    }
    for _ in seen..all {
        pass.report.count(TABLE, "ours");
    }
    if !pass.dry_run {
        ensure!(
            lost == 0,
            "check: {expected} messages were read, {} are here",
            expected.saturating_sub(lost)
        );
        println!("check: {expected} messages: as they were read");
    }
    compare(pass, names, &shown.rows).await
}

fn is_here(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Unchanged | Outcome::Created)
}

/// Returns how many of the messages that were taken over another run would have to take over again.
async fn lost_of(importer: &Importer, messages: &[LegacyMessage]) -> anyhow::Result<u64> {
    let again = importer.apply(messages, true).await?;
    let lost = again.into_iter().filter(|outcome| *outcome == Outcome::Created);
    Ok(lost.count() as u64)
}

/// Returns the greatest id of the kind that the legacy dm makes; a lesser one than any if there is none.
async fn newest_id(messages: &Collection<Document>) -> anyhow::Result<ObjectId> {
    let none = ObjectId::from_bytes([0; 12]);
    let newest = messages
        .find_one(doc! { "_id": { "$gt": none } })
        .sort(doc! { "_id": -1 })
        .projection(doc! { "_id": 1 })
        .await
        .context("--messages")?;
    newest.map_or(Ok(none), |newest| newest.get_object_id("_id").context("message._id"))
}

/// A message of the account that asks both fleets.
struct ShownMessage {
    id: String,
    /// The nickname of the other one of the conversation.
    other: String,
    date: i64,
}

/// Returns the message as the account can ask for it: if it is one of the account's, and both people still have the nicknames that it
/// was written under, by which the legacy dm finds it.
fn shown_to(account: &Account, message: &LegacyMessage, names: &Names) -> Option<ShownMessage> {
    let sent = (&message.sender, &message.sender_nickname);
    let addressed = (&message.receiver, &message.receiver_nickname);
    let has_name = |(person, nickname): (&Account, &String)| names.present(nickname) == Ok(person);
    let (_, other) = match account {
        sender if sender == sent.0 => addressed,
        receiver if receiver == addressed.0 => sent,
        _ => return None,
    };
    (has_name(sent) && has_name(addressed)).then(|| ShownMessage {
        id: message.id.clone(),
        other: other.clone(),
        date: message.date,
    })
}

/// Asks both fleets for some messages, if there are two to ask.
async fn compare(pass: &mut Pass, names: &Names, messages: &[ShownMessage]) -> anyhow::Result<()> {
    let Some(apis) = &mut pass.apis else { return Ok(()) };
    let asking = apis.nickname(names)?;
    for message in messages {
        // The newest message before the boundary is the one asked for.
        let request = Request {
            row: &message.id,
            route: ("dm-service", "findDirectMessage"),
            form: &[
                ("sender", asking),
                ("receiver", &message.other),
                ("timeBoundary", &(message.date + 1).to_string()),
                ("messageCnt", "1"),
            ],
        };
        apis.compare(&mut pass.report, request).await?;
    }
    Ok(())
}

type Reason = (&'static str, &'static str);

fn explain(outcome: Outcome) -> (&'static str, Option<Reason>) {
    match outcome {
        Outcome::Unchanged => ("unchanged", None),
        Outcome::Created => ("created", None),
        Outcome::NoSuchDate => ("unplaced", Some(("date", "no number of sixteen digits from 2000 on"))),
        Outcome::Resigned => ("unplaced", Some(("sender", "one of the two has resigned since"))),
    }
}

fn read(document: &Document, names: &Names) -> Result<LegacyMessage, Reason> {
    let (sender, sender_nickname) = person(document, "sender", names)?;
    let (receiver, receiver_nickname) = person(document, "receiver", names)?;
    let date = match document.get("date") {
        Some(Bson::Int64(date)) => *date,
        Some(Bson::Int32(date)) => i64::from(*date),
        _ => return Err(("date", "no integer")),
    };
    Ok(LegacyMessage {
        id: document
            .get_object_id("_id")
            .map_err(|_| ("_id", "no ObjectId"))?
            .to_hex(),
        sender,
        receiver,
        sender_nickname,
        receiver_nickname,
        date,
        text: to_portable(document.get_str("text").map_err(|_| ("text", "no text"))?),
    })
}

fn person(document: &Document, field: &'static str, names: &Names) -> Result<(Account, String), Reason> {
    let nickname = document.get_str(field).map_err(|_| (field, "no nickname"))?;
    let account = names.ever(nickname).map_err(|unknown| (field, unknown.reason()))?;
    Ok((account.clone(), nickname.to_owned()))
}
