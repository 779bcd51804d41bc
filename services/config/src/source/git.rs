//! A git repository as a source: a bare clone on disk, fetched into, and read without a network.
//!
//! https uses rustls; ssh and local paths use the programs `ssh` and `git-upload-pack`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use gix::protocol::handshake::Ref;
use gix::remote::Direction;
use gix::sec::identity::Account;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::domain::snapshot::Contents;
use crate::source::MAX_BYTES;

/// The branches and tags at the last fetch, in a file beside git's own references.
const HEADS: &str = "fetched-heads.json";
const REFSPECS: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("source.url: {0}")]
    Url(String),
    /// The repository cannot be reached or refuses the credentials.
    #[error("repository unavailable: {0}")]
    Unavailable(String),
    /// The clone on disk is corrupt.
    #[error("clone corrupt: {0}")]
    Damaged(String),
    #[error("the repository has more than {MAX_BYTES} bytes at this commit")]
    TooLarge,
}

/// Branches and tags with their commits, and the default branch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    pub labels: BTreeMap<String, String>,
    pub default: Option<String>,
}

/// Author and subject of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub author: String,
    pub subject: String,
}

#[derive(Debug, Clone)]
pub struct Git {
    clone: PathBuf,
    /// Without credentials.
    remote: gix::Url,
    account: Option<(String, SecretString)>,
    ssh_command: String,
    /// Whether files of submodules are included.
    submodules: bool,
}

impl Git {
    /// Accepts `https://…`, `ssh://…`, `user@host:path`, `file:///…` or a path as `url`. Credentials are removed from it.
    pub fn new(
        clone: &Path,
        url: &str,
        account: Option<(String, SecretString)>,
        ssh_command: &str,
    ) -> Result<Self, GitError> {
        sosohappy_common::tls::install_provider();
        let mut remote = gix::url::parse(url).map_err(|_| GitError::Url("not the URL of a repository".to_owned()))?;
        let http = matches!(remote.scheme, gix::url::Scheme::Https | gix::url::Scheme::Http);
        let password = remote.set_password(None);
        let account = match (account, password) {
            (Some(account), _) => Some(account),
            (None, Some(password)) => {
                let user = remote.user().unwrap_or("git").to_owned();
                Some((user, password.into()))
            }
            (None, None) => None,
        };
        if http {
            remote.set_user(None);
        }
        Ok(Self {
            clone: clone.to_owned(),
            remote,
            account,
            ssh_command: ssh_command.to_owned(),
            submodules: false,
        })
    }

    /// Includes the files of submodules, at their paths.
    #[must_use]
    pub fn with_submodules(mut self, submodules: bool) -> Self {
        self.submodules = submodules;
        self
    }

    /// Returns the URL without credentials.
    #[must_use]
    pub fn public_url(&self) -> String {
        self.remote.to_string()
    }

    /// Returns the path of the clone.
    pub(super) fn folder(&self) -> &Path {
        &self.clone
    }

    pub(super) fn reads_submodules(&self) -> bool {
        self.submodules
    }

    /// Returns a repository that this one names as a submodule.
    ///
    /// A URL in `.gitmodules` is not trusted: credentials are shared with the same scheme, host and port only, and a repository elsewhere may
    /// not name one on this machine.
    pub(super) fn beside(&self, clone: &Path, url: &str) -> Result<Self, GitError> {
        let mut git = Self::new(clone, url, None, &self.ssh_command)?.with_submodules(self.submodules);
        let is_local = |url: &gix::Url| url.scheme == gix::url::Scheme::File;
        if is_local(&git.remote) && !is_local(&self.remote) {
            return Err(GitError::Url(
                "a submodule on this machine is allowed for a repository on this machine only".to_owned(),
            ));
        }
        if git.account.is_none() && is_same_host(&git.remote, &self.remote) {
            git.account.clone_from(&self.account);
        }
        Ok(git)
    }

    /// Fetches into the clone, or clones again when it is missing or corrupt. Blocks.
    pub fn fetch(&self, interrupt: &AtomicBool) -> Result<Heads, GitError> {
        let heads = self.fetch_own(interrupt)?;
        if self.submodules {
            self.fetch_submodules(&heads, interrupt)?;
        }
        Ok(heads)
    }

    pub(super) fn fetch_own(&self, interrupt: &AtomicBool) -> Result<Heads, GitError> {
        let present = self.clone.exists();
        let fetched = match self.open(&self.clone) {
            Ok(repository) => self.fetch_into(&repository, &self.clone, interrupt),
            Err(error) => Err(error),
        };
        match fetched {
            Err(GitError::Damaged(reason)) => {
                if present {
                    tracing::warn!(reason, "cloning repository again");
                }
                self.clone_anew(interrupt)
            }
            fetched => fetched,
        }
    }

    /// Clones beside the present clone, then replaces it.
    pub fn clone_anew(&self, interrupt: &AtomicBool) -> Result<Heads, GitError> {
        let (fresh, old) = (self.clone.with_extension("new"), self.clone.with_extension("old"));
        let damaged = |error: std::io::Error| GitError::Damaged(error.to_string());
        for folder in [&fresh, &old] {
            remove(folder).map_err(damaged)?;
        }
        std::fs::create_dir_all(&fresh).map_err(damaged)?;
        let repository = gix::ThreadSafeRepository::init_opts(
            &fresh,
            gix::create::Kind::Bare,
            gix::create::Options::default(),
            self.options(),
        );
        let repository = repository.map_err(|error| self.damaged(&error))?.to_thread_local();
        let heads = self.fetch_into(&repository, &fresh, interrupt)?;
        drop(repository);
        if self.clone.exists() {
            std::fs::rename(&self.clone, &old).map_err(damaged)?;
        }
        std::fs::rename(&fresh, &self.clone).map_err(damaged)?;
        remove(&old).map_err(damaged)?;
        Ok(heads)
    }

    /// Returns the branches and tags at the last fetch; none before the first one.
    pub fn heads(&self) -> Result<Option<Heads>, GitError> {
        match std::fs::read(self.clone.join(HEADS)) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| GitError::Damaged(error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(GitError::Damaged(error.to_string())),
        }
    }

    /// Reads every file at a commit, submodules included, without hidden files and links. Touches no network.
    pub fn read(&self, commit: &str) -> Result<Contents, GitError> {
        let mut contents = Contents::new();
        self.read_into(commit, "", 0, &mut contents, &mut 0)?;
        Ok(contents)
    }

    fn read_into(
        &self,
        commit: &str,
        folder: &str,
        depth: usize,
        contents: &mut Contents,
        total: &mut u64,
    ) -> Result<(), GitError> {
        let repository = self.open(&self.clone)?;
        let damaged = |error: gix::Error| self.damaged(&error);
        let tree = self.tree(&repository, commit)?;
        for submodule in self.submodules_of(&repository, &tree, depth)? {
            if !submodule.git.has(&submodule.commit) {
                let reason = format!("submodule {}: commit not fetched yet", submodule.path);
                return Err(GitError::Unavailable(reason));
            }
            let folder = format!("{folder}{}/", submodule.path);
            submodule
                .git
                .read_into(&submodule.commit, &folder, depth + 1, contents, total)?;
        }
        let mut waiting = vec![(tree, folder.to_owned())];
        while let Some((tree, prefix)) = waiting.pop() {
            for entry in tree.iter() {
                let entry = entry.map_err(damaged)?;
                let Ok(name) = std::str::from_utf8(entry.filename()) else {
                    continue;
                };
                if name.starts_with('.') {
                    continue;
                }
                let path = format!("{prefix}{name}");
                let mode = entry.mode();
                if mode.is_tree() {
                    let tree = repository.find_tree(entry.object_id()).map_err(damaged)?;
                    waiting.push((tree, format!("{path}/")));
                } else if mode.is_blob() {
                    let mut blob = repository.find_blob(entry.object_id()).map_err(damaged)?;
                    *total += blob.data.len() as u64;
                    if *total > MAX_BYTES {
                        return Err(GitError::TooLarge);
                    }
                    contents.insert(path, Bytes::from(blob.take_data()));
                }
            }
        }
        Ok(())
    }

    pub(super) fn tree<'repo>(
        &self,
        repository: &'repo gix::Repository,
        commit: &str,
    ) -> Result<gix::Tree<'repo>, GitError> {
        let id = gix::ObjectId::from_hex(commit.as_bytes()).map_err(|error| GitError::Damaged(error.to_string()))?;
        let object = repository.find_object(id).map_err(|error| self.damaged(&error))?;
        object
            .peel_to_tree()
            .map_err(|error| GitError::Damaged(self.redact(&error.to_string())))
    }

    pub(super) fn has(&self, commit: &str) -> bool {
        let id = gix::ObjectId::from_hex(commit.as_bytes());
        let repository = self.open(&self.clone);
        matches!((repository, id), (Ok(repository), Ok(id)) if repository.find_commit(id).is_ok())
    }

    /// Returns the commit in the clone that a full or abbreviated hex names.
    pub fn find(&self, hex: &str) -> Result<Option<String>, GitError> {
        let repository = self.open(&self.clone)?;
        let Ok(prefix) = gix::hash::Prefix::from_hex(hex) else {
            return Ok(None);
        };
        let found = repository.objects.lookup_prefix(prefix, None);
        let Some(Ok(id)) = found.map_err(|error| GitError::Damaged(self.redact(&error.to_string())))? else {
            return Ok(None);
        };
        Ok(repository.find_commit(id).ok().map(|_| id.to_string()))
    }

    /// Returns author and subject; none when the clone does not have the commit.
    #[must_use]
    pub fn about(&self, commit: &str) -> Option<About> {
        let repository = self.open(&self.clone).ok()?;
        let id = gix::ObjectId::from_hex(commit.as_bytes()).ok()?;
        let commit = repository.find_object(id).ok()?.peel_to_commit().ok()?;
        let author = commit.author().ok()?.name.to_string();
        let subject = commit.message().ok()?.summary().to_string();
        Some(About { author, subject })
    }

    pub(super) fn open(&self, folder: &Path) -> Result<gix::Repository, GitError> {
        gix::open_opts(folder, self.options()).map_err(|error| self.damaged(&error))
    }

    /// Returns options that ignore the machine's and the user's git configuration.
    fn options(&self) -> gix::open::Options {
        let permissions = gix::open::Permissions {
            env: gix::open::permissions::Environment::all(),
            ..gix::open::Permissions::isolated()
        };
        gix::open::Options::isolated()
            .permissions(permissions)
            .open_path_as_is(true)
            .with(gix::sec::Trust::Full)
            .config_overrides([
                format!("core.sshCommand={}", self.ssh_command),
                "gitoxide.http.connectTimeout=10000".to_owned(),
            ])
    }

    fn fetch_into(
        &self,
        repository: &gix::Repository,
        folder: &Path,
        interrupt: &AtomicBool,
    ) -> Result<Heads, GitError> {
        let unavailable = |error: gix::Error| GitError::Unavailable(self.redact(&reason(&error)));
        let remote = repository
            .remote_at_without_url_rewrite(self.remote.clone())
            .and_then(|remote| remote.with_refspecs(REFSPECS, Direction::Fetch))
            .map_err(unavailable)?
            .with_fetch_tags(gix::remote::fetch::Tags::None);
        let account = self.account.clone();
        let connection = remote
            .connect(Direction::Fetch)
            .map_err(unavailable)?
            .with_credentials(move |action| Ok(credentials(account.as_ref(), action)));
        let options = gix::remote::ref_map::Options {
            // HEAD names the default branch; the refspecs alone would filter it out.
            prefix_from_spec_as_filter_on_remote: false,
            ..Default::default()
        };
        let prepared = connection
            .prepare_fetch(gix::progress::Discard, options)
            .map_err(unavailable)?;
        let heads = heads_of(&prepared.ref_map().remote_refs);
        if heads.labels.is_empty() {
            return Err(GitError::Unavailable("no branch yet".to_owned()));
        }
        // The repository has responded: from here on a failure is a fault of the clone.
        self.delete_stale_references(repository, &heads)?;
        prepared
            .with_write_packed_refs_only(true)
            .receive(gix::progress::Discard, interrupt)
            .map_err(|error| {
                if interrupt.load(std::sync::atomic::Ordering::Relaxed) {
                    unavailable(error)
                } else {
                    self.damaged(&error)
                }
            })?;
        write_whole(&folder.join(HEADS), &heads)?;
        Ok(heads)
    }

    /// Deletes references of deleted branches: git cannot store `branch/part` beside `branch`.
    fn delete_stale_references(&self, repository: &gix::Repository, heads: &Heads) -> Result<(), GitError> {
        let damaged = |error: gix::Error| self.damaged(&error);
        let references = repository.references().map_err(damaged)?;
        let mut stale = Vec::new();
        for reference in references.all().map_err(damaged)? {
            let reference = reference.map_err(|error| GitError::Damaged(self.redact(&error.to_string())))?;
            let name = reference.name().as_bstr().to_string();
            let label = name
                .strip_prefix("refs/heads/")
                .or_else(|| name.strip_prefix("refs/tags/"));
            if label.is_some_and(|label| !heads.labels.contains_key(label)) {
                stale.push(reference.detach());
            }
        }
        for reference in stale {
            let reference = repository.find_reference(&reference.name).map_err(damaged)?;
            reference.delete().map_err(damaged)?;
        }
        Ok(())
    }

    fn damaged(&self, error: &gix::Error) -> GitError {
        GitError::Damaged(self.redact(&reason(error)))
    }

    /// Redacts the password in a message of a library or a server.
    fn redact(&self, text: &str) -> String {
        match &self.account {
            Some((_, password)) if !password.expose_secret().is_empty() => {
                text.replace(password.expose_secret(), "[redacted]")
            }
            _ => text.to_owned(),
        }
    }
}

/// Joins the messages of an error and its causes: the outermost one alone says "failed to fetch".
fn reason(error: &gix::Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !parts.contains(&text) {
            parts.push(text);
        }
        cause = inner.source();
    }
    parts.join(": ").replace('\n', " ")
}

fn credentials(
    account: Option<&(String, SecretString)>,
    action: gix::credentials::helper::Action,
) -> Option<gix::credentials::protocol::Outcome> {
    let gix::credentials::helper::Action::Get(context) = action else {
        return None;
    };
    let (username, password) = account?;
    Some(gix::credentials::protocol::Outcome {
        identity: Account {
            username: username.clone(),
            password: password.expose_secret().to_owned(),
            oauth_refresh_token: None,
        },
        next: context.into(),
    })
}

/// Returns whether scheme, host and port are the same.
fn is_same_host(one: &gix::Url, other: &gix::Url) -> bool {
    one.scheme == other.scheme && one.host() == other.host() && one.port == other.port
}

fn heads_of(references: &[Ref]) -> Heads {
    let mut heads = Heads::default();
    let mut tags = BTreeMap::new();
    for reference in references {
        let (name, target, object) = match reference {
            Ref::Peeled {
                full_ref_name, object, ..
            }
            | Ref::Direct { full_ref_name, object } => (full_ref_name, None, Some(object)),
            Ref::Symbolic {
                full_ref_name,
                target,
                object,
                ..
            } => (full_ref_name, Some(target), Some(object)),
            Ref::Unborn { full_ref_name, target } => (full_ref_name, Some(target), None),
        };
        let name = name.to_string();
        if name == "HEAD" {
            heads.default = target.and_then(|target| Some(target.to_string().strip_prefix("refs/heads/")?.to_owned()));
        }
        let Some(object) = object else { continue };
        if let Some(branch) = name.strip_prefix("refs/heads/") {
            heads.labels.insert(branch.to_owned(), object.to_string());
        } else if let Some(tag) = name.strip_prefix("refs/tags/") {
            tags.insert(tag.to_owned(), object.to_string());
        }
    }
    for (tag, object) in tags {
        heads.labels.entry(tag).or_insert(object);
    }
    heads
}

fn write_whole(path: &Path, heads: &Heads) -> Result<(), GitError> {
    let damaged = |error: std::io::Error| GitError::Damaged(error.to_string());
    let bytes = serde_json::to_vec(heads).map_err(|error| GitError::Damaged(error.to_string()))?;
    crate::state::write_whole(path, &bytes).map_err(damaged)
}

/// Removes a file or a folder, if there is one.
fn remove(path: &Path) -> std::io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submodules_share_credentials_on_the_same_host_only_and_stay_off_this_machine() {
        let account = Some(("kim".to_owned(), "hunter2".into()));
        let git = |url: &str| Git::new(Path::new("clone"), url, account.clone(), "ssh").unwrap();
        let remote = git("https://git.example.com/team/config.git");
        for (url, shares) in [
            ("https://git.example.com/team/private.git", true),
            ("https://git.example.com:8443/team/private.git", false),
            ("http://git.example.com/team/private.git", false),
            ("https://git.example.org/team/private.git", false),
            ("https://git.example.com.attacker.example/private.git", false),
            ("ssh://git@git.example.com/team/private.git", false),
        ] {
            let submodule = remote.beside(Path::new("submodule"), url).unwrap();
            assert_eq!(submodule.account.is_some(), shares, "{url}");
        }
        for url in ["/srv/private.git", "file:///etc", "../../../etc"] {
            assert!(remote.beside(Path::new("submodule"), url).is_err(), "{url}");
        }
        let local = git("/srv/config.git");
        assert!(local.beside(Path::new("submodule"), "/srv/private.git").is_ok());
    }
}
