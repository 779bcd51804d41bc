//! A bare repository on this machine, with a work tree that pushes to it.

use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug)]
pub struct Repository {
    folder: tempfile::TempDir,
}

impl Repository {
    /// Creates a repository with one commit on `main`.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = Self { folder };
        git(
            repository.folder.path(),
            &["init", "--bare", "--initial-branch=main", "bare"],
        );
        git(repository.folder.path(), &["init", "--initial-branch=main", "work"]);
        git(&repository.work(), &["remote", "add", "origin", "../bare"]);
        repository.push("main", files);
        repository
    }

    pub fn bare(&self) -> PathBuf {
        self.folder.path().join("bare")
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub fn url(&self) -> String {
        format!("git:{}", self.bare().display())
    }

    /// Writes, commits and pushes files, and returns the commit.
    pub fn push(&self, branch: &str, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            let file = self.work().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        git(&self.work(), &["add", "--all"]);
        git(&self.work(), &["commit", "--allow-empty", "--message", "a change"]);
        git(&self.work(), &["push", "--force", "origin", &format!("HEAD:{branch}")]);
        self.head()
    }

    pub fn head(&self) -> String {
        git(&self.work(), &["rev-parse", "HEAD"])
    }

    pub fn work_git(&self, arguments: &[&str]) -> String {
        git(&self.work(), arguments)
    }

    /// Moves the repository away until [`Repository::make_available`].
    pub fn make_unavailable(&self) {
        std::fs::rename(self.bare(), self.folder.path().join("unavailable")).unwrap();
    }

    pub fn make_available(&self) {
        std::fs::rename(self.folder.path().join("unavailable"), self.bare()).unwrap();
    }
}

/// Runs git without the machine's configuration and returns its output.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=Kim",
            "-c",
            "user.email=kim@example.com",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .current_dir(folder)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
