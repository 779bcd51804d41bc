//! Deletes expired documents.

use mongodb::bson::doc;
use sosohappy_common::Context;

use super::{Database, directory, lease};
use crate::StoreError;
use crate::sweeper::{self, LEASE, LEASE_TTL, Limits};

pub(super) fn spawn(database: &Database, context: &Context) {
    let database = database.clone();
    sweeper::spawn(context, move || {
        let database = database.clone();
        async move {
            let ours = database.lease(LEASE, database.instance(), LEASE_TTL).await?;
            if ours { database.sweep().await } else { Ok(()) }
        }
    });
}

pub(super) async fn sweep(database: &Database) -> Result<(), StoreError> {
    let limits = Limits::at(database.server_time().await?);
    // A failure of one collection must not stop the sweep of the others.
    let swept = [
        sweep_presence(database, limits.presence).await,
        directory::sweep(database, limits.tombstones).await,
        lease::sweep(database, limits.leases).await,
    ];
    swept.into_iter().collect()
}

/// Documents of earlier releases, which kept here whose sockets a replica had.
async fn sweep_presence(database: &Database, before: i64) -> Result<(), StoreError> {
    database
        .collection("presence")
        .delete_many(doc! { "held_until": { "$lt": before } })
        .await?;
    Ok(())
}
