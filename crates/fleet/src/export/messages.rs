//! The export of messages to the collection `message`.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt as _, TryStreamExt as _};
use mongodb::Collection;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use sosohappy_dm::export::ExportedMessage;
use sosohappy_dm::import::Importer;

use crate::import::Report;
use crate::import::messages::{ORIGIN, TABLE};

/// The number of messages of one page.
const PAGE: u32 = 500;

/// Writes messages that the fleet has stored to the legacy collection, with `_id`s derived from their ids. Skips existing ones.
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
        // Imported messages have no derived id: the collection has them already.
        let ours = page.into_iter().filter_map(|message| {
            let id = ObjectId::from_bytes(message.legacy_id()?);
            Some((id, document(id, &message)))
        });
        let ours: HashMap<ObjectId, Document> = ours.collect();
        let present = present(messages, ours.keys().copied()).await?;
        let (unchanged, new): (Vec<_>, Vec<_>) = ours.into_iter().partition(|(id, _)| present.contains(id));
        for _ in &unchanged {
            report.count(TABLE, "unchanged");
        }
        for _ in &new {
            report.count(TABLE, "created");
        }
        if !new.is_empty() && !dry_run {
            // A killed run may have written some of them: their ids are the same, so that the next run finds them.
            messages
                .insert_many(new.into_iter().map(|(_, document)| document))
                .await?;
        }
    }
}

/// Returns those of the ids that the collection has.
async fn present(
    messages: &Collection<Document>,
    ids: impl Iterator<Item = ObjectId>,
) -> anyhow::Result<HashSet<ObjectId>> {
    let ids: Vec<ObjectId> = ids.collect();
    let found = messages
        .find(doc! { "_id": { "$in": ids } })
        .projection(doc! { "_id": 1 })
        .await?;
    let found = found.map(|document| anyhow::Ok(document?.get_object_id("_id")?));
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
