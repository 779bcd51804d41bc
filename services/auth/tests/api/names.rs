//! Equality of names and addresses, and reservation of names that were given up.

use std::time::Duration;

use serde_json::json;
use sosohappy_common::{Account, NicknameKey, NicknameLooks};
use sosohappy_testkit::{Bed, eventually, on_both_engines};

use crate::support::{Auth, Ground, KIM, LEE, Person, send};

on_both_engines!(
    spellings_of_a_nickname_are_one_name,
    names_of_ten_user_perceived_characters_are_taken,
    spellings_of_an_address_are_one_account,
    an_address_that_no_header_carries_is_refused,
    a_name_given_up_stays_its_former_bearers,
    a_name_is_reserved_for_fourteen_days_by_default,
    the_last_five_names_of_an_account_are_reserved,
    a_name_given_up_is_not_taken_while_it_is_given_up,
    a_resigned_name_comes_back_with_its_account_only,
    rows_of_an_older_release_get_their_keys,
    names_that_look_alike_are_not_taken,
    a_look_stays_reserved_with_its_name,
    of_two_who_take_one_look_at_once_one_gets_it,
    names_that_looked_alike_before_stay,
    looks_are_made_in_the_background_and_again_for_another_version,
);

const ENGLAND: &str = "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}";
const PARK: (&str, &str, &str) = ("park@example.com", "apple", "park-at-apple");

impl Auth {
    async fn introduction_of(&self, asker: &Person, nickname: &str) -> String {
        let request = self.post("findIntroduction").form(&[("nickname", nickname)]);
        let answer = send(asker.sign(request)).await.expect(200);
        answer.body["introduction"].as_str().expect("text").to_owned()
    }

    async fn set_introduction(&self, person: &Person, nickname: &str) {
        let fields = [
            ("email", &*person.account),
            ("nickname", nickname),
            ("introduction", nickname),
        ];
        let answer = send(person.sign(self.post("setProfile").form(&fields)))
            .await
            .expect(200);
        assert_eq!(answer.body["success"], true, "{nickname:?}");
    }

    async fn is_taken(&self, asker: &Person, nickname: &str) -> bool {
        let request = self.get("checkDuplicateNickname").query(&[("nickname", nickname)]);
        let answer = send(asker.sign(request)).await.expect(200);
        answer.body["isPresent"].as_bool().expect("a truth value")
    }
}

async fn spellings_of_a_nickname_are_one_name(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.sign_in(KIM).await, auth.sign_in(LEE).await);
    for (name, others) in [
        ("각자", &["\u{1100}\u{1161}\u{11a8}\u{110c}\u{1161}"][..]),
        ("김", &["\u{1100}\u{1175}\u{11b7}"]),
        ("Å", &["\u{212b}", "A\u{30a}", "å"]),
        ("admin", &["\u{430}dmin", "ADMIN", "ａｄｍｉｎ"]),
        ("한 사람", &["한\u{3000}사람", "한\u{a0}사람"]),
    ] {
        auth.set_introduction(&kim, name).await;
        for other in others {
            assert!(!auth.set_nickname(&lee, other).await, "{other:?} is {name:?}");
            assert!(auth.is_taken(&lee, other).await, "{other:?} is {name:?}");
            assert_eq!(
                auth.introduction_of(&lee, other).await,
                name,
                "{other:?} finds {name:?}"
            );
        }
        // Another spelling of one's own name is no other name, and kept as typed.
        assert!(auth.set_nickname(&kim, others[0]).await);
        assert_eq!(auth.sign_in(KIM).await.nickname, others[0]);
    }
}

async fn names_of_ten_user_perceived_characters_are_taken(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.sign_in(KIM).await;
    let family = "👨\u{200d}👩\u{200d}👧\u{200d}👦";
    let decomposed =
        "\u{1109}\u{1169}\u{1109}\u{1169}\u{1112}\u{1161}\u{11ab}\u{1112}\u{1162}\u{11bc}\u{1107}\u{1169}\u{11a8}";
    for name in [
        &family.repeat(2),
        &family.repeat(10),
        decomposed,
        ENGLAND,
        "می\u{200c}خواهم",
        "क\u{94d}\u{200d}ष",
    ] {
        assert!(auth.set_nickname(&kim, name).await, "{name:?}");
        assert_eq!(auth.sign_in(KIM).await.nickname, name);
    }
    for name in [
        "12345678901",
        &family.repeat(11),
        &kim.account,
        &format!("a{}", "\u{301}".repeat(160)),
    ] {
        let fields = [("email", kim.account.as_str()), ("nickname", name)];
        send(kim.sign(auth.post("setProfile").form(&fields))).await.expect(400);
    }
}

async fn spellings_of_an_address_are_one_account(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let first = auth.sign_in((" Case.User@Example.COM ", "kakao", "7")).await;
    assert_eq!(first.account, "Case.User@example.com+kakao");
    assert!(auth.admits(&first).await, "the header carries it");
    assert!(auth.set_nickname(&first, "case").await);
    for address in [
        "case.user@example.com",
        "CASE.USER@EXAMPLE.COM",
        "\u{3000}Case.User@example.com",
    ] {
        let again = auth.sign_in((address, "kakao", "7")).await;
        assert_eq!(
            (&*again.account, &*again.nickname),
            (&*first.account, "case"),
            "{address:?}"
        );
        assert!(auth.admits(&again).await);
    }
    // Another person at the provider is not let in by another spelling, and another provider is another account.
    auth.try_sign_in(("case.user@example.com", "kakao", "8"))
        .await
        .expect(403);
    assert_eq!(
        auth.sign_in(("case.user@example.com", "google", "7")).await.account,
        "case.user@example.com+google"
    );
    assert_eq!(ground.rows("account").await, 2);
    // A parameter names the account in any spelling too.
    let fields = [("email", " case.user@example.com+KAKAO "), ("nickname", "case")];
    send(first.sign(auth.post("setProfile").form(&fields)))
        .await
        .expect(200);
}

async fn an_address_that_no_header_carries_is_refused(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    for address in [
        "",
        " ",
        "a b@example.com",
        "a\r\nb@example.com",
        "a\u{7f}@example.com",
        "a\u{200b}@example.com",
        "a\u{2028}@x.y",
    ] {
        let refused = auth.try_sign_in((address, "kakao", "7")).await.expect(400);
        assert_eq!(refused.code(), "invalid-parameter", "{address:?}");
    }
    assert_eq!(ground.rows("account").await, 0);
}

async fn a_name_is_reserved_for_fourteen_days_by_default(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "별이").await;
    assert!(auth.set_nickname(&kim, "달이").await);
    ground
        .clock
        .advance(Duration::from_hours(14 * 24) - Duration::from_mins(1));
    let lee = auth.sign_in(LEE).await;
    assert!(!auth.set_nickname(&lee, "별이").await);
    ground.clock.advance(Duration::from_mins(2));
    assert!(auth.set_nickname(&lee, "별이").await);
}

async fn a_name_given_up_stays_its_former_bearers(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("nicknames.reservation", "1h")]).await;
    let (kim, lee) = (auth.person(KIM, "별이").await, auth.person(LEE, "lee").await);
    assert!(auth.set_nickname(&kim, "달이").await);
    assert!(auth.is_taken(&lee, "별이").await);
    assert!(
        !auth
            .set_nickname(&lee, "\u{1107}\u{1167}\u{11af}\u{110b}\u{1175}")
            .await,
        "in any spelling"
    );
    assert!(!auth.is_taken(&kim, "별이").await);
    assert!(auth.set_nickname(&kim, "별이").await, "its former bearer takes it back");
    assert!(!auth.set_nickname(&lee, "달이").await, "and has given up the other");

    ground.clock.advance(Duration::from_secs(3601));
    assert!(!auth.is_taken(&lee, "달이").await);
    assert!(auth.set_nickname(&lee, "달이").await, "the reservation has ended");
    assert!(!auth.set_nickname(&lee, "별이").await, "that one is borne");
    assert_eq!(ground.rows("nickname_reservation").await, 1, "of lee");
}

async fn the_last_five_names_of_an_account_are_reserved(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "가").await, auth.person(LEE, "lee").await);
    for nickname in ["나", "다", "라", "마", "바", "사", "아"] {
        ground.clock.advance(Duration::from_secs(1));
        assert!(auth.set_nickname(&kim, nickname).await);
    }
    assert_eq!(ground.rows("nickname_reservation").await, 5);
    for (nickname, is_taken) in [("가", false), ("나", false), ("다", true), ("사", true), ("아", true)] {
        assert_eq!(auth.is_taken(&lee, nickname).await, is_taken, "{nickname}");
    }
    assert!(auth.set_nickname(&lee, "가").await);

    // A name that is taken back makes room.
    assert!(auth.set_nickname(&kim, "사").await);
    assert!(auth.is_taken(&lee, "다").await && !auth.is_taken(&kim, "아").await);
}

/// A rename and a taker at the same moment: in either order, the name never belongs to another person.
async fn a_name_given_up_is_not_taken_while_it_is_given_up(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    let (kim, lee) = (one.person(KIM, "round").await, one.sign_in(LEE).await);
    for round in 0..12 {
        let (old, new) = (format!("kim-{round}"), format!("new-{round}"));
        assert!(one.set_nickname(&kim, &old).await);
        let (renamed, taken, late) = tokio::join!(
            one.set_nickname(&kim, &new),
            other.set_nickname(&lee, &old),
            one.set_nickname(&lee, &old)
        );
        assert!(renamed);
        assert!(!taken && !late, "round {round}: {old} went to another person");
    }
}

async fn a_resigned_name_comes_back_with_its_account_only(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "별이").await, auth.person(LEE, "lee").await);
    auth.resign(&kim).await.expect(200);
    assert!(!auth.set_nickname(&lee, "별이").await);
    let kim = auth.sign_in(KIM).await;
    assert_eq!(kim.nickname, "", "a new account");
    assert!(auth.set_nickname(&kim, "별이").await);
}

async fn rows_of_an_older_release_get_their_keys(bed: Bed) {
    let ground = Ground::new(bed);
    let old = ground.auth().await;
    old.person(KIM, "kim").await;
    ground.clock.advance(Duration::from_secs(1));
    old.person(LEE, "lee").await;
    ground.clock.advance(Duration::from_secs(1));
    old.person(PARK, "park").await;
    drop(old);
    // As the release before has left them.
    for statement in [
        "UPDATE account SET nickname_key = NULL, address_key = NULL",
        "UPDATE account SET nickname = 'KIM' WHERE nickname = 'park'",
        "UPDATE account SET nickname = 'a-nickname-that-is-too-long' WHERE nickname = 'lee'",
        "INSERT INTO reserved_nickname (nickname, reserved_until) VALUES ('gone', 9999999999999)",
    ] {
        ground.bed.sql("auth", statement).await;
    }
    let auth = ground.auth().await;
    assert_eq!(
        ground
            .rows("account WHERE nickname_key IS NULL OR address_key IS NULL")
            .await,
        0
    );
    let (kim, lee, park) = (
        auth.sign_in(KIM).await,
        auth.sign_in(LEE).await,
        auth.sign_in(PARK).await,
    );
    assert_eq!(kim.nickname, "kim", "the account that was created first keeps the name");
    assert_eq!(
        (&*park.nickname, &*lee.nickname),
        ("", ""),
        "the app asks for another name"
    );
    assert!(!auth.set_nickname(&park, "Kim").await);
    assert!(!auth.set_nickname(&park, "Gone").await, "an old reservation holds");
    assert!(auth.set_nickname(&park, "park").await);
    let own = auth.get("checkDuplicateNickname").query(&[("nickname", "KIM")]);
    assert_eq!(
        send(kim.sign(own)).await.expect(200).body,
        json!({ "email": kim.account, "isPresent": true })
    );
    let again = ground.auth().await;
    assert_eq!(
        again
            .sign_in(("KIM@example.com", "kakao", "kim-at-kakao"))
            .await
            .account,
        kim.account
    );
}

async fn names_that_look_alike_are_not_taken(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("nicknames.reservation", "1s")]).await;
    let (kim, lee) = (auth.sign_in(KIM).await, auth.sign_in(LEE).await);
    for (name, alike) in [
        ("admIn", &["admln", "adm1n", "Admln"][..]),
        ("Admin", &["ADMlN", "admIn"]),
        ("nick", &["\u{39d}ick"]),
        ("go0d", &["good", "G0OD"]),
        ("kim", &["\u{43a}im", "\u{43a}IM", "k1m"]),
        ("moon", &["\u{24dc}oon", "ｍｏｏｎ", "m\u{24de}\u{24de}n"]),
        ("adm\u{3163}n", &["admln", "admIn", "adm\u{4e28}n"]),
    ] {
        auth.set_introduction(&kim, name).await;
        for other in alike {
            assert!(auth.is_taken(&lee, other).await, "{other:?} looks like {name:?}");
            assert!(!auth.set_nickname(&lee, other).await, "{other:?} looks like {name:?}");
        }
        assert_eq!(auth.sign_in(LEE).await.nickname, "", "nothing was written");
    }
    // Names that look different are different names, and lookups do not use looks.
    auth.set_introduction(&kim, "admin").await;
    ground.clock.advance(Duration::from_secs(2));
    assert!(!auth.is_taken(&lee, "admln").await);
    assert!(auth.set_nickname(&lee, "admln").await);
    assert_eq!(auth.introduction_of(&lee, "admin").await, "admin");
    assert_eq!(auth.introduction_of(&lee, "adm!n").await, "");
    assert!(
        !auth.set_nickname(&kim, "admIn").await,
        "one's own name in another case, which looks like lee's"
    );
    for (name, email) in [("admIn", None), ("Admin", Some(&kim.account))] {
        let asked = auth.get("checkDuplicateNickname").query(&[("nickname", name)]);
        assert_eq!(
            send(kim.sign(asked)).await.expect(200).body,
            json!({ "email": email, "isPresent": true }),
            "{name} is answered as by setProfile"
        );
    }
    assert!(auth.set_nickname(&lee, "lee").await);
    ground.clock.advance(Duration::from_secs(2));
    assert!(auth.set_nickname(&kim, "admIn").await);
}

async fn a_look_stays_reserved_with_its_name(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("nicknames.reservation", "1h")]).await;
    let (kim, lee) = (auth.person(KIM, "HeIlo").await, auth.person(LEE, "lee").await);
    assert!(auth.set_nickname(&kim, "moon").await);
    assert!(auth.is_taken(&lee, "hello").await);
    assert!(
        !auth.set_nickname(&lee, "hello").await,
        "it looks like the name given up"
    );
    assert!(!auth.is_taken(&kim, "hello").await);
    assert!(
        auth.set_nickname(&kim, "hello").await,
        "its former bearer may take the look"
    );
    auth.resign(&kim).await.expect(200);
    assert!(
        !auth.set_nickname(&lee, "he1lo").await,
        "given up, then by the resignation"
    );

    ground.clock.advance(Duration::from_secs(3601));
    assert!(!auth.is_taken(&lee, "hello").await);
    assert!(auth.set_nickname(&lee, "hello").await, "the reservation has ended");
    let left = "reserved_look WHERE nickname_key NOT IN (SELECT nickname_key FROM nickname_reservation)";
    assert_eq!(ground.rows(left).await, 0);
}

/// Two people take names that look alike at the same moment, at two replicas: one of them gets it.
async fn of_two_who_take_one_look_at_once_one_gets_it(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    let (kim, lee) = (one.sign_in(KIM).await, other.sign_in(LEE).await);
    for round in 10..22 {
        let (capital, small) = (format!("I{round}"), format!("l{round}"));
        let (first, second) = tokio::join!(one.set_nickname(&kim, &capital), other.set_nickname(&lee, &small));
        assert!(first != second, "round {round}: kim {first}, lee {second}");
    }
}

/// Replicas of the release before, which knows no looks, write names that look alike.
async fn names_that_looked_alike_before_stay(bed: Bed) {
    let ground = Ground::new(bed);
    let old = ground.auth().await;
    old.person(KIM, "HeIlo").await;
    old.person(LEE, "lee").await;
    drop(old);
    for statement in [
        "DELETE FROM nickname_look",
        "UPDATE account SET look_nickname = NULL",
        "UPDATE account SET nickname = 'hello', nickname_key = NULL WHERE nickname = 'lee'",
    ] {
        ground.bed.sql("auth", statement).await;
    }
    let auth = ground.auth_with(&[("nicknames.reservation", "1s")]).await;
    ground.all_looks_are_made().await;
    let (kim, lee, park) = (
        auth.sign_in(KIM).await,
        auth.sign_in(LEE).await,
        auth.sign_in(PARK).await,
    );
    assert_eq!((&*kim.nickname, &*lee.nickname), ("HeIlo", "hello"), "both keep theirs");
    auth.set_introduction(&lee, "hello").await;
    assert!(auth.set_nickname(&lee, "Hello").await, "in another spelling");
    assert!(!auth.set_nickname(&park, "He1lo").await, "but nobody else takes it");
    assert!(auth.set_nickname(&kim, "moon").await);
    ground.clock.advance(Duration::from_secs(2));
    assert!(!auth.set_nickname(&park, "HeIlo").await, "lee has it still");

    // No replica starts while the older release writes.
    let renamed = "UPDATE account SET nickname = 'snaIl' WHERE nickname = 'moon'";
    ground.bed.sql("auth", renamed).await;
    assert!(
        !auth.set_nickname(&park, "snall").await,
        "it looks like what was written meanwhile"
    );
    assert_eq!(ground.without_looks().await, 0);
}

/// More accounts than fit into two steps.
const WITHOUT_LOOKS: u32 = 450;

/// Accounts as a release has written them that knew no looks.
fn insert_accounts() -> &'static str {
    let rows = (0..WITHOUT_LOOKS).map(|number| {
        let (account, nickname) = (format!("old-{number}@example.com+kakao"), format!("snaIl{number}"));
        let address = hex::encode(account.parse::<Account>().expect("an account").key());
        let key = NicknameKey::of(&nickname);
        format!("('{account}', X'{address}', 'https://kauth.kakao.com', '{number}', '{nickname}', X'{key}', 1, '', 'user', 1, 1)")
    });
    let rows: Vec<String> = rows.collect();
    format!(
        "INSERT INTO account (account, address_key, issuer, subject, nickname, nickname_key, profile_set, introduction, role, created_at, \
         changed_at) VALUES {}",
        rows.join(", ")
    )
    .leak()
}

impl Ground {
    /// Returns the number of accounts whose looks are missing or of an older version.
    async fn without_looks(&self) -> i64 {
        self.rows(&format!("account WHERE made_looks < {}", NicknameLooks::VERSION))
            .await
    }

    async fn all_looks_are_made(&self) {
        eventually("all looks are made", async || {
            (self.without_looks().await == 0).then_some(())
        })
        .await;
    }
}

async fn looks_are_made_in_the_background_and_again_for_another_version(bed: Bed) {
    let ground = Ground::new(bed);
    drop(ground.auth().await);
    ground.bed.sql("auth", insert_accounts()).await;
    let all = i64::from(WITHOUT_LOOKS);
    // A replica that ends in the middle: the next one goes on where it ended.
    let first = ground.auth().await;
    eventually("a step is made", async || {
        (ground.without_looks().await < all).then_some(())
    })
    .await;
    drop(first);
    let auth = ground.auth().await;
    ground.all_looks_are_made().await;
    let kim = auth.sign_in(KIM).await;
    for name in ["snall0", "snall449", "SNAlL200"] {
        assert!(auth.is_taken(&kim, name).await, "{name}");
        assert!(!auth.set_nickname(&kim, name).await, "{name}");
    }
    drop(auth);

    // As another version of the algorithm has left them.
    for statement in ["DELETE FROM nickname_look", "UPDATE account SET looks_version = 0"] {
        ground.bed.sql("auth", statement).await;
    }
    let auth = ground.auth().await;
    ground.all_looks_are_made().await;
    assert!(!auth.set_nickname(&kim, "snall449").await);
    assert!(auth.set_nickname(&kim, "kim").await);
}
