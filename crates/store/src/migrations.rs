//! One history of migrations per database, in the table `_sqlx_migrations`: the shared ones (versions from 1) and the service's own (from
//! 1000).

use sqlx::migrate::Migrator;

use crate::StoreError;

/// The first version of a service's own migrations.
pub const FIRST_OF_SERVICE: i64 = 1000;

/// Returns the shared migrations, then the service's. Ignores migrations that a newer replica has applied, so that an older one can start
/// beside it. Callers lock: sqlx has no lock for `SQLite`, and `MariaDB` does not accept the way it waits for that of `MySQL`.
pub(crate) fn together(shared: &Migrator, service: &Migrator) -> Result<Migrator, StoreError> {
    if let Some(migration) = service.iter().find(|migration| migration.version < FIRST_OF_SERVICE) {
        let version = migration.version;
        return Err(StoreError::corrupt(format!(
            "migration {version} of the service is below {FIRST_OF_SERVICE}"
        )));
    }
    let mut all = Migrator::with_migrations(shared.iter().chain(service.iter()).cloned().collect());
    all.set_ignore_missing(true).set_locking(false);
    Ok(all)
}
