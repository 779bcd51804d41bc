//! `sosohappy-config check DIR` as a pipeline runs it.

use std::path::Path;
use std::process::Command;

fn check(folder: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sosohappy-config"))
        .arg("check")
        .arg(folder)
        .args(more)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn findings_are_printed_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("feed-config.yml", "post:\n  text: 10\nspring.datasource.url: x\n");
    write("application.properties", "log.level=info\n");
    assert_eq!(
        check(folder.path(), &[]),
        (Some(0), "2 files valid\n".to_owned(), String::new())
    );

    write("feed-config-prod.yml", "post:\n  text: hunter2\n  txt: 1\n");
    write("dm-config.json", "{\"messages\": {\n\"max-characters\": 0}}\n");
    let (code, out, _) = check(folder.path(), &[]);
    assert_eq!(
        (code, out.as_str()),
        (
            Some(1),
            "dm-config.json:2: messages.max-characters: a whole number from 1 to 1099511627776 is expected\n\
             feed-config-prod.yml:2: post.text: a whole number is expected\n\
             feed-config-prod.yml:3: post.txt: unknown key; this section has categories, comment, drafts, history, idempotency-keys, images, text\n"
        )
    );
    let (code, out, _) = check(folder.path(), &["--accept-unknown-keys"]);
    assert_eq!((code, out.lines().count()), (Some(1), 2));
    write("notice-config.yml", "a: [\n");
    let (code, out, _) = check(folder.path(), &[]);
    assert!(code == Some(1) && out.starts_with("notice-config.yml:1: "), "{out}");

    let (code, out, errors) = check(&folder.path().join("none"), &[]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(errors.contains("none"), "{errors}");
}

#[test]
fn a_renamed_key_is_checked_as_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(folder.path().join("dm-config.yml"), text).unwrap();
    write("messages.shown-within: 5s\nsockets:\n  drain-over: 1s\n");
    assert_eq!(check(folder.path(), &[]).0, Some(0));
    write("messages.shown-within: soon\n");
    assert_eq!(
        check(folder.path(), &[]).1,
        "dm-config.yml:1: messages.shown-within: a duration, 10s or 2h 30m, is expected\n"
    );
}
