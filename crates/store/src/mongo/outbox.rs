//! Events in a field of the document whose change caused them, until they are published.

use std::time::Duration;

use crate::outbox::{Batch, Outbox, Pending, Quarantined};
use anyhow::{Context as _, anyhow, bail};
use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::IndexModel;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use mongodb::options::IndexOptions;
use sosohappy_events::{Header, Outgoing};
use tokio::sync::OnceCell;

use super::Database;
use crate::StoreError;
use crate::time::elapsed;

/// The field of a document that holds an event until it is published.
pub const OUTBOX: &str = "outbox";

/// The field of a document that holds an event which could not be decoded: `event`, `reason`, `quarantined_at`.
const QUARANTINE: &str = "outbox_quarantine";

/// The relay's lease.
const LEASE: &str = "event-outbox";

/// Inside [`OUTBOX`], always true: the partial index is on this field and `_id`, so that the oldest unpublished documents are found in
/// order however many published ones there are.
const PENDING: &str = "outbox.pending";

/// Inside [`OUTBOX`], an `ObjectId` that no other event has; documents of an older release have none.
const ENTRY: &str = "outbox.entry";

/// Between the collection, the entry and the `_id` in [`Pending::row`]; neither of the first two has it.
const SEPARATOR: char = '\u{1f}';

/// The value of an [`OUTBOX`] field.
#[must_use]
pub fn outbox_field(record: &Outgoing) -> Bson {
    let headers: Vec<Document> = record
        .headers
        .iter()
        .map(|(name, value)| doc! { "name": name, "value": value })
        .collect();
    let value = record.value.clone().map(|bytes| Binary {
        subtype: BinarySubtype::Generic,
        bytes,
    });
    Bson::Document(doc! {
        "pending": true,
        "entry": ObjectId::new(),
        "topic": &record.topic,
        "key": record.key.clone(),
        "value": value,
        "headers": headers,
    })
}

#[derive(Debug)]
pub(super) struct MongoOutbox {
    database: Database,
    collections: Vec<String>,
    indexed: OnceCell<()>,
}

impl MongoOutbox {
    pub(super) fn new(database: Database, collections: &[&str]) -> Self {
        let collections = collections.iter().map(|&name| name.to_owned()).collect();
        Self {
            database,
            collections,
            indexed: OnceCell::new(),
        }
    }

    async fn make_indexes(&self) -> Result<(), StoreError> {
        for name in &self.collections {
            let options = IndexOptions::builder()
                .name("outbox_pending".to_owned())
                .partial_filter_expression(doc! { PENDING: true })
                .build();
            let index = IndexModel::builder()
                .keys(doc! { PENDING: 1, "_id": 1 })
                .options(options)
                .build();
            self.database.collection(name).create_index(index).await?;
        }
        Ok(())
    }

    async fn documents(&self, collection: &str, limit: usize) -> Result<Vec<Document>, StoreError> {
        let found = self
            .database
            .collection(collection)
            .find(doc! { PENDING: true })
            .sort(doc! { "_id": 1 })
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .projection(doc! { OUTBOX: 1 })
            .await?;
        Ok(found.try_collect().await?)
    }

    /// Reads the oldest events of a collection, with the `_id`s of their documents, and quarantines unreadable ones between them.
    async fn read(
        &self,
        collection: &str,
        limit: usize,
    ) -> Result<(Vec<(String, Pending)>, Vec<Quarantined>), StoreError> {
        let now = self.database.now();
        let mut quarantined = Vec::new();
        // Repeats until all are readable: otherwise later events of another collection would overtake those of this one.
        loop {
            let (mut readable, before) = (Vec::new(), quarantined.len());
            for document in self.documents(collection, limit).await? {
                match pending(collection, &document, now) {
                    Ok(pending) => readable.push(pending),
                    Err(reason) => {
                        let reason = format!("{reason:#}");
                        self.quarantine(collection, &document, &reason).await?;
                        quarantined.push(Quarantined {
                            row: collection.to_owned(),
                            reason,
                        });
                    }
                }
            }
            if quarantined.len() == before {
                return Ok((readable, quarantined));
            }
        }
    }

    /// Moves the outbox field of a document to [`QUARANTINE`], unchanged.
    async fn quarantine(&self, collection: &str, document: &Document, reason: &str) -> Result<(), StoreError> {
        let id = document.get("_id").cloned().unwrap_or(Bson::Null);
        let moved = vec![
            doc! { "$set": { QUARANTINE: {
                "event": format!("${OUTBOX}"),
                "reason": { "$literal": reason },
                "quarantined_at": { "$toLong": "$$NOW" },
            } } },
            doc! { "$unset": OUTBOX },
        ];
        self.database
            .collection(collection)
            .update_one(doc! { "_id": id }, moved)
            .await?;
        Ok(())
    }
}

#[async_trait]
impl Outbox for MongoOutbox {
    async fn lease(&self, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.database.lease(LEASE, holder, ttl).await
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.database.release_lease(LEASE, holder).await
    }

    async fn leader(&self) -> Result<Option<String>, StoreError> {
        self.database.lease_holder(LEASE).await
    }

    async fn pending(&self, limit: usize) -> Result<Batch, StoreError> {
        self.indexed.get_or_try_init(|| self.make_indexes()).await?;
        // Side by side, because each record waits for it.
        let reads = self.collections.iter().map(|collection| self.read(collection, limit));
        let (mut all, mut quarantined) = (Vec::new(), Vec::new());
        for read in futures::future::try_join_all(reads).await? {
            all.extend(read.0);
            quarantined.extend(read.1);
        }
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all.truncate(limit);
        Ok(Batch {
            pending: all.into_iter().map(|(_, pending)| pending).collect(),
            quarantined,
        })
    }

    /// Removes only the events that were published. If this relay paused longer than its lease, another relay may have published and removed
    /// the same event, and the document may hold a newer one.
    async fn published(&self, rows: &[String]) -> Result<(), StoreError> {
        for collection in &self.collections {
            let rows = rows.iter().filter_map(|row| Row::parse(row));
            let rows: Vec<Row<'_>> = rows.filter(|row| row.collection == collection).collect();
            if rows.is_empty() {
                continue;
            }
            let ids: Vec<Bson> = rows.iter().map(|row| id_of(row.id)).collect();
            // Null is what a document without an entry has.
            let entries: Vec<Option<ObjectId>> = rows.iter().map(|row| ObjectId::parse_str(row.entry).ok()).collect();
            self.database
                .collection(collection)
                .update_many(
                    doc! { "_id": { "$in": ids }, ENTRY: { "$in": entries } },
                    doc! { "$unset": { OUTBOX: "" } },
                )
                .await
                .map_err(StoreError::from)?;
        }
        Ok(())
    }
}

/// What [`Pending::row`] names.
struct Row<'a> {
    collection: &'a str,
    entry: &'a str,
    id: &'a str,
}

impl<'a> Row<'a> {
    fn parse(row: &'a str) -> Option<Self> {
        let (collection, rest) = row.split_once(SEPARATOR)?;
        let (entry, id) = rest.split_once(SEPARATOR)?;
        Some(Self { collection, entry, id })
    }
}

/// In [`Pending::row`] an `ObjectId` has a separator before its hex digits.
fn id_of(row: &str) -> Bson {
    let object_id = row
        .strip_prefix(SEPARATOR)
        .and_then(|hex| ObjectId::parse_str(hex).ok());
    object_id.map_or_else(|| Bson::String(row.to_owned()), Bson::ObjectId)
}

fn pending(collection: &str, document: &Document, now: Timestamp) -> anyhow::Result<(String, Pending)> {
    let id = match document.get("_id") {
        Some(Bson::String(id)) => id.clone(),
        Some(Bson::ObjectId(id)) => format!("{SEPARATOR}{}", id.to_hex()),
        _ => bail!("a document of {collection} has neither a string nor an ObjectId as its _id"),
    };
    let record = record(document)?;
    let entry = document
        .get_document(OUTBOX)
        .and_then(|field| field.get_object_id("entry"));
    let entry = entry.map(ObjectId::to_hex).unwrap_or_default();
    let age = written_at(&record).map_or(Duration::ZERO, |written| elapsed(written, now));
    Ok((
        id.trim_start_matches(SEPARATOR).to_owned(),
        Pending {
            row: format!("{collection}{SEPARATOR}{entry}{SEPARATOR}{id}"),
            record,
            age,
        },
    ))
}

fn record(document: &Document) -> anyhow::Result<Outgoing> {
    let field = document
        .get_document(OUTBOX)
        .map_err(|_| anyhow!("the field is no document"))?;
    let key = match field.get("key") {
        Some(Bson::String(key)) => Some(key.clone()),
        Some(Bson::Null) | None => None,
        Some(_) => bail!("the key is no string"),
    };
    let value = match field.get("value") {
        Some(Bson::Binary(value)) => Some(value.bytes.clone()),
        Some(Bson::Null) | None => None,
        Some(_) => bail!("the value is not binary"),
    };
    let headers = field.get_array("headers")?.iter().map(|header| {
        let header = header.as_document().context("a header is no document")?;
        Ok((header.get_str("name")?.to_owned(), header.get_str("value")?.to_owned()))
    });
    let headers = headers.collect::<anyhow::Result<_>>()?;
    Ok(Outgoing {
        topic: field.get_str("topic")?.to_owned(),
        key,
        value,
        headers,
    })
}

/// Returns milliseconds since the epoch: a document is written when its event occurs.
fn written_at(record: &Outgoing) -> Option<i64> {
    let (_, text) = record.headers.iter().find(|(name, _)| name == Header::OCCURRED_AT)?;
    text.parse().ok()
}
