//! Tests of features that only `MongoDB` has.

use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use sosohappy_store::StoreError;

use crate::bed::{Bed, Engine, Store, account, at, run};

#[tokio::test]
async fn errors_say_what_happened() {
    run(Engine::Mongodb, async |bed: Arc<Bed>| {
        let Store::Mongodb(database) = bed.replica().await else {
            unreachable!("opened by its bed")
        };
        let directory = database.directory();
        directory
            .set_nickname(&account("kim"), Some("kim"), at(5))
            .await
            .unwrap();
        let accounts = database.database().collection::<Document>("directory");
        let broken = doc! { "$unset": { "account": "" } };
        accounts.update_one(doc! { "nickname": "kim" }, broken).await.unwrap();
        let unreadable = directory.account_of("kim").await;
        assert!(matches!(unreadable, Err(StoreError::Corrupt(_))), "{unreadable:?}");

        let wrong = database.database().run_command(doc! { "noSuchCommand": 1 }).await;
        let wrong = wrong.map_err(StoreError::from);
        assert!(matches!(wrong, Err(StoreError::Corrupt(_))), "{wrong:?}");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable() {
    let options = mongodb::options::ClientOptions::parse("mongodb://127.0.0.1:1/x?directConnection=true");
    let mut options = options.await.unwrap();
    options.server_selection_timeout = Some(Duration::from_millis(100));
    let client = mongodb::Client::with_options(options).unwrap();
    let lost = client.database("x").run_command(doc! { "ping": 1 }).await;
    let lost = lost.map_err(StoreError::from);
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
}
