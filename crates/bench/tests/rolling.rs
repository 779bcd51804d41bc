//! The rolling restart, with nothing of it in the tree changed.

use sosohappy_testkit::EngineSet;

#[test]
fn nothing_fails_while_every_replica_is_restarted() {
    if !EngineSet::real_is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("performance.md");
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["rolling", "--report"])
        .arg(&page)
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(done.status.success(), "{said}");
    let written = std::fs::read_to_string(&page).unwrap();
    assert!(written.contains(" 0 failed: 100.00 %"), "{written}");
}
