//! The export of messages to the collection `message`.

use mongodb::Collection;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
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
        for message in page {
            // Imported messages have no derived id: the collection has them already.
            let Some(id) = message.legacy_id() else { continue };
            let id = ObjectId::from_bytes(id);
            if messages.find_one(doc! { "_id": id }).await?.is_some() {
                report.count(TABLE, "unchanged");
                continue;
            }
            report.count(TABLE, "created");
            if dry_run {
                continue;
            }
            let mut room = [message.sender.as_str(), message.receiver.as_str()];
            room.sort_unstable();
            let document = doc! {
                "messageRoomId": room.join(","),
                "date": message.date,
                "sender": &message.sender,
                "receiver": &message.receiver,
                "text": &message.text,
                ORIGIN: &message.id,
            };
            messages
                .update_one(doc! { "_id": id }, doc! { "$setOnInsert": document })
                .upsert(true)
                .await?;
        }
    }
}
