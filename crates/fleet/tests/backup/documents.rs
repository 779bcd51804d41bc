//! Copies of the databases of MongoDB, made by its driver: `mongodump` cannot be installed on the machines of the tests.

use futures::TryStreamExt as _;
use mongodb::bson::{Document, doc, serialize_to_document};
use mongodb::{Client, Collection, Database, IndexModel};
use serde_json::Value;

/// The index that every collection has.
const ID_INDEX: &str = "_id_";

/// A collection at one moment.
#[derive(Debug)]
struct Copied {
    name: String,
    documents: Vec<Document>,
    indexes: Vec<IndexModel>,
}

/// A database as it was while nothing was written to it.
#[derive(Debug)]
pub struct DatabaseCopy(Vec<Copied>);

async fn open(url: &str) -> Database {
    let client = Client::with_uri_str(url).await.expect("the URL is valid");
    client.default_database().expect("the URL names a database")
}

fn is_named(index: &IndexModel, name: &str) -> bool {
    let options = index.options.as_ref();
    options.and_then(|options| options.name.as_deref()) == Some(name)
}

impl DatabaseCopy {
    /// Reads all documents and indexes of the database.
    pub async fn of(url: &str) -> Self {
        let database = open(url).await;
        let mut copied = Vec::new();
        for name in database.list_collection_names().await.unwrap() {
            let collection: Collection<Document> = database.collection(&name);
            let documents = collection.find(doc! {}).await.unwrap();
            let indexes = collection.list_indexes().await.unwrap();
            let mut indexes: Vec<IndexModel> = indexes.try_collect().await.unwrap();
            indexes.retain(|index| !is_named(index, ID_INDEX));
            copied.push(Copied {
                documents: documents.try_collect().await.unwrap(),
                indexes,
                name,
            });
        }
        assert!(
            copied.iter().any(|copied| !copied.documents.is_empty()),
            "{url} is empty"
        );
        Self(copied)
    }

    /// Drops the database, and fills it with the copy.
    pub async fn restore(&self, url: &str) {
        let database = open(url).await;
        database.drop().await.unwrap();
        for copied in &self.0 {
            let collection: Collection<Document> = database.collection(&copied.name);
            if !copied.documents.is_empty() {
                collection.insert_many(&copied.documents).await.unwrap();
            }
            if !copied.indexes.is_empty() {
                collection.create_indexes(copied.indexes.clone()).await.unwrap();
            }
        }
    }
}

fn document(value: &Value) -> Document {
    serialize_to_document(value).expect("a JSON object is a document")
}

/// Runs a command in the form `db.getSiblingDB("dm").COLLECTION.OPERATION(ARGUMENTS)`, whose arguments are JSON. `url_of` returns the URL of
/// the database of a service.
pub async fn run(command: &str, url_of: impl Fn(&str) -> String) {
    let parsed = || {
        let (service, rest) = command.trim().strip_prefix("db.getSiblingDB(\"")?.split_once("\").")?;
        let (collection, rest) = rest.split_once('.')?;
        let (operation, arguments) = rest.strip_suffix(')')?.split_once('(')?;
        let arguments: Vec<Value> = serde_json::from_str(&format!("[{arguments}]")).ok()?;
        Some((service, collection, operation, arguments))
    };
    let (service, collection, operation, arguments) =
        parsed().unwrap_or_else(|| panic!("a command of another form: {command}"));
    let database = open(&url_of(service)).await;
    let collection: Collection<Document> = database.collection(collection);
    match (operation, arguments.as_slice()) {
        ("aggregate", [Value::Array(stages)]) => {
            let stages: Vec<Document> = stages.iter().map(document).collect();
            collection.aggregate(stages).await.unwrap();
        }
        ("updateMany", [condition, update]) => {
            let update = document(update);
            collection.update_many(document(condition), update).await.unwrap();
        }
        _ => panic!("an unknown command: {command}"),
    }
}
