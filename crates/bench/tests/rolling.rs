//! Runs the rolling restart with its report in a temporary folder.

use sosohappy_testkit::EngineSet;

#[test]
fn no_request_fails_while_every_replica_is_restarted() {
    if !EngineSet::real_is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("performance.md");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["rolling", "--report"])
        .arg(&page)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}");
    let written = std::fs::read_to_string(&page).unwrap();
    assert!(written.contains(" 0 failed: 100.00 %"), "{written}");
}
