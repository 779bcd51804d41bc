//! The commands of `k8s/components/backup` and of docs/backup.md.

use tokio::process::Command;

pub const BACKUP_MYSQL: &str = include_str!("../../../../k8s/components/backup/mysql.yaml");
pub const BACKUP_RESIGNATIONS: &str = include_str!("../../../../k8s/components/backup/resignations.yaml");

const DOCUMENT: &str = include_str!("../../../../docs/backup.md");

/// Returns the script that is the argument of a container.
pub fn script_of(manifest: &str) -> String {
    let mut lines = manifest.lines().skip_while(|line| line.trim() != "- |");
    let head = lines.next().expect("the container has a script");
    let indent = head.len() - head.trim_start().len() + 2;
    let script = lines.map_while(|line| {
        let is_inside = line.len() - line.trim_start().len() >= indent;
        is_inside.then(|| &line[indent..])
    });
    script.collect::<Vec<_>>().join("\n")
}

/// Returns the code block of docs/backup.md that has this word.
pub fn documented(word: &str) -> String {
    let mut blocks = DOCUMENT.split("```").skip(1).step_by(2);
    let block = blocks.find(|block| block.contains(word));
    let block = block.unwrap_or_else(|| panic!("docs/backup.md has no commands with {word}"));
    let (_language, commands) = block.split_once('\n').expect("a block has several lines");
    commands.to_owned()
}

/// Replaces what differs on the test engines; the script has each of these texts.
pub fn replaced(script: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(script.to_owned(), |script, (from, to)| {
        assert!(script.contains(*from), "the script lacks {from}:\n{script}");
        script.replace(*from, to)
    })
}

/// Runs a script as the containers do. Returns what it prints; it succeeds.
pub async fn run(script: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", script])
        .envs(variables.iter().copied());
    let output = command.output().await.expect("bash can be run");
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(output.status.success(), "{script}\n{}: {printed}", output.status);
    printed
}
