//! Leaving erases every byte: texts, names, addresses, tokens and pictures of resigned accounts are in no file of the data folder once
//! `erasure.deadline` has passed, while those of the others are; also when the fleet crashes between two steps of a resignation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::future::join_all;
use image::{ImageFormat, RgbImage};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_common::clock::{Clock as _, Entropy, SystemClock, SystemEntropy};
use sosohappy_events::types::Role;
use sosohappy_fleet::app::{Addresses, Message, NewPost, Phone, Tokens};
use sosohappy_testkit::{CallAnswer, Cluster, FakeProvider, FakeSmtp, ProviderKey, SmtpBehavior, eventually};

/// Accounts that resign.
const LEAVING: usize = 20;

/// Of each of them.
const POSTS: i64 = 24;
const COMMENTS: i64 = 8;
const MESSAGES: i64 = 8;
const MUTED: usize = 4;
const DRAFTS: i64 = 3;

/// The fleet crashes after each of these steps of a resignation. The test of revocations has the other ones.
const CRASHES: [&str; 8] = [
    "auth.resign-committed",
    "feed.posts-erased",
    "feed.account-erased",
    "dm.content-erased",
    "dm.account-erased",
    "notice.account-erased",
    "auth.receipt-committed",
    "auth.proof-committed",
];

/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Holds a post or a comment for review.
const HELD_WORD: &str = "gamble";

/// `erasure.deadline` of the test.
const DEADLINE: &str = "16s";

/// How long a busy machine may take for it.
const PATIENCE: Duration = Duration::from_mins(4);

/// The first of the month of all posts.
const MONTH: i64 = 2_026_030_112_000_000;
const DAY: i64 = 100_000_000;

/// A text that occurs nowhere by chance: letters that hexadecimal numbers do not have, as many as a nickname may have.
fn canary() -> String {
    let entropy: &dyn Entropy = &SystemEntropy;
    let hex = entropy.hex(5);
    hex.bytes()
        .map(|digit| {
            char::from(
                b'g' + char::from(digit)
                    .to_digit(16)
                    .map_or(0, |digit| u8::try_from(digit).unwrap_or(0)),
            )
        })
        .collect()
}

/// A picture of noise: no part of it occurs twice.
fn noise() -> Vec<u8> {
    let mut pixels = vec![0; 48 * 48 * 3];
    let entropy: &dyn Entropy = &SystemEntropy;
    entropy.fill(&mut pixels);
    let mut png = Cursor::new(Vec::new());
    let picture = RgbImage::from_raw(48, 48, pixels).expect("three bytes a pixel");
    picture
        .write_to(&mut png, ImageFormat::Png)
        .expect("a picture can be encoded");
    png.into_inner()
}

/// Bytes that only this picture has, as it is stored.
fn middle(stored: &[u8]) -> Vec<u8> {
    let middle = stored.len() / 2;
    stored[middle..middle + 24].to_vec()
}

/// Planted texts, as bytes.
#[derive(Debug, Default)]
struct Planted {
    /// In a file from the moment it was acknowledged.
    stored: BTreeSet<Vec<u8>>,
    /// Never stored as they are.
    secret: BTreeSet<Vec<u8>>,
}

impl Planted {
    fn text(&mut self) -> String {
        let text = canary();
        self.stored.insert(text.clone().into_bytes());
        text
    }

    fn len(&self) -> usize {
        self.stored.len() + self.secret.len()
    }

    fn all(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.stored.iter().chain(&self.secret)
    }
}

/// Which of the needles are in which files below a folder.
fn scan<'a>(folder: &Path, needles: &[&'a Vec<u8>]) -> BTreeMap<&'a Vec<u8>, String> {
    let automaton = AhoCorasick::new(needles).expect("a thousand needles");
    let (mut found, mut folders, mut read) = (BTreeMap::new(), vec![folder.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // Deleted meanwhile.
            let Ok(bytes) = std::fs::read(&path) else { continue };
            read += bytes.len();
            for hit in automaton.find_overlapping_iter(&bytes) {
                found.insert(needles[hit.pattern().as_usize()], path.display().to_string());
            }
        }
    }
    assert!(read > 100_000, "the folder of the fleet has files");
    found
}

/// Signs up and leaves traces in every service; `witness` stays.
async fn plant(addresses: &Addresses, witness: &Phone) -> (Phone, Planted) {
    let mut planted = Planted::default();
    let email = format!("{}@example.com", planted.text());
    let mut phone = Phone::new(addresses.clone(), &email, "kakao").unwrap();
    phone.sign_in().await.unwrap();
    let nickname = planted.text();
    phone.set_profile(&nickname, &planted.text(), &noise()).await.unwrap();
    phone.re_issue().await.unwrap();
    let tokens = phone.tokens.clone().unwrap();
    planted
        .secret
        .extend([&tokens.access, &tokens.refresh].map(|token| token.as_bytes()[token.len() - 40..].to_vec()));
    let photo = phone
        .photo_of(&nickname)
        .await
        .unwrap()
        .expect("the photo that was set");
    planted.stored.insert(middle(&BASE64_STANDARD.decode(photo).unwrap()));

    for day in 0..POSTS {
        let pictures = if day < 2 { vec![noise()] } else { Vec::new() };
        let post = NewPost {
            date: MONTH + day * DAY,
            text: &planted.text(),
            pictures: &pictures,
        };
        phone.save_post(&post).await.unwrap();
    }
    for day in 0..2 {
        let post = phone.own_day(MONTH + day * DAY).await.unwrap().expect("the post");
        let picture = phone.picture(post.image_id_list[0]).await.unwrap();
        planted.stored.insert(middle(&picture));
    }
    let date = MONTH.to_string();
    for _ in 0..COMMENTS {
        let text = planted.text();
        let comment = [
            ("srcNickname", nickname.as_str()),
            ("nickname", &witness.nickname),
            ("date", &date),
            ("text", &text),
        ];
        call(&phone, &addresses.feed, "feed-service/saveComment", &comment).await;
    }
    for (who, whom) in [(&phone, witness), (witness, &phone)] {
        let pair = [("srcNickname", who.nickname.as_str()), ("dstNickname", &whom.nickname)];
        call(who, &addresses.auth, "auth-service/follow", &pair).await;
        let post = [
            ("srcNickname", who.nickname.as_str()),
            ("nickname", &whom.nickname),
            ("date", &date),
        ];
        call(who, &addresses.feed, "feed-service/updateBookmark", &post).await;
        assert!(who.toggle_like(&whom.nickname, MONTH).await.unwrap());
    }
    let muted: Vec<String> = (0..MUTED).map(|_| planted.text()).collect();
    call(
        &phone,
        &addresses.auth,
        "auth-service/mutedWords",
        &[("wordList", &muted.join(","))],
    )
    .await;

    let mut socket = phone.connect_dm().await.unwrap();
    let messages: Vec<Message> = (0..MESSAGES)
        .map(|number| Message {
            sender: nickname.clone(),
            receiver: witness.nickname.clone(),
            date: MONTH + number,
            text: planted.text(),
        })
        .collect();
    for message in &messages {
        socket.send(message).await.unwrap();
    }
    eventually("the messages are stored", async || {
        let history = phone.history_with(&witness.nickname, MONTH + DAY).await.unwrap();
        (history == messages).then_some(())
    })
    .await;
    plant_copies(addresses, &phone, witness, &mut planted).await;
    plant_in_room(addresses, &phone, witness, &mut planted).await;
    plant_for_moderators(addresses, &phone, witness, &mut planted).await;
    (phone, planted)
}

/// Leaves traces beside the content itself: drafts, scheduled messages, former texts, reports and their copies, push tokens.
async fn plant_copies(addresses: &Addresses, phone: &Phone, witness: &Phone, planted: &mut Planted) {
    let nickname = phone.nickname.as_str();
    for day in 0..DRAFTS {
        let (date, text) = ((MONTH + (POSTS + day) * DAY).to_string(), planted.text());
        let draft = [("nickname", nickname), ("date", &date), ("text", &text)];
        call(phone, &addresses.feed, "feed-service/saveDraft", &draft).await;
    }
    let send_at = (SystemClock.now() + Duration::from_hours(24)).to_string();
    let scheduled = [
        ("receiver", witness.nickname.as_str()),
        ("text", &planted.text()),
        ("sendAt", &send_at),
    ];
    call(phone, &addresses.dm, "dm-service/scheduleMessage", &scheduled).await;
    let pair = [
        ("sender", nickname),
        ("receiver", &witness.nickname),
        ("cursor", "start"),
    ];
    let page = call(phone, &addresses.dm, "dm-service/findDirectMessage", &pair).await;
    let id = page["content"][0]["id"]
        .as_str()
        .expect("a message has an id")
        .to_owned();
    let edit = [("id", id.as_str()), ("text", &planted.text())];
    call(phone, &addresses.dm, "dm-service/editMessage", &edit).await;
    let report = [
        ("nickname", nickname),
        ("message", &id),
        ("reason", "harassment"),
        ("text", &planted.text()),
    ];
    call(witness, &addresses.auth, "auth-service/report", &report).await;
    let device = [
        ("deviceToken", planted.text()),
        ("platform", "ios".to_owned()),
        ("language", "ko".to_owned()),
    ];
    let device = device.each_ref().map(|(name, value)| (*name, value.as_str()));
    call(phone, &addresses.notice, "notice-service/registerDevice", &device).await;
}

/// Leaves a message and its former text in a room that the witness stays in, and one of the witness.
async fn plant_in_room(addresses: &Addresses, phone: &Phone, witness: &Phone, planted: &mut Planted) {
    let room = [("name", "우리반"), ("members", witness.nickname.as_str())];
    let room = call(phone, &addresses.dm, "dm-service/createRoom", &room).await;
    let room = room["roomId"].as_str().expect("a room has an id");
    say_in_room(witness, room, "welcome").await;
    let id = say_in_room(phone, room, &planted.text()).await;
    let text = planted.text();
    let edit = [("id", id.as_str()), ("text", text.as_str())];
    call(phone, &addresses.dm, "dm-service/editMessage", &edit).await;
}

/// Returns the id of the message.
async fn say_in_room(phone: &Phone, room: &str, text: &str) -> String {
    let mut socket = phone.resume_dm(0).await.unwrap();
    let message = json!({ "roomId": room, "text": text });
    let frame = json!({ "topic": "message", "id": room, "data": message });
    socket.send(&frame).await.unwrap();
    loop {
        let frame: Value = serde_json::from_str(&socket.text().await.unwrap()).unwrap();
        if frame["topic"] == "accepted" {
            let id = frame["data"]["messageId"].as_str().expect("a message has an id");
            return id.to_owned();
        }
        assert!(frame["topic"] != "rejected" && frame["topic"] != "error", "{frame}");
    }
}

/// Leaves texts for moderators, of whom the witness is one: an application, a note about a decision, and what is held for review.
async fn plant_for_moderators(addresses: &Addresses, phone: &Phone, witness: &Phone, planted: &mut Planted) {
    let nickname = phone.nickname.as_str();
    let application = [("role", "moderator"), ("text", &planted.text())];
    call(phone, &addresses.auth, "auth-service/applyRole", &application).await;

    let text = planted.text();
    let report = [("nickname", nickname), ("reason", "spam"), ("text", &text)];
    call(witness, &addresses.auth, "auth-service/report", &report).await;
    let open = read(witness, &addresses.auth, "auth-service/admin/reports", &[]).await;
    let open = open["content"].as_array().expect("reports");
    let report = open.iter().find(|report| report["text"] == text.as_str());
    let report = report.expect("the report")["report"].to_string();
    let decision = [
        ("report", report.as_str()),
        ("action", "warn"),
        ("note", &planted.text()),
    ];
    call(witness, &addresses.auth, "auth-service/admin/resolveReport", &decision).await;

    let post = NewPost {
        date: MONTH + (POSTS + DRAFTS) * DAY,
        text: &format!("{HELD_WORD} {}", planted.text()),
        pictures: &[],
    };
    phone.save_post(&post).await.unwrap();
    let (date, text) = (MONTH.to_string(), format!("{HELD_WORD} {}", planted.text()));
    let comment = [
        ("srcNickname", nickname),
        ("nickname", &witness.nickname),
        ("date", &date),
        ("text", &text),
    ];
    call(phone, &addresses.feed, "feed-service/saveComment", &comment).await;
}

/// Signs up with an address and a password; another mail to the address waits in the queue.
async fn plant_email_account(addresses: &Addresses, smtp: &FakeSmtp) -> (Phone, Planted) {
    let mut planted = Planted::default();
    let address = format!("{}@example.com", planted.text());
    post(addresses, "requestEmailCode", &[("email", address.as_str())]).await;
    let code = smtp.mail_to(&address, 1).await.code();
    let password = format!("{} {}", canary(), canary());
    let fields = [
        ("email", address.as_str()),
        ("code", code.as_str()),
        ("password", password.as_str()),
    ];
    let signed_up = post(addresses, "signUp", &fields).await;
    planted.secret.insert(password.into_bytes());
    let mut phone = Phone::new(addresses.clone(), &address, "email").unwrap();
    phone.tokens = Some(tokens_of(&signed_up));
    let nickname = planted.text();
    phone.set_profile(&nickname, &planted.text(), &noise()).await.unwrap();

    smtp.set_behavior(SmtpBehavior::Refuse("450 mailbox busy"));
    let tried = smtp.connections();
    post(addresses, "requestEmailCode", &[("email", address.as_str())]).await;
    eventually("the mail was tried", async || {
        (smtp.connections() > tried).then_some(())
    })
    .await;
    (phone, planted)
}

/// Signs in with Apple, whose refresh token auth keeps until it is revoked. Returns the token, too.
async fn plant_apple_account(addresses: &Addresses, apple: &FakeProvider) -> (Phone, Planted, String) {
    let mut planted = Planted::default();
    let (email, subject) = (format!("{}@example.com", planted.text()), planted.text());
    let refresh_token = format!("r.{}", canary());
    planted.secret.insert(refresh_token.clone().into_bytes());
    let now = SystemClock.now().as_second();
    let claims = json!({
        "iss": "https://appleid.apple.com", "aud": "app", "sub": subject, "iat": now, "exp": now + 600,
    });
    let exchanged = json!({
        "access_token": "a", "token_type": "Bearer", "expires_in": 3600, "refresh_token": refresh_token,
        "id_token": ProviderKey::Rsa.sign(Some("rsa"), &claims),
    });
    apple.set_call_answer("/token", CallAnswer::of(200, exchanged.to_string()));

    let challenge = [("codeChallenge", CHALLENGE), ("codeChallengeMethod", "S256")];
    let code: Value = post(addresses, "getAuthorizeCode", &challenge)
        .await
        .json()
        .await
        .unwrap();
    let apples_code = BASE64_STANDARD.encode("c0ffee.0.code");
    let fields = [
        ("email", email.as_str()),
        ("provider", "apple"),
        ("providerId", subject.as_str()),
        ("codeVerifier", VERIFIER),
        ("authorizeCode", code["authorizeCode"].as_str().expect("a code")),
        ("authorizationCode", apples_code.as_str()),
    ];
    let signed_in = post(addresses, "signIn", &fields).await;
    let mut phone = Phone::new(addresses.clone(), &email, "apple").unwrap();
    phone.tokens = Some(tokens_of(&signed_in));
    phone
        .set_profile(&planted.text(), &planted.text(), &noise())
        .await
        .unwrap();
    (phone, planted, refresh_token)
}

/// POSTs a form to auth without a token; it succeeds.
async fn post(addresses: &Addresses, path: &str, form: &[(&str, &str)]) -> reqwest::Response {
    let url = format!("{}/auth-service/{path}", addresses.auth);
    let request = sosohappy_common::tls::client().post(url).form(form);
    request.send().await.unwrap().error_for_status().unwrap()
}

fn tokens_of(signed_in: &reqwest::Response) -> Tokens {
    let header = |name: &str| signed_in.headers()[name].to_str().unwrap().to_owned();
    Tokens {
        account: header("email"),
        access: header("authorization"),
        refresh: header("authorization-refresh"),
    }
}

/// POSTs a form as an account; it succeeds. Returns the answer.
async fn call(phone: &Phone, base: &str, path: &str, form: &[(&str, &str)]) -> Value {
    let request = sosohappy_common::tls::client()
        .post(format!("{base}/{path}"))
        .form(form);
    answer(phone, path, request).await
}

/// As [`call`], by GET.
async fn read(phone: &Phone, base: &str, path: &str, query: &[(&str, &str)]) -> Value {
    let request = sosohappy_common::tls::client()
        .get(format!("{base}/{path}"))
        .query(query);
    answer(phone, path, request).await
}

async fn answer(phone: &Phone, path: &str, request: reqwest::RequestBuilder) -> Value {
    let tokens = phone.tokens.as_ref().expect("signed in");
    let request = request
        .header("authorization", &tokens.access)
        .header("email", &tokens.account);
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

/// Starts a fleet that erases soon.
async fn start(smtp: &FakeSmtp, apple: &FakeProvider) -> Cluster {
    let key = FakeProvider::client_key();
    let (token_url, revoke_url) = (apple.at("/token"), apple.at("/revoke"));
    let settings = [
        ("SOSOHAPPY_AUTH__SIGN_IN__APPLE__KEYS_URL", apple.keys_url()),
        ("SOSOHAPPY_AUTH__APPLE__PRIVATE_KEY", key.as_str()),
        ("SOSOHAPPY_AUTH__APPLE__KEY_ID", "key"),
        ("SOSOHAPPY_AUTH__APPLE__TEAM_ID", "team"),
        ("SOSOHAPPY_AUTH__APPLE__CLIENT_ID", "app"),
        ("SOSOHAPPY_AUTH__APPLE__TOKEN_URL", token_url.as_str()),
        ("SOSOHAPPY_AUTH__APPLE__REVOKE_URL", revoke_url.as_str()),
        ("SOSOHAPPY_AUTH__MAIL__URL", smtp.url()),
        ("SOSOHAPPY_FEED__REVIEW__WORDS", HELD_WORD),
        ("SOSOHAPPY_CONFIG__ERASURE__DEADLINE", DEADLINE),
        ("SOSOHAPPY_AUTH__ERASURE__DEADLINE", DEADLINE),
        ("SOSOHAPPY_FEED__ERASURE__DEADLINE", DEADLINE),
        ("SOSOHAPPY_DM__ERASURE__DEADLINE", DEADLINE),
        ("SOSOHAPPY_NOTICE__ERASURE__DEADLINE", DEADLINE),
        // A busy machine may take longer than the default to erase.
        ("SOSOHAPPY_AUTH__RESIGNATION__SIGN_UP_WAIT", "1m"),
    ];
    let binaries = Path::new(env!("CARGO_BIN_EXE_fleet"))
        .parent()
        .expect("a binary is in a folder");
    Cluster::embedded_with(binaries, &settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_a_resigned_account_is_left() {
    let (smtp, apple) = (FakeSmtp::start().await, FakeProvider::start().await);
    let mut fleet = start(&smtp, &apple).await;
    let ports = fleet.replicas[0];
    let addresses = Addresses::local(ports.auth, ports.feed, ports.dm, ports.notice);

    // The witness stays, and so do the traces of its own.
    let mut kept = Planted::default();
    let mut witness = Phone::new(addresses.clone(), &format!("{}@example.com", kept.text()), "google").unwrap();
    witness.sign_in().await.unwrap();
    witness.set_profile(&kept.text(), &kept.text(), &noise()).await.unwrap();
    let text = kept.text();
    let post = NewPost {
        date: MONTH,
        text: &text,
        pictures: &[],
    };
    witness.save_post(&post).await.unwrap();
    let account = witness.account().unwrap().parse().unwrap();
    sosohappy_fleet::grant_role::run(&addresses.auth, &fleet.operator_token, &account, Role::Moderator)
        .await
        .unwrap();
    witness.sign_in().await.unwrap();

    let mut leaving: Vec<(Phone, Planted)> = Vec::new();
    while leaving.len() < LEAVING {
        leaving.extend(join_all((0..4).map(|_| plant(&addresses, &witness))).await);
    }
    leaving.push(plant_email_account(&addresses, &smtp).await);
    let mut of_apple = Vec::new();
    for _ in 0..2 {
        let (phone, planted, refresh_token) = plant_apple_account(&addresses, &apple).await;
        of_apple.push((phone.clone(), refresh_token));
        leaving.push((phone, planted));
    }
    let count: usize = leaving.iter().map(|(_, planted)| planted.len()).sum();
    assert!(count >= 1000, "{count}");
    let mut missing: Vec<&Vec<u8>> = leaving
        .iter()
        .flat_map(|(_, planted)| &planted.stored)
        .chain(&kept.stored)
        .collect();
    // While a log is written back into its database, a scan may read the one too early and the other too late.
    eventually("the scan finds what is stored", async || {
        let found = scan(fleet.folder(), &missing);
        missing.retain(|needle| !found.contains_key(*needle));
        missing.is_empty().then_some(())
    })
    .await;

    returns_to_nothing(&addresses, &witness).await;
    // Its second call is due a minute later, while the others leave.
    resign_over_a_crash(&mut fleet, &addresses, &of_apple[0].0, "auth.call-performed").await;
    resign_over_a_crash(&mut fleet, &addresses, &of_apple[1].0, "auth.call-finished").await;
    for ((phone, _), step) in leaving.iter().zip(CRASHES) {
        resign_over_a_crash(&mut fleet, &addresses, phone, step).await;
    }
    let resigned = Instant::now();
    for (phone, _) in &leaving[CRASHES.len()..leaving.len() - of_apple.len()] {
        phone.resign().await.unwrap();
    }
    // Before the scans, each of which takes a processor for seconds.
    eventually("every resignation has its proof", async || {
        (pending(&fleet, &addresses).await["count"] == 0).then_some(())
    })
    .await;
    let gone: Vec<&Vec<u8>> = leaving.iter().flat_map(|(_, planted)| planted.all()).collect();
    loop {
        let left = scan(fleet.folder(), &gone);
        if left.is_empty() {
            break;
        }
        assert!(
            resigned.elapsed() < PATIENCE,
            "{} of {count} are left: {}",
            left.len(),
            places(&left)
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!(
        "{count} canaries are found gone {:.1} s after the last crash",
        resigned.elapsed().as_secs_f64()
    );
    let here: Vec<&Vec<u8>> = kept.stored.iter().collect();
    assert_eq!(scan(fleet.folder(), &here).len(), here.len(), "what others have stays");
    assert_eq!(witness.own_day(MONTH).await.unwrap().expect("the post").text, text);

    let revoked = apple.calls("/revoke");
    let times = |token: &str| revoked.iter().filter(|call| call.form["token"] == token).count();
    assert!(times(&of_apple[0].1) >= 2, "the crash has hidden the first success");
    assert!(times(&of_apple[1].1) >= 1);
}

/// Resigns while the fleet crashes after a step, and waits until every service has erased the account.
async fn resign_over_a_crash(fleet: &mut Cluster, addresses: &Addresses, phone: &Phone, step: &str) {
    fleet.crash_at(step);
    let answered = phone.resign().await;
    let crashed = fleet.crashed().await;
    fleet.restart(&crashed).await;
    let is_signed_in = answered.is_err() && phone.clone().re_issue().await.unwrap() == StatusCode::OK;
    if is_signed_in {
        phone.resign().await.unwrap();
    }
    eventually(&format!("{step}: every service has erased"), async || {
        let pending = pending(fleet, addresses).await;
        let pending = pending["content"].as_array().expect("a list");
        pending.iter().all(|one| one["missing"] == json!([])).then_some(())
    })
    .await;
    let status = phone.clone().re_issue().await.unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN, "{step}: still there");
}

/// Returns the resignations without a proof.
async fn pending(fleet: &Cluster, addresses: &Addresses) -> Value {
    let url = format!("{}/auth-service/pendingResignations", addresses.auth);
    let request = sosohappy_common::tls::client()
        .get(url)
        .bearer_auth(&fleet.operator_token);
    request.send().await.unwrap().json().await.unwrap()
}

/// Cases C8: a person who signs up again at once sees nothing of the account before.
async fn returns_to_nothing(addresses: &Addresses, witness: &Phone) {
    let (mut phone, _) = plant(addresses, witness).await;
    phone.resign().await.unwrap();
    assert_eq!(phone.sign_in().await.unwrap(), "", "the profile is not set");
    phone.set_profile(&canary(), "", &noise()).await.unwrap();
    assert!(
        !phone.post_of(&witness.nickname, MONTH).await.unwrap().is_liked,
        "the like is gone"
    );
    assert!(phone.own_month(MONTH).await.unwrap().is_empty());
    assert!(phone.conversations().await.unwrap().is_empty());
    let nickname = [("nickname", phone.nickname.as_str())];
    for (base, path, query, list) in [
        (&addresses.feed, "feed-service/findBookmark", &nickname[..], "content"),
        (&addresses.notice, "notice-service/findNotice", &[], "content"),
        (&addresses.auth, "auth-service/findFollowing", &[], "content"),
        (&addresses.auth, "auth-service/findFollower", &[], "content"),
        (&addresses.auth, "auth-service/mutedWords", &[], "words"),
    ] {
        let answer = read(&phone, base, path, query).await;
        assert_eq!(answer[list], json!([]), "{path}: {answer}");
    }
}

/// Files with examples of what they hold.
fn places(left: &BTreeMap<&Vec<u8>, String>) -> String {
    let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (needle, file) in left {
        files
            .entry(file)
            .or_default()
            .push(String::from_utf8_lossy(needle).into_owned());
    }
    files.iter().fold(String::new(), |mut text, (file, needles)| {
        let _ = write!(
            text,
            "\n{file}: {} as {:?}",
            needles.len(),
            &needles[..needles.len().min(3)]
        );
        text
    })
}
