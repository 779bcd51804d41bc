//! One history per database: what every service keeps (versions from 1) and what the service keeps itself (from
//! 1000), in the table `_sqlx_migrations`.

use sqlx::migrate::Migrator;

use crate::StoreError;

/// The first version of a service's own migrations.
pub const FIRST_OF_SERVICE: i64 = 1000;

/// The shared migrations, then the service's. What a newer replica has already applied is passed over, so that an
/// older one can still start beside it. Locking is the caller's: sqlx has none for `SQLite`, and its wait for
/// `MySQL`'s is not understood by `MariaDB`.
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
