//! The settings schemas of our services, generated from their code and kept current by `crates/fleet/tests/schemas.rs`.

pub use crate::domain::schema::InvalidSchema;
use crate::domain::schema::Schema;

const SCHEMAS: [(&str, &str); 4] = [
    ("auth-config", include_str!("../schemas/auth.json")),
    ("dm-config", include_str!("../schemas/dm.json")),
    ("feed-config", include_str!("../schemas/feed.json")),
    ("notice-config", include_str!("../schemas/notice.json")),
];

/// Returns the schemas of all services.
pub fn all() -> Result<Vec<Schema>, InvalidSchema> {
    SCHEMAS
        .iter()
        .map(|(application, text)| Schema::parse(application, text))
        .collect()
}

#[cfg(test)]
mod tests {
    use sosohappy_common::settings::renamed::RENAMED;

    use super::*;
    use crate::domain::schema::Key;

    #[test]
    fn every_renamed_key_has_a_service_that_reads_the_new_one() {
        let schemas = all().unwrap();
        let is_known = |key: &str| {
            let is_known = |schema: &Schema| matches!(schema.key(key), Key::Value(_) | Key::Group);
            schemas.iter().any(is_known)
        };
        for renamed in RENAMED {
            assert!(is_known(renamed.new), "{}", renamed.new);
            assert!(is_known(renamed.old), "{}", renamed.old);
        }
        assert!(!is_known("sockets.drain-unknown"));
    }
}
