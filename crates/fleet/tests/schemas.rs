//! Checks that the schemas with which config validates versions match the services' types. `SOSOHAPPY_UPDATE_SCHEMAS=1` writes them.

use std::path::Path;

use sosohappy_common::settings::schema;

#[test]
fn the_schemas_match_the_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services/config/schemas");
    let schemas = [
        ("auth", schema::of::<sosohappy_auth::Settings>()),
        ("dm", schema::of::<sosohappy_dm::Settings>()),
        ("feed", schema::of::<sosohappy_feed::Settings>()),
        ("notice", schema::of::<sosohappy_notice::Settings>()),
    ];
    for (service, generated) in schemas {
        let file = folder.join(format!("{service}.json"));
        if std::env::var_os("SOSOHAPPY_UPDATE_SCHEMAS").is_some() {
            std::fs::write(&file, &generated).unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap();
        assert_eq!(
            kept, generated,
            "services/config/schemas/{service}.json differs from the code: SOSOHAPPY_UPDATE_SCHEMAS=1 regenerates it"
        );
    }
}
