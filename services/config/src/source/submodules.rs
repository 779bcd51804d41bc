//! Git submodules: their files are read at their paths, at the commit that the superproject names.
//!
//! Each submodule has a bare clone beside the superproject's, and is fetched only when the named commit is missing there.

use std::sync::atomic::AtomicBool;

use sha2::{Digest as _, Sha256};

use super::git::{Git, GitError, Heads};

/// Submodules of submodules.
const MAX_DEPTH: usize = 4;
/// Submodules of one repository.
const MAX_SUBMODULES: usize = 32;
/// Branches and tags whose submodules are fetched, besides the default one.
const MAX_LABELS: usize = 256;

/// A submodule at one commit of the superproject.
pub(super) struct Submodule {
    /// Inside the superproject.
    pub path: String,
    pub commit: String,
    pub git: Git,
}

impl Git {
    /// Fetches missing commits of the submodules of all branches and tags. A failure on the default branch is returned, and keeps its new commit
    /// from being served; failures on other branches are logged.
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
            let of_submodule = |error: GitError| GitError::Unavailable(format!("submodule {path}: {error}"));
            if !git.has(&commit) {
                git.fetch_own(interrupt).map_err(of_submodule)?;
            }
            git.fetch_submodules_of(&commit, depth + 1, interrupt)
                .map_err(of_submodule)?;
        }
        Ok(())
    }

    /// Returns the submodules that a tree links to and `.gitmodules` has a URL for; none with `source.submodules = false`.
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
            .map_err(|_| GitError::Url(".gitmodules is not a git configuration file".to_owned()))?;
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

    /// Returns a submodule's clone. Credentials are shared with the same host only, and a remote superproject may not name local repositories:
    /// see [`Git::beside`].
    fn submodule(&self, url: &str) -> Result<Git, GitError> {
        let absolute = if url.starts_with("./") || url.starts_with("../") {
            relative(&self.public_url(), url)
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

/// Resolves a relative URL as git does: against the URL of the superproject, `..` removing its last part.
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
    fn relative_urls_resolve_against_the_superproject() {
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
