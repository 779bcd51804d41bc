//! The credentials of the launcher's services: from the environment, else generated once and stored in the data folder.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use sosohappy_common::clock::{Entropy, SystemEntropy};

/// The credential of services, and the credential of operators.
#[derive(Clone)]
pub struct Secrets {
    pub service_token: String,
    pub operator_token: String,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Secrets {
    /// Returns the operator token as [`Secrets::find`] does, and generates none; `None` where there is none.
    #[must_use]
    pub fn operator_token(data: &Path) -> Option<String> {
        let given = std::env::var("SOSOHAPPY_OPERATOR_TOKEN").ok();
        let kept = || std::fs::read_to_string(data.join("operator-token")).ok();
        let token = given.filter(|token| !token.is_empty()).or_else(kept)?;
        Some(token.trim().to_owned()).filter(|token| !token.is_empty())
    }

    /// Reads `SOSOHAPPY_SERVICE_TOKEN` and `SOSOHAPPY_OPERATOR_TOKEN`, else the files `service-token` and `operator-token` of the data
    /// folder (mode 0600), which it generates if they are missing.
    pub fn find(data: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            service_token: find("SOSOHAPPY_SERVICE_TOKEN", &data.join("service-token"))?,
            operator_token: find("SOSOHAPPY_OPERATOR_TOKEN", &data.join("operator-token"))?,
        })
    }
}

fn find(variable: &str, file: &Path) -> anyhow::Result<String> {
    if let Ok(given) = std::env::var(variable)
        && !given.is_empty()
    {
        return Ok(given);
    }
    let context = || format!("{}", file.display());
    if let Some(kept) = kept(file).with_context(context)? {
        return Ok(kept);
    }
    // Of processes that begin at the same time the first one makes it. The lock ends with the handle.
    let folder = File::open(file.parent().unwrap_or(Path::new("."))).with_context(context)?;
    folder.lock().with_context(context)?;
    if let Some(kept) = kept(file).with_context(context)? {
        return Ok(kept);
    }
    let entropy: &dyn Entropy = &SystemEntropy;
    let secret = entropy.hex(32);
    // Writes a temporary file and renames it: after a crash the file is either missing or complete.
    let temporary = file.with_extension("new");
    let mut open = std::fs::OpenOptions::new();
    let mut writer = open
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(context)?;
    writer
        .write_all(secret.as_bytes())
        .and_then(|()| writer.sync_all())
        .with_context(context)?;
    std::fs::rename(&temporary, file).with_context(context)?;
    Ok(secret)
}

fn kept(file: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(kept) => Ok(Some(kept.trim().to_owned()).filter(|kept| !kept.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_generated_secret_is_stored_and_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("service-token");
        let secret = find("SOSOHAPPY_NOT_SET", &file).unwrap();
        assert_eq!(secret.len(), 64);
        assert_eq!(find("SOSOHAPPY_NOT_SET", &file).unwrap(), secret);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn processes_that_begin_at_the_same_time_have_the_same_secret() {
        for _ in 0..50 {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("service-token");
            let found: Vec<_> = std::thread::scope(|scope| {
                let find = || scope.spawn(|| find("SOSOHAPPY_NOT_SET", &file).unwrap());
                let all: [_; 4] = std::array::from_fn(|_| find());
                all.into_iter().map(|one| one.join().unwrap()).collect()
            });
            assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
        }
    }
}
