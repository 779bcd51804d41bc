//! The settings our services take: made from their code by `crates/fleet/tests/schemas.rs`, which also sees that they stay so.

pub use crate::domain::schema::NotASchema;
use crate::domain::schema::Schema;

const SCHEMAS: [(&str, &str); 4] = [
    ("auth-config", include_str!("../schemas/auth.json")),
    ("dm-config", include_str!("../schemas/dm.json")),
    ("feed-config", include_str!("../schemas/feed.json")),
    ("notice-config", include_str!("../schemas/notice.json")),
];

pub fn all() -> Result<Vec<Schema>, NotASchema> {
    SCHEMAS
        .iter()
        .map(|(application, text)| Schema::parse(application, text))
        .collect()
}
