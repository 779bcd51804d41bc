//! The export of messages to the collection `message`.

use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _};
use mongodb::Collection;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use sosohappy_common::text::to_portable;
use sosohappy_dm::export::ExportedMessage;
use sosohappy_dm::import::Importer;

use crate::import::Report;
use crate::import::messages::{ORIGIN, TABLE};

/// The number of messages of one page.
const PAGE: u32 = 500;

/// Writes messages that the fleet has stored to the legacy collection, with `_id`s derived from their ids. Messages that the collection has, also
/// Spring's own, get the text that they have here.
pub async fn export(
    report: &mut Report,
    messages: &Collection<Document>,
    dm: &Importer,
    dry_run: bool,
) -> anyhow::Result<()> {
    // Only documents of the fleet's dm have a `conversation`.
    let ours = messages.find_one(doc! { "conversation": { "$gt": "" } }).await?;
    if ours.is_some() {
        println!("--messages: dm itself uses this collection: nothing to export");
        return Ok(());
    }
    let mut last = String::new();
    loop {
        let page = dm.messages_after(&last, PAGE).await?;
        let Some(newest) = page.last() else { return Ok(()) };
        newest.id.clone_into(&mut last);
        let rows: Vec<(ObjectId, &ExportedMessage)> = page
            .iter()
            .filter_map(|message| Some((legacy_id(message)?, message)))
            .collect();
        let present = present(messages, rows.iter().map(|(id, _)| *id)).await?;
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for (id, message) in rows {
            let is_ours = message.legacy_id().is_some();
            match present.get(&id) {
                Some(text) if *text != message.text => {
                    report.count(TABLE, "updated");
                    changed.push((id, &message.text));
                }
                Some(_) if is_ours => report.count(TABLE, "unchanged"),
                None if is_ours => {
                    report.count(TABLE, "created");
                    new.push(document(id, message));
                }
                // One of Spring's that was not changed here, or is not there any more.
                Some(_) | None => {}
            }
        }
        if dry_run {
            continue;
        }
        if !new.is_empty() {
            // A killed run may have written some of them: their ids are the same, so that the next run finds them.
            messages.insert_many(new).await?;
        }
        for (id, text) in changed {
            messages
                .update_one(doc! { "_id": id }, doc! { "$set": { "text": text } })
                .await?;
        }
    }
}

/// Returns the `_id` of a message in the legacy collection: one of Spring's has it here, too.
fn legacy_id(message: &ExportedMessage) -> Option<ObjectId> {
    let derived = message.legacy_id().map(ObjectId::from_bytes);
    derived.or_else(|| ObjectId::parse_str(&message.id).ok())
}

/// Returns the texts of those of the messages that the collection has, as an import reads them.
async fn present(
    messages: &Collection<Document>,
    ids: impl Iterator<Item = ObjectId>,
) -> anyhow::Result<HashMap<ObjectId, String>> {
    let ids: Vec<ObjectId> = ids.collect();
    let found = messages
        .find(doc! { "_id": { "$in": ids } })
        .projection(doc! { "_id": 1, "text": 1 })
        .await?;
    let found = found.map(|document| {
        let document = document?;
        let text = to_portable(document.get_str("text").unwrap_or_default());
        anyhow::Ok((document.get_object_id("_id")?, text))
    });
    found.try_collect().await
}

fn document(id: ObjectId, message: &ExportedMessage) -> Document {
    let mut room = [message.sender.as_str(), message.receiver.as_str()];
    room.sort_unstable();
    doc! {
        "_id": id,
        "messageRoomId": room.join(","),
        "date": message.date,
        "sender": &message.sender,
        "receiver": &message.receiver,
        "text": &message.text,
        ORIGIN: &message.id,
    }
}
