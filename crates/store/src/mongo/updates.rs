//! Many updates of one collection as one command.

use mongodb::bson::{Document, doc};

use super::{Database, ID_INDEX};
use crate::StoreError;
use crate::error::{Kind, of_mongodb};

/// A raw command, because the driver's bulk write needs a server of version 8.
pub(super) async fn run(database: &Database, collection: &str, updates: Vec<Document>) -> Result<(), StoreError> {
    if updates.is_empty() {
        return Ok(());
    }
    let command = doc! {
        "update": collection,
        "updates": updates,
        "ordered": false,
        "writeConcern": { "w": "majority", "j": true },
    };
    let answer = database.database().run_command(command).await?;
    failed(&answer).map_or(Ok(()), Err)
}

/// Returns the first failed write. An upsert whose document exists, or that another one has inserted at the same time, is no failure.
fn failed(answer: &Document) -> Option<StoreError> {
    let errors = answer.get_array("writeErrors").map_or(&[][..], Vec::as_slice);
    let mut first = None;
    let mut count = 0;
    for error in errors {
        let error = error.as_document();
        let code = error.and_then(|error| error.get_i32("code").ok()).unwrap_or_default();
        let message = error.and_then(|error| error.get_str("errmsg").ok()).unwrap_or_default();
        match of_mongodb(code, message) {
            Kind::Conflict(rule) if rule == ID_INDEX => {}
            kind => {
                count += 1;
                first.get_or_insert((code, kind));
            }
        }
    }
    if let Some((code, kind)) = first {
        // The server's message may quote the document.
        return Some(kind.into_error(anyhow::anyhow!(
            "{count} of the updates failed, the first with code {code}"
        )));
    }
    // Written, but on too few servers.
    answer
        .contains_key("writeConcernError")
        .then(|| StoreError::Unavailable(anyhow::anyhow!("updates were not confirmed by a majority of servers")))
}

#[cfg(test)]
mod tests {
    use mongodb::bson::Bson;

    use super::*;

    #[test]
    fn only_what_was_not_written_is_a_failure() {
        let error = |code: i32, message: &str| Bson::from(doc! { "index": 0, "code": code, "errmsg": message });
        let answer = |errors: &[&Bson]| doc! { "ok": 1.0, "writeErrors": errors.iter().map(|error| (*error).clone()).collect::<Vec<_>>() };
        let exists = error(
            11000,
            "E11000 duplicate key error collection: dm.message index: _id_ dup key: { _id: 1 }",
        );
        let other = error(
            11000,
            "E11000 duplicate key error collection: dm.message index: place dup key: { place: 1 }",
        );
        let (late, invalid) = (
            error(64, "waiting for replication timed out"),
            error(121, "Document failed validation"),
        );
        assert!(failed(&doc! { "ok": 1.0, "n": 2 }).is_none());
        assert!(failed(&answer(&[&exists])).is_none());
        assert!(matches!(
            failed(&answer(&[&exists, &late])),
            Some(StoreError::Unavailable(_))
        ));
        assert!(matches!(failed(&answer(&[&invalid])), Some(StoreError::Invalid(_))));
        assert!(matches!(failed(&answer(&[&other])), Some(StoreError::Conflict(rule)) if rule == "place"));
        assert!(matches!(
            failed(&doc! { "ok": 1.0, "writeConcernError": late }),
            Some(StoreError::Unavailable(_))
        ));
    }
}
