//! Builders of indexes.

use mongodb::IndexModel;
use mongodb::bson::Document;
use mongodb::options::IndexOptions;

pub(super) fn index(name: &str, keys: Document) -> IndexModel {
    let options = IndexOptions::builder().name(name.to_owned()).build();
    IndexModel::builder().keys(keys).options(options).build()
}

/// Of the documents that have the field.
pub(super) fn sparse(name: &str, keys: Document) -> IndexModel {
    let mut index = index(name, keys);
    index.options.get_or_insert_default().sparse = Some(true);
    index
}

/// Of the documents that have the field: each has another value.
pub(super) fn unique(name: &str, keys: Document) -> IndexModel {
    let mut index = sparse(name, keys);
    index.options.get_or_insert_default().unique = Some(true);
    index
}

/// Of the documents that fulfil the condition.
pub(super) fn partial(name: &str, keys: Document, condition: Document) -> IndexModel {
    let mut index = index(name, keys);
    index.options.get_or_insert_default().partial_filter_expression = Some(condition);
    index
}
