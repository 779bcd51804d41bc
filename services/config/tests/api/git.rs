use serde_json::Value;
use sosohappy_testkit::{Bed, EngineSet, PATIENCE, eventually};

use crate::Fixture;
use crate::repository::Repository;

const POLL: (&str, &str) = ("source.poll", "50ms");

async fn serve(repository: &Repository) -> Fixture {
    let bed = Bed::new(EngineSet::Embedded).await;
    Fixture::on(bed, &[("source.url", &repository.url()), POLL]).await
}

async fn number(fixture: &Fixture, path: &str) -> Value {
    fixture.json(path).await["a"].clone()
}

async fn wait_for_number(fixture: &Fixture, path: &str, expected: i64) {
    eventually(&format!("{path} is {expected}"), async || {
        (number(fixture, path).await == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn labels_are_branches_tags_commits_and_folders() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1"), ("team/x/feed-config.yml", "a: 7")]);
    let first = repository.head();
    repository.work_git(&["tag", "-a", "v1", "-m", "one"]);
    repository.work_git(&["push", "origin", "v1"]);
    let branch = repository.push("release/2", &[("feed-config.yml", "a: 2")]);
    let main = repository.push("main", &[("feed-config.yml", "a: 3")]);
    let fixture = serve(&repository).await;
    for (label, version, a) in [
        ("main", &main, 3),
        ("v1", &first, 1),
        ("release(_)2", &branch, 2),
        (first.as_str(), &first, 1),
        (&branch[..8], &branch, 2),
        ("team(_)x", &main, 7),
    ] {
        let environment = fixture.json(&format!("/feed-config/default/{label}")).await;
        assert_eq!(environment["version"], **version, "{label}");
        assert_eq!(environment["label"], label.replace("(_)", "/"));
        assert_eq!(
            number(&fixture, &format!("/{label}/feed-config-default.json")).await,
            a,
            "{label}"
        );
    }
    let environment = fixture.json("/feed-config/default").await;
    assert_eq!(
        (&environment["version"], &environment["label"]),
        (&Value::from(main.clone()), &Value::Null)
    );
    let name = environment["propertySources"][0]["name"].as_str().unwrap();
    assert!(name.ends_with("/bare/feed-config.yml"), "{name}");

    let both = fixture.json("/feed-config/default/v1,main").await;
    assert_eq!(both["version"], format!("{first},{main}"));
    assert_eq!(both["propertySources"][0]["source"]["a"], 3, "the last label wins");
    for unknown in ["none", "0123456", "v1,none", "release"] {
        assert_eq!(
            fixture.status(&format!("/feed-config/default/{unknown}")).await,
            404,
            "{unknown}"
        );
    }
    assert_eq!(fixture.text("/feed-config/default/v1/feed-config.yml").await, "a: 1");
}

#[tokio::test]
async fn force_pushes_and_deleted_branches_are_followed() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1")]);
    repository.push("part", &[]);
    let fixture = serve(&repository).await;
    assert_eq!(number(&fixture, "/part/feed-config-default.json").await, 1);
    repository.push("main", &[("feed-config.yml", "a: 2")]);
    wait_for_number(&fixture, "/feed-config-default.json", 2).await;

    repository.work_git(&["commit", "--amend", "--message", "another"]);
    let forced = repository.push("main", &[("feed-config.yml", "a: 3")]);
    wait_for_number(&fixture, "/feed-config-default.json", 3).await;
    assert_eq!(fixture.json("/feed-config/default").await["version"], forced);

    // A branch is deleted, and another one is created that git stores in a folder of its name.
    repository.work_git(&["push", "origin", ":part"]);
    repository.push("part/of", &[("feed-config.yml", "a: 4")]);
    eventually("the new branch is served", async || {
        (fixture.status("/feed-config/default/part(_)of").await == 200).then_some(())
    })
    .await;
    assert_eq!(number(&fixture, "/part(_)of/feed-config-default.json").await, 4);
    assert_eq!(fixture.status("/feed-config/default/part").await, 404);
}

#[tokio::test]
async fn the_last_valid_version_is_served_while_the_source_is_unavailable() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1")]);
    repository.push("other", &[("feed-config.yml", "a: 2")]);
    repository.push("main", &[("feed-config.yml", "a: 1")]);
    let fixture = serve(&repository).await;
    repository.make_unavailable();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(number(&fixture, "/feed-config-default.json").await, 1);
    // After a restart too, including labels without a request so far.
    let fixture = fixture.restart().await;
    assert_eq!(number(&fixture, "/feed-config-default.json").await, 1);
    assert_eq!(number(&fixture, "/other/feed-config-default.json").await, 2);
    repository.make_available();
    repository.push("main", &[("feed-config.yml", "a: 3")]);
    wait_for_number(&fixture, "/feed-config-default.json", 3).await;
}

/// Removes a folder into which a fetch may be writing.
fn remove(folder: &std::path::Path) {
    while folder.exists() {
        // Fails while the fetch adds files.
        let _ = std::fs::remove_dir_all(folder);
    }
}

#[tokio::test]
async fn a_corrupt_clone_is_replaced() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1")]);
    let fixture = serve(&repository).await;
    let clone = fixture.bed.folder().join("config-state/clone");
    let packs = clone.join("objects/pack");
    for pack in std::fs::read_dir(&packs).unwrap() {
        let pack = pack.unwrap().path();
        let _gone = std::fs::remove_file(&pack);
        std::fs::write(pack, "garbage").unwrap();
    }
    assert_eq!(
        number(&fixture, "/feed-config-default.json").await,
        1,
        "the version in memory is complete"
    );
    repository.push("main", &[("feed-config.yml", "a: 2")]);
    wait_for_number(&fixture, "/feed-config-default.json", 2).await;

    remove(&clone);
    repository.push("main", &[("feed-config.yml", "a: 3")]);
    wait_for_number(&fixture, "/feed-config-default.json", 3).await;
    std::fs::write(clone.join("HEAD"), "garbage").unwrap();
    std::fs::write(clone.join("config"), "[[[").unwrap();
    repository.push("main", &[("feed-config.yml", "a: 4")]);
    wait_for_number(&fixture, "/feed-config-default.json", 4).await;

    // A corrupt clone at the start while the source is unavailable: the copy of the last version is served.
    repository.make_unavailable();
    let Fixture { bed, config, .. } = fixture;
    config.stop().await;
    remove(&clone);
    std::fs::write(&clone, "not even a folder").unwrap();
    let fixture = Fixture::on(bed, &[("source.url", &repository.url()), POLL]).await;
    assert_eq!(number(&fixture, "/feed-config-default.json").await, 4);
    repository.make_available();
    repository.push("main", &[("feed-config.yml", "a: 5")]);
    wait_for_number(&fixture, "/feed-config-default.json", 5).await;
}

#[tokio::test]
async fn an_invalid_commit_is_refused_for_its_label_only() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1"), ("application.yml", "b: 1")]);
    repository.push("other", &[("feed-config.yml", "a: 2")]);
    repository.push("main", &[("feed-config.yml", "a: 1")]);
    let fixture = serve(&repository).await;
    assert_eq!(number(&fixture, "/other/feed-config-default.json").await, 2);
    repository.push("other", &[("feed-config.yml", "a: ["), ("application.yml", "b: 2")]);
    repository.push("main", &[("feed-config.yml", "a: 3"), ("application.yml", "b: 3")]);
    wait_for_number(&fixture, "/feed-config-default.json", 3).await;
    let other = fixture.json("/other/feed-config-default.json").await;
    assert_eq!(
        (&other["a"], &other["b"]),
        (&Value::from(2), &Value::from(1)),
        "the complete version before"
    );

    repository.push("main", &[("feed-config.yml", "a: ["), ("application.yml", "b: 4")]);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let main = fixture.json("/feed-config-default.json").await;
    assert_eq!((&main["a"], &main["b"]), (&Value::from(3), &Value::from(3)));
    // The first request of a label with an invalid commit: there is no version before.
    repository.push("third", &[]);
    eventually("the new branch is known", async || {
        let status = fixture.status("/feed-config/default/third").await;
        assert!(status == 404 || status == 500, "{status}");
        (status == 500).then_some(())
    })
    .await;
}

#[tokio::test]
async fn config_is_not_ready_until_the_repository_is_available() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1")]);
    repository.make_unavailable();
    let (fixture, ()) = tokio::join!(serve(&repository), async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        repository.make_available();
    });
    assert_eq!(number(&fixture, "/feed-config-default.json").await, 1);
}

#[tokio::test]
async fn a_password_in_the_url_is_never_returned() {
    let bed = Bed::new(EngineSet::Embedded).await;
    std::fs::create_dir_all(bed.folder().join("config-state/versions")).unwrap();
    let repository = Repository::new(&[("feed-config.yml", "a: 1")]);
    let fixture = Fixture::on(bed, &[("source.url", &repository.url()), POLL])
        .await
        .restart()
        .await;
    assert_eq!(number(&fixture, "/feed-config-default.json").await, 1);
    let Fixture { bed, config, .. } = fixture;
    config.stop().await;
    // A port without a listener: the copy is served under the name of the new source.
    let url = "git:https://kim:hunter2hunter2@127.0.0.1:9/config.git";
    let fixture = Fixture::on(bed, &[("source.url", url), POLL]).await;
    let environment = fixture.text("/feed-config/default").await;
    assert!(
        environment.contains("https://127.0.0.1:9/config.git/feed-config.yml"),
        "{environment}"
    );
    assert!(!environment.contains("hunter2"), "{environment}");
    let health = fixture.config.at("/actuator/health");
    let request = sosohappy_common::tls::client()
        .get(health)
        .bearer_auth(&fixture.bed.operator_token);
    let health = request.send().await.unwrap().text().await.unwrap();
    assert!(
        health.contains("unavailable") && !health.contains("hunter2"),
        "{health}"
    );
}

#[tokio::test]
async fn submodules_are_read_at_the_commit_that_the_repository_names() {
    let private = Repository::new(&[("feed-config.yml", "secret: 1"), ("application.yml", "all: 1")]);
    let repository = Repository::new(&[("feed-config.yml", "a: 1\nsecret: none")]);
    let url = private.bare().display().to_string();
    repository.work_git(&["-c", "protocol.file.allow=always", "submodule", "add", &url, "private"]);
    let first = repository.push("main", &[]);
    let bed = Bed::new(EngineSet::Embedded).await;
    let repository_url = repository.url();
    let settings = [
        ("source.url", &*repository_url),
        POLL,
        ("source.search-paths", "private"),
    ];
    let fixture = Fixture::on(bed, &settings).await;
    let secret = async || fixture.json("/feed-config-default.json").await["secret"].clone();
    assert_eq!(secret().await, 1);
    assert_eq!(fixture.json("/feed-config-default.json").await["all"], 1);
    assert_eq!(
        fixture.text("/feed-config/default/main/private/feed-config.yml").await,
        "secret: 1"
    );
    let names = fixture.json("/feed-config/default").await["propertySources"].clone();
    assert!(
        names[0]["name"].as_str().unwrap().ends_with("/private/feed-config.yml"),
        "{names}"
    );

    // A push to the submodule takes effect once the repository names its commit.
    private.push("main", &[("feed-config.yml", "secret: 2")]);
    repository.push("main", &[("feed-config.yml", "a: 2")]);
    eventually("the push is served", async || {
        (fixture.json("/feed-config-default.json").await["a"] == 2).then_some(())
    })
    .await;
    assert_eq!(secret().await, 1);
    repository.work_git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "update",
        "--remote",
        "private",
    ]);
    let second = repository.push("main", &[]);
    eventually("the new commit of the submodule is served", async || {
        (secret().await == 2).then_some(())
    })
    .await;
    assert_eq!(fixture.json("/feed-config/default").await["version"], second);
    assert_eq!(
        fixture.json(&format!("/{first}/feed-config-default.json")).await["secret"],
        1
    );

    // A missing commit of a submodule keeps the new commit of the repository from being served, and nothing else.
    private.make_unavailable();
    repository.work_git(&[
        "-c",
        "protocol.file.allow=always",
        "update-index",
        "--cacheinfo",
        &format!("160000,{second},private"),
    ]);
    repository.work_git(&["commit", "--message", "a commit that the submodule lacks"]);
    repository.work_git(&["push", "origin", "HEAD:main"]);
    let reason = eventually("the reason is reported", async || {
        let status = fixture.ask("/status").await;
        status["away"]["reason"].as_str().map(str::to_owned)
    })
    .await;
    assert!(reason.contains("submodule private"), "{reason}");
    assert_eq!(secret().await, 2);
}

#[tokio::test]
async fn requests_do_not_wait_for_a_slow_repository() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1")]);
    let bed = Bed::new(EngineSet::Embedded).await;
    let (ssh, held, waits) = (
        bed.folder().join("slow-ssh"),
        bed.folder().join("held"),
        bed.folder().join("waits"),
    );
    let script = format!(
        "#!/bin/sh\n\
         case \" $* \" in *' -G '*) exit 0 ;; esac\n\
         while [ -e '{}' ]; do : > '{}'; sleep 0.1; done\n\
         until [ \"$1\" = git@slow.example.com ]; do shift; done\n\
         shift\n\
         exec sh -c \"$*\"\n",
        held.display(),
        waits.display(),
    );
    std::fs::write(&ssh, script).unwrap();
    std::fs::set_permissions(&ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let url = format!("git:ssh://git@slow.example.com{}", repository.bare().display());
    let command = ssh.display().to_string();
    let settings = [("source.url", &*url), POLL, ("source.ssh-command", &command)];
    let fixture = Fixture::on(bed, &settings).await;
    std::fs::write(&held, "").unwrap();
    eventually("a fetch waits for the repository", async || {
        waits.exists().then_some(())
    })
    .await;
    for _ in 0..50 {
        let answer = tokio::time::timeout(PATIENCE, number(&fixture, "/feed-config-default.json"));
        assert_eq!(answer.await.expect("an answer during the fetch"), 1);
    }
    repository.push("main", &[("feed-config.yml", "a: 2")]);
    std::fs::remove_file(&held).unwrap();
    wait_for_number(&fixture, "/feed-config-default.json", 2).await;
}
