use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;
use sosohappy_bus::Start;
use sosohappy_common::clock::{Clock as _, SystemClock};
use sosohappy_events::Topic;
use sosohappy_testkit::{Bed, EngineSet, PATIENCE, Running, eventually};

use super::legacy::{Legacy, Target, count, has_place, photo, token};

/// Starts auth as the first service of a move: the others are still Spring.
async fn auth(bed: &Bed) -> Running {
    let more = [
        ("tokens.legacy-key", super::legacy::SECRET),
        ("fleet.spring", "feed,dm,notice"),
    ];
    let settings = bed.settings("auth", sosohappy_auth::DEFAULTS, &more).await;
    let built = sosohappy_auth::build(settings, bed.context(sosohappy_auth::SERVICE), bed.bus.clone()).await;
    bed.start(built).await
}

/// Returns the names and the push tokens by account, as Spring services read them from their topics: of that many accounts, and of one device.
async fn published(bed: &Bed, accounts: usize) -> [BTreeMap<String, String>; 2] {
    let topics = [Topic::EmailAndNickname, Topic::DeviceToken];
    let mut reader = eventually("the topics can be read", async || {
        bed.bus.read(&topics, Start::Earliest).await.ok()
    })
    .await;
    let mut found = [BTreeMap::new(), BTreeMap::new()];
    let all = async {
        while found[0].len() < accounts || found[1].is_empty() {
            let record = reader.next().await.expect("the bus can be read");
            let key = record.key.as_deref().map(String::from_utf8_lossy);
            let value = record.value_text().expect("no tombstone").to_owned();
            let topic = usize::from(record.topic == Topic::DeviceToken);
            found[topic].insert(key.expect("an account").into_owned(), value);
        }
    };
    let published = tokio::time::timeout(PATIENCE, all).await;
    published.expect("all names and devices are published");
    found
}

fn in_an_hour() -> i64 {
    SystemClock.now().as_second() + 3600
}

struct Answer {
    status: u16,
    authorization: Option<String>,
    refresh: Option<String>,
    body: Value,
}

async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("auth answers");
    let bearer = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        value.strip_prefix("Bearer ").map(str::to_owned)
    };
    Answer {
        status: response.status().as_u16(),
        authorization: bearer("authorization"),
        refresh: bearer("authorization-refresh"),
        body: serde_json::from_slice(&response.bytes().await.expect("a body")).unwrap_or_default(),
    }
}

async fn reissue(auth: &Running, email: &str, refresh: &str) -> Answer {
    let request = sosohappy_common::tls::client().get(auth.at("/auth-service/reIssueToken"));
    let request = request
        .header("email", email)
        .header("authorization-refresh", format!("Bearer {refresh}"));
    send(request).await
}

async fn call(auth: &Running, path: &str, email: &str, access: &str, form: &[(&str, &str)]) -> Answer {
    let request = sosohappy_common::tls::client().post(auth.at(&format!("/auth-service/{path}")));
    send(request.bearer_auth(access).header("email", email).form(form)).await
}

const LOOK_ALIKE: &str = "look-alike: it looks like another account's: both keep theirs";

/// Everything an account row can be.
#[expect(clippy::too_many_lines, reason = "a table of rows and what becomes of each")]
async fn every_row_is_taken_over_or_reported(bed: Bed) {
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    let exp = in_an_hour();

    let kim = legacy.user("kim@example.com+kakao", "kim").await;
    let kims = token("RefreshToken", "kim@example.com+kakao", exp);
    legacy.set(kim, "refresh_token", kims.clone()).await;
    legacy.set(kim, "device_token", "push").await;
    legacy.set(kim, "introduction", "안녕").await;
    legacy.set(kim, "profile_img", photo()).await;
    // Late twins of the address and of the nickname.
    let twin = legacy.user(" Kim@example.com+kakao", "kim the second").await;
    let namesake = legacy.user("lee@example.com+google", "KIM").await;
    let fresh = legacy
        .user("new@example.com+apple", "3f0c7c50-1a2b-4c3d-8e9f-001122334455")
        .await;
    legacy.set(fresh, "apple_refresh_token", "r.apple-secret").await;
    let no_provider = legacy.user("park@example.com", "park").await;
    legacy.set(no_provider, "provider", "kakao").await;
    let lost = legacy.user("lost@example.com", "lost").await;
    let empty = legacy.user("x", "y").await;
    for column in ["email", "nickname", "provider", "provider_id", "apple_refresh_token"] {
        legacy.clear(empty, column).await;
    }
    let bare = legacy.user("bare@example.com+kakao", "bare").await;
    for column in ["nickname", "provider", "provider_id", "apple_refresh_token"] {
        legacy.clear(bare, column).await;
    }
    let foreign = legacy.user("choi@example.com+naver", "choi").await;
    let bad_photo = legacy.user("photo@example.com+kakao", "photo").await;
    legacy.set(bad_photo, "profile_img", "no picture").await;
    legacy
        .set(
            bad_photo,
            "refresh_token",
            token("RefreshToken", "photo@example.com+kakao", 1_600_000_000),
        )
        .await;
    let invisible = legacy.user("ghost@example.com+kakao", "ghost\u{200b}").await;
    let alike = [
        legacy.user("capital@example.com+kakao", "HeIlo").await,
        legacy.user("small@example.com+kakao", "hello").await,
    ];

    let arguments = ["--auth", &legacy.url("auth")];
    let dry = target.import(&[&arguments[..], &["--dry-run"]].concat());
    assert_eq!(count(&dry, "user", "created"), 9, "{dry}");
    let first = target.import(&arguments);
    let first = first.strip_prefix("check: 9 accounts: as they were read\n");
    let wanted = dry.replace("dry run: nothing was written\n", "");
    assert_eq!(first, Some(wanted.as_str()), "a dry run says what a run does");
    let report = target.report();
    for (row, column, reason) in [
        (
            twin,
            "email",
            format!("duplicate: the address is that of row {kim}, which is the account"),
        ),
        (
            namesake,
            "nickname",
            "altered: another account keeps it: the profile is not set".to_owned(),
        ),
        (
            lost,
            "email",
            "unplaced: no provider, neither in the address nor beside it".to_owned(),
        ),
        (empty, "email", "unplaced: no address".to_owned()),
        (bare, "nickname", "altered: none: the profile is not set".to_owned()),
        (
            foreign,
            "email",
            "unplaced: the provider is none of apple, google and kakao".to_owned(),
        ),
        (
            bad_photo,
            "profile_img",
            "altered: not a JPEG, PNG, GIF, WebP or HEIC picture".to_owned(),
        ),
        (
            bad_photo,
            "refresh_token",
            "altered: expired, of another address, or not signed with tokens.legacy-key".to_owned(),
        ),
        (
            invisible,
            "nickname",
            "altered: cannot be borne: the profile is not set".to_owned(),
        ),
        (alike[0], "nickname", LOOK_ALIKE.to_owned()),
        (alike[1], "nickname", LOOK_ALIKE.to_owned()),
    ] {
        let line = (format!("user {row}"), column.to_owned(), reason);
        assert!(report.contains(&line), "{line:?} is not in {report:#?}");
    }

    let again = target.import(&arguments);
    assert_eq!(count(&again, "user", "unchanged"), 9, "{again}");
    assert_eq!(
        count(&again, "user", "created") + count(&again, "user", "updated"),
        0,
        "{again}"
    );

    // Apple's token is not readable where it is kept.
    for (query, wanted) in [
        ("SELECT COUNT(*) FROM provider_token", 1),
        ("SELECT COUNT(*) FROM provider_token WHERE sealed LIKE 'v1:stored:%'", 1),
        (
            "SELECT COUNT(*) FROM provider_token WHERE sealed LIKE '%apple-secret%'",
            0,
        ),
    ] {
        assert_eq!(target.number_at_auth(query).await, Some(wanted), "{query}");
    }

    let auth = auth(&bed).await;
    let [names, devices] = published(&bed, 9).await;
    for (account, nickname) in [
        ("kim@example.com+kakao", "kim"),
        ("capital@example.com+kakao", "HeIlo"),
        ("new@example.com+apple", "3f0c7c50-1a2b-4c3d-8e9f-001122334455"),
    ] {
        assert_eq!(names.get(account).map(String::as_str), Some(nickname), "{names:?}");
    }
    let device = ("kim@example.com+kakao".to_owned(), "push".to_owned());
    assert_eq!(devices, BTreeMap::from([device]));

    let email = "kim@example.com+kakao";
    let access = token("AccessToken", email, exp);
    let found = call(&auth, "findIntroduction", email, &access, &[("nickname", "kim")]).await;
    assert_eq!((found.status, found.body["introduction"].as_str()), (200, Some("안녕")));
    let shown = call(&auth, "findProfileImg", email, &access, &[("nickname", "kim")]).await;
    let shown = shown.body["profileImg"].as_str().expect("a photo").to_owned();
    let shown = base64::engine::general_purpose::STANDARD.decode(shown).expect("base64");
    assert!(shown.starts_with(&[0xff, 0xd8]), "a JPEG stays one");
    assert!(!has_place(&shown), "encoded anew, without the place where it was taken");
    let strange = token("AccessToken", "photo@example.com+kakao", exp);
    let refused = call(
        &auth,
        "findProfileImg",
        "photo@example.com+kakao",
        &strange,
        &[("nickname", "kim")],
    )
    .await;
    assert_eq!(refused.status, 403, "nobody whose session was not imported is let in");

    let renewed = reissue(&auth, email, &kims).await;
    assert_eq!(renewed.status, 200);
    let (ours, next) = (
        renewed.authorization.expect("a token"),
        renewed.refresh.expect("a token"),
    );
    let found = call(&auth, "findIntroduction", email, &ours, &[("nickname", "kim")]).await;
    assert_eq!(found.status, 200);
    let repeated = reissue(&auth, email, &kims).await;
    assert_eq!(
        repeated.refresh.as_deref(),
        Some(next.as_str()),
        "a lost reply is forgiven"
    );
    assert_eq!(reissue(&auth, email, &next).await.status, 200);

    // Closed here, it is closed for the legacy tokens too, and no later pass opens it.
    let out = call(&auth, "signOut", email, &access, &[]).await;
    assert_eq!(out.status, 200);
    assert_eq!(
        call(&auth, "findIntroduction", email, &access, &[("nickname", "kim")])
            .await
            .status,
        403
    );
    auth.stop().await;
    legacy.set(kim, "introduction", "changed").await;
    let changed = target.import(&arguments);
    assert_eq!(count(&changed, "user", "updated"), 1, "{changed}");
    let auth = self::auth(&bed).await;
    assert_eq!(reissue(&auth, email, &kims).await.status, 403);
}

/// The lease of an import keeps a second one out.
/// Two at once would take each other's rows for changes of this fleet.
async fn a_second_import_or_export_waits_and_is_refused(bed: Bed) {
    let legacy = Legacy::new().await;
    legacy.user("kim@example.com+kakao", "kim").await;
    let target = Target::of(&bed).await;
    let settings = bed
        .settings::<sosohappy_auth::Settings>("auth", sosohappy_auth::DEFAULTS, &[])
        .await;
    let settings = sosohappy_auth::Settings::clone(&settings.get());
    let other = sosohappy_auth::import::Importer::open(settings, &bed.context(sosohappy_auth::SERVICE)).await;
    let other = other.expect("the database of the bed");
    // As the import itself holds it: a lease that claims to last longer than asked for is void.
    let lease = Duration::from_secs(10);
    assert!(other.lease(lease).await.expect("a lease"));
    let other = Arc::new(other);
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let renewing = tokio::spawn({
        let other = other.clone();
        async move {
            while tokio::time::timeout(Duration::from_secs(1), &mut stopped)
                .await
                .is_err()
            {
                assert!(other.lease(lease).await.expect("a lease"), "the lease is kept");
            }
        }
    });
    let scheme = if bed.set == EngineSet::Real { "mysql" } else { "sqlite" };
    let targets = format!("auth of this fleet: database {scheme}:[redacted], photos file:[redacted]\n");
    let url = legacy.url("auth");
    let commands = [
        ("import", target.command(&["--auth", &url])),
        ("export", target.export_command(&["--auth", &url])),
    ];
    // Both wait for the lease at the same time.
    let running = commands.map(|(direction, mut command)| {
        let running = tokio::task::spawn_blocking(move || command.output());
        (direction, running)
    });
    for (direction, refused) in running {
        let refused = refused.await.expect("no panic").expect("the binary runs");
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{direction}: {refused:?}");
        assert!(error.contains("another import or export is running"), "{error}");
        assert!(error.contains(&targets), "{targets:?} is not in {error}");
    }
    // A renewal that is under way would take the lease again after its release.
    stop.send(()).expect("it is renewed until now");
    renewing.await.expect("the lease was kept");
    other.release_lease().await.expect("released");
    let summary = target.import(&["--auth", &url]);
    assert_eq!(count(&summary, "user", "created"), 1, "{summary}");
}

async fn a_second_pass_takes_what_has_changed(bed: Bed) {
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    let exp = in_an_hour();
    let email = "kim@example.com+kakao";
    let kim = legacy.user(email, "kim").await;
    let old = token("RefreshToken", email, exp);
    legacy.set(kim, "refresh_token", old.clone()).await;
    let lee = legacy.user("lee@example.com+kakao", "lee").await;
    let arguments = ["--auth", &legacy.url("auth")];
    target.import(&arguments);

    // kim is renamed and signs in again, another person takes the name, lee resigns.
    legacy.set(kim, "nickname", "moon").await;
    let new = token("RefreshToken", email, exp + 1);
    legacy.set(kim, "refresh_token", new.clone()).await;
    legacy.user("park@example.com+kakao", "kim").await;
    sqlx::query("DELETE FROM `user` WHERE user_id = ?")
        .bind(lee)
        .execute(&legacy.auth)
        .await
        .expect("deleted");
    let second = target.import(&arguments);
    let counts = ["created", "updated", "deleted"].map(|outcome| count(&second, "user", outcome));
    assert_eq!(counts, [1, 1, 1], "{second}");

    let auth = auth(&bed).await;
    assert_eq!(reissue(&auth, email, &old).await.status, 403, "it was replaced there");
    let renewed = reissue(&auth, email, &new).await;
    assert_eq!(renewed.status, 200);
    let access = renewed.authorization.expect("a token");
    let found = call(&auth, "findProfileImg", email, &access, &[("nickname", "lee")]).await;
    assert_eq!(found.body["nickname"], Value::Null, "lee is gone");
    let set = call(
        &auth,
        "setProfile",
        email,
        &access,
        &[("email", email), ("nickname", "sun")],
    )
    .await;
    assert_eq!(set.body["success"], true);
    auth.stop().await;

    // Changes that were made here since are kept.
    legacy.set(kim, "nickname", "star").await;
    let third = target.import(&arguments);
    assert_eq!(count(&third, "user", "kept-ours"), 1, "{third}");
    let auth = self::auth(&bed).await;
    let renewed = reissue(&auth, email, &renewed.refresh.expect("a token")).await;
    let access = renewed.authorization.expect("a token");
    let found = call(&auth, "findProfileImg", email, &access, &[("nickname", "sun")]).await;
    assert_eq!(found.body["nickname"], "sun");
}

on_both_targets!(
    every_row_is_taken_over_or_reported,
    a_second_import_or_export_waits_and_is_refused,
    a_second_pass_takes_what_has_changed
);
