//! Repositories inside a repository: the files of a submodule are read as if they were part of the one around it, at the commit that it names.
//!
//! Each has a bare clone of its own beside the first one, and is fetched only when the commit that is named is not there.

use std::sync::atomic::AtomicBool;

use sha2::{Digest as _, Sha256};

use super::git::{Git, GitError, Heads};

/// Submodules of submodules.
const MAX_DEPTH: usize = 4;
/// Submodules of one repository.
const MAX_SUBMODULES: usize = 32;
/// Branches and tags whose submodules are fetched, besides the default one.
const MAX_LABELS: usize = 256;

/// A submodule as one commit has it.
pub(super) struct Submodule {
    /// Inside the repository around it.
    pub path: String,
    pub commit: String,
    pub git: Git,
}

impl Git {
    /// Fetches what the submodules of all branches and tags lack. Only those of the default branch are waited for: one that is unavailable
    /// there keeps the new commit from being served.
    pub(super) fn fetch_submodules(&self, heads: &Heads, interrupt: &AtomicBool) -> Result<(), GitError> {
        let default = heads.default.as_ref().and_then(|default| heads.labels.get(default));
        let others = heads
            .labels
            .values()
            .filter(|commit| Some(*commit) != default)
            .take(MAX_LABELS);
        for commit in others {
            if let Err(error) = self.fetch_submodules_of(commit, 0, interrupt) {
                tracing::warn!(commit, %error, "fetching submodules failed");
            }
        }
        default.map_or(Ok(()), |commit| self.fetch_submodules_of(commit, 0, interrupt))
    }

    fn fetch_submodules_of(&self, commit: &str, depth: usize, interrupt: &AtomicBool) -> Result<(), GitError> {
        let submodules = {
            let repository = self.open(self.folder())?;
            let tree = self.tree(&repository, commit)?;
            self.submodules_of(&repository, &tree, depth)?
        };
        for Submodule { path, commit, git } in submodules {
            let of_submodule = |error: GitError| GitError::Away(format!("submodule {path}: {error}"));
            if !git.has(&commit) {
                git.fetch_own(interrupt).map_err(of_submodule)?;
            }
            git.fetch_submodules_of(&commit, depth + 1, interrupt)
                .map_err(of_submodule)?;
        }
        Ok(())
    }

    /// Those that a tree links to and `.gitmodules` has an address for, unless they are to be left out.
    pub(super) fn submodules_of(
        &self,
        repository: &gix::Repository,
        tree: &gix::Tree<'_>,
        depth: usize,
    ) -> Result<Vec<Submodule>, GitError> {
        if !self.reads_submodules() || depth > MAX_DEPTH {
            return Ok(Vec::new());
        }
        let damaged = |error: String| GitError::Damaged(error);
        let entry = tree.find_entry(".gitmodules");
        let Some(entry) = entry.filter(|entry| entry.mode().is_blob()) else {
            return Ok(Vec::new());
        };
        let blob = repository
            .find_blob(entry.object_id())
            .map_err(|error| damaged(error.to_string()))?;
        let text = std::str::from_utf8(&blob.data).map_err(|_| GitError::Url(".gitmodules is not UTF-8".to_owned()))?;
        let file = gix::config::File::try_from(text)
            .map_err(|_| GitError::Url(".gitmodules is no file of git's configuration".to_owned()))?;
        let mut submodules = Vec::new();
        for section in file
            .sections_by_name("submodule")
            .into_iter()
            .flatten()
            .take(MAX_SUBMODULES)
        {
            let value = |name: &str| section.value(name).map(|value| value.to_string());
            let (Some(path), Some(url)) = (value("path"), value("url")) else {
                continue;
            };
            let is_hidden = path.split('/').any(|part| part.is_empty() || part.starts_with('.'));
            let linked = tree
                .lookup_entry_by_path(&path)
                .map_err(|error| damaged(error.to_string()))?;
            let Some(linked) = linked.filter(|linked| linked.mode().is_commit() && !is_hidden) else {
                continue;
            };
            submodules.push(Submodule {
                commit: linked.object_id().to_string(),
                git: self.submodule(&url)?,
                path,
            });
        }
        Ok(submodules)
    }

    /// The credentials of this repository are for its own host only, and a repository elsewhere has no say in the files of this machine.
    fn submodule(&self, url: &str) -> Result<Git, GitError> {
        let absolute = if url.starts_with("./") || url.starts_with("../") {
            relative(&self.shown(), url)
        } else {
            url.to_owned()
        };
        let name = hex::encode(&Sha256::digest(&absolute)[..16]);
        let clone = self.folder().with_file_name("submodules").join(name);
        std::fs::create_dir_all(clone.parent().unwrap_or(&clone))
            .map_err(|error| GitError::Damaged(error.to_string()))?;
        self.beside(&clone, &absolute)
    }
}

/// As git resolves it: against the address of the repository, with `..` for what is around it.
fn relative(base: &str, url: &str) -> String {
    let mut base = base.trim_end_matches('/');
    let mut url = url;
    loop {
        if let Some(rest) = url.strip_prefix("./") {
            url = rest;
        } else if let Some(rest) = url.strip_prefix("../") {
            base = base.rfind(['/', ':']).map_or(base, |at| &base[..at]);
            url = rest;
        } else {
            return format!("{base}/{url}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_relative_to_the_repository() {
        for (base, url, expected) in [
            (
                "https://git.example.com/team/config.git",
                "../private.git",
                "https://git.example.com/team/private.git",
            ),
            (
                "https://git.example.com/team/config.git/",
                "../../x/y",
                "https://git.example.com/x/y",
            ),
            ("/srv/bare", "../private", "/srv/private"),
            ("/srv/bare", "./inside", "/srv/bare/inside"),
        ] {
            assert_eq!(relative(base, url), expected);
        }
    }
}
