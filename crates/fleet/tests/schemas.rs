//! The schemas that config checks versions against are those of the services' own types. `SOSOHAPPY_UPDATE_SCHEMAS=1` writes them.

use std::path::Path;

use sosohappy_common::settings::schema;

#[test]
fn the_schemas_are_those_of_the_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services/config/schemas");
    let schemas = [
        ("auth", schema::of::<sosohappy_auth::Settings>()),
        ("dm", schema::of::<sosohappy_dm::Settings>()),
        ("feed", schema::of::<sosohappy_feed::Settings>()),
        ("notice", schema::of::<sosohappy_notice::Settings>()),
    ];
    for (service, made) in schemas {
        let file = folder.join(format!("{service}.json"));
        if std::env::var_os("SOSOHAPPY_UPDATE_SCHEMAS").is_some() {
            std::fs::write(&file, &made).unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap();
        assert_eq!(
            kept, made,
            "services/config/schemas/{service}.json is not what the code says: SOSOHAPPY_UPDATE_SCHEMAS=1 writes it anew"
        );
    }
}
