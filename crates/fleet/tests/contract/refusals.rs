//! Every route × (no token, expired, forged with none, HS256, HS512 and RS256, another's token, refresh as access, suspended, resigned, blocked,
//! moderator, admin, owner): unauthorized requests get 403 as a problem, and no request gets a 500. What depends on stores and topics is tested on
//! the real engines, too.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use sosohappy_common::clock::{Clock as _, SystemClock};
use sosohappy_fleet::app::{Addresses, Phone, Tokens};
use sosohappy_testkit::{Cluster, EngineSet, eventually};

use crate::routes::{self, Route};
use crate::{addresses, binaries, logs};

/// A signed-in account with a nickname.
struct Person {
    nickname: String,
    tokens: Tokens,
}

impl Person {
    /// Returns what must not reach a log line.
    fn secrets(&self) -> Vec<String> {
        vec![bare(&self.tokens.access), bare(&self.tokens.refresh)]
    }
}

fn bare(token: &str) -> String {
    token.trim_start_matches("Bearer ").to_owned()
}

/// The processes of a fleet on the real engines beside config and auth.
const REPLICAS: [&str; 3] = ["feed-1", "dm-1", "notice-1"];

async fn fleet_on(set: EngineSet, settings: &[(&str, &str)]) -> Cluster {
    match set {
        EngineSet::Embedded => Cluster::embedded_with(binaries(), settings).await,
        EngineSet::Real => {
            // As the launcher has it.
            let mails = [("SOSOHAPPY_AUTH__MAIL__URL", "log:")];
            let settings = [settings, &mails[..]].concat();
            Cluster::real_of(binaries(), &settings, &REPLICAS).await
        }
    }
}

/// A fleet that logs all that it can.
async fn verbose_fleet(set: EngineSet) -> Cluster {
    let settings = logs::verbose();
    let settings: Vec<_> = settings
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    fleet_on(set, &settings).await
}

async fn person(addresses: &Addresses, name: &str) -> Person {
    let mut phone = Phone::new(addresses.clone(), &format!("{name}@example.com"), "google").unwrap();
    phone.sign_in().await.unwrap();
    phone
        .set_profile(name, "hello", &sosohappy_fleet::demo::picture(0))
        .await
        .unwrap();
    Person {
        nickname: name.to_owned(),
        tokens: phone.tokens.unwrap(),
    }
}

impl Route {
    /// Returns a value for every parameter, with `actor` as the acting account. A new parameter needs an arm here.
    fn values(&self, actor: &Person, other: &Person) -> Vec<(String, String)> {
        let names_actor_by_nickname = self.actor_parameter() == Some("nickname");
        let value = |name: &str| -> Option<String> {
            if name == "sendAt" {
                return Some((SystemClock.now() + Duration::from_hours(24)).to_string());
            }
            let text = match name {
                "email" => &actor.tokens.account,
                "srcNickname" | "sender" => &actor.nickname,
                "nickname" if names_actor_by_nickname => &actor.nickname,
                "nickname" | "dstNickname" | "receiver" | "member" | "members" => &other.nickname,
                "name" => "우리반",
                "date" | "timeBoundary" | "post" => "2026030112000000",
                "weather" => "sunny",
                "happiness" => "5",
                "categoryList" => "coffee",
                "wordList" => "spoiler",
                "text" | "title" | "introduction" | "note" => logs::TEXT,
                "language" => "ko",
                "platform" => "ios",
                "isPublic" | "accepted" => "true",
                "page" => "0",
                "size" => "7",
                "messageCnt" => "20",
                "imageId" | "commentId" | "postId" | "seq" | "report" => "1",
                "reason" => "spam",
                "action" => "dismiss",
                "role" => "moderator",
                "id" => "0123456789abcdef",
                "reaction" => "🩷",
                "idList" | "messageId" | "roomId" => "01890000-0000-7000-8000-000000000000",
                "provider" => "google",
                "providerId" | "codeVerifier" | "codeChallenge" | "authorizeCode" | "account" | "other"
                | "tokenDigest" | "version" | "payload" | "app_id" | "user_id" | "referrer_type" => logs::IDENTIFIER,
                "password" | "newPassword" => logs::PASSWORD,
                "code" => logs::CODE,
                "idToken" => logs::ID_TOKEN,
                "nonce" => logs::NONCE,
                "authorizationCode" => logs::AUTHORIZATION_CODE,
                "deviceToken" => logs::DEVICE_TOKEN,
                "all"
                | "expiresAt"
                | "muted"
                | "comment"
                | "message"
                | "until"
                | "open"
                | "sort"
                | "state"
                | "codeChallengeMethod"
                | "socketOffList"
                | "pushOffList"
                | "quietHours"
                | "timeZone"
                | "advertising"
                | "advertisingWording"
                | "mutePost"
                | "unmutePost"
                | "muteConversation"
                | "unmuteConversation"
                | "muteRoom"
                | "unmuteRoom"
                | "cursor"
                | "before"
                | "since"
                | "v"
                | "visibility"
                | "w"
                | "imageList"
                | "file"
                | "profileImg" => return None,
                unknown => panic!("{}: no value for the parameter {unknown}", self.path),
            };
            Some(text.to_owned())
        };
        self.parameters
            .iter()
            .filter_map(|name| Some((name.clone(), value(name)?)))
            .collect()
    }

    /// Returns the parameter that names the acting account, if there is one.
    fn actor_parameter(&self) -> Option<&str> {
        let others = [
            "findProfileImg",
            "/profileImg",
            "findIntroduction",
            "checkDuplicateNickname",
            "/report",
        ];
        let about_others = others.iter().any(|call| self.path.ends_with(call)) || self.path.contains("/admin/");
        let names = ["srcNickname", "sender", "email", "nickname"];
        let found = names.into_iter().find(|name| self.parameters.contains(*name))?;
        (!about_others).then_some(found)
    }

    /// Whether requests name the acting account. A socket reports the refusal by a close code: tests of the services cover its handshake.
    fn names_actor(&self) -> bool {
        self.actor_parameter().is_some() && !self.path.contains("/connect-")
    }

    /// Whether a request ends the session of its access token.
    fn ends_session(&self) -> bool {
        self.path.ends_with("/signOut") || self.path.ends_with("/resign")
    }

    /// Sends a request with an account and its access token, or without credentials.
    async fn send(&self, tokens: Option<(&str, &str)>, values: &[(String, String)]) -> Response {
        let mut request = sosohappy_common::tls::client().request(self.method.clone(), &self.url);
        if let Some((account, access)) = tokens {
            request = request.header("email", account).header("Authorization", access);
        }
        let request = if self.method == reqwest::Method::GET {
            request.query(values)
        } else {
            request.form(values)
        };
        request.send().await.unwrap()
    }
}

/// Asserts that a response is a 403 problem with the code for that kind of request.
async fn assert_refused(route: &Route, who: &str, response: Response) {
    let (status, media_type) = (response.status(), response.headers().get("content-type").cloned());
    let text = response.text().await.unwrap();
    assert_eq!(
        status,
        StatusCode::FORBIDDEN,
        "{} {} for {who}: {text}",
        route.method,
        route.path
    );
    assert_eq!(
        media_type.unwrap(),
        "application/problem+json",
        "{} for {who}",
        route.path
    );
    let problem: Value = serde_json::from_str(&text).unwrap();
    let code = problem["code"].as_str().unwrap();
    let expected = if who == "another account" {
        "not-yourself"
    } else {
        "access-denied"
    };
    assert_eq!(code, expected, "{} for {who}", route.path);
}

/// Asserts that a response is no failure of the service and, on routes of members, no refusal.
async fn assert_admitted(route: &Route, who: &str, response: Response) {
    let status = response.status();
    let text = response.text().await.unwrap();
    let told = format!("{} {} for {who}: {status} {text}", route.method, route.path);
    assert!(status.as_u16() < 500, "{told}");
    if route.closed && route.required_role().is_none() {
        let is_refused = status == StatusCode::FORBIDDEN || status == StatusCode::UNAUTHORIZED;
        assert!(!is_refused, "{told}");
    }
}

/// A role above a member's admits to a route of members, and not in the name of another account.
async fn assert_acts_for_oneself_only(route: &Route, who: &Person, owner: &Person, other: &Person) {
    let tokens = (who.tokens.account.as_str(), who.tokens.access.as_str());
    if route.names_actor() {
        let theirs = route.values(owner, other);
        assert_refused(route, "another account", route.send(Some(tokens), &theirs).await).await;
    }
    let own = route.send(Some(tokens), &route.values(who, owner)).await;
    assert_admitted(route, &who.nickname, own).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_admits_its_owner_only() {
    admit_owners_only(EngineSet::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_admits_its_owner_only_on_the_real_engines() {
    if EngineSet::real_is_there() {
        admit_owners_only(EngineSet::Real).await;
    }
}

async fn admit_owners_only(set: EngineSet) {
    let fleet = verbose_fleet(set).await;
    let addresses = &addresses(fleet.replicas[0]);
    let other = person(addresses, "other").await;
    let roles = [
        person_with_role(&fleet, addresses, "mod", ROLES[0]).await,
        person_with_role(&fleet, addresses, "boss", ROLES[1]).await,
    ];
    let (mut acting, mut secrets) = (0, other.secrets());
    secrets.extend(roles.iter().flat_map(Person::secrets));
    for (number, route) in routes::all(addresses).await.into_iter().enumerate() {
        // A new account for each route: some routes end a session or delete the account.
        let owner = person(addresses, &format!("owner{number}")).await;
        secrets.extend(owner.secrets());
        let mine = route.values(&owner, &other);
        let (account, access) = (owner.tokens.account.as_str(), owner.tokens.access.as_str());
        if route.closed {
            assert_refused(&route, "no token", route.send(None, &mine).await).await;
            let forged = [
                "Bearer forged".to_owned(),
                access.replace('.', "x"),
                format!("{}AAAA", &access[..access.len() - 4]),
                access.trim_start_matches("Bearer ").to_owned(),
                other.tokens.access.clone(),
            ];
            for token in &forged {
                assert_refused(&route, "forged", route.send(Some((account, token)), &mine).await).await;
            }
            assert_refused(
                &route,
                "forged",
                route.send(Some((&other.tokens.account, access)), &mine).await,
            )
            .await;

            if route.names_actor() {
                acting += 1;
                let theirs = route.values(&other, &owner);
                assert_refused(
                    &route,
                    "another account",
                    route.send(Some((account, access)), &theirs).await,
                )
                .await;
            }
        }
        if route.closed && route.required_role().is_none() {
            let fresh = if route.ends_session() {
                let moderator = person_with_role(&fleet, addresses, &format!("mod{number}"), ROLES[0]).await;
                let admin = person_with_role(&fleet, addresses, &format!("boss{number}"), ROLES[1]).await;
                secrets.extend(moderator.secrets().into_iter().chain(admin.secrets()));
                Some([moderator, admin])
            } else {
                None
            };
            for who in fresh.as_ref().unwrap_or(&roles) {
                assert_acts_for_oneself_only(&route, who, &owner, &other).await;
            }
        }
        assert_admitted(&route, "the owner", route.send(Some((account, access)), &mine).await).await;
    }
    assert!(acting > 15, "only {acting} routes were tested with another account");
    logs::assert_clean(&fleet, &secrets);
}

/// The roles above a member's, the lower one first.
const ROLES: [&str; 2] = ["moderator", "admin"];

impl Route {
    /// Returns the lowest of [`ROLES`] that the route admits; `None` where every member is admitted.
    fn required_role(&self) -> Option<&'static str> {
        let for_admins = [
            "/admin/audit",
            "/admin/decideRole",
            "/admin/resignations",
            "/admin/roleApplications",
        ];
        if for_admins.iter().any(|call| self.path.ends_with(call)) {
            return Some("admin");
        }
        self.path.contains("/admin/").then_some("moderator")
    }
}

/// Forges tokens with the claims of a real one: unsigned, with other algorithms, and under another key.
fn forgeries(access: &str) -> Vec<String> {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let decode = |part: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
    let parts: Vec<_> = access.trim_start_matches("Bearer ").split('.').collect();
    let (header, claims) = (decode(parts[0]), decode(parts[1]));
    let mut forged = Vec::new();
    for algorithm in ["none", "None", "HS256", "RS256", "ES256"] {
        let mut header = header.clone();
        header["alg"] = algorithm.into();
        let signed = format!("{}.{}", encode(&header), parts[1]);
        forged.push(format!("{signed}."));
        // The signature of the real token, under another header.
        forged.push(format!("{signed}.{}", parts[2]));
    }
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let mut header = jsonwebtoken::decode_header(access.trim_start_matches("Bearer ")).unwrap();
        header.alg = algorithm;
        let key = EncodingKey::from_secret(b"another key");
        forged.push(jsonwebtoken::encode(&header, &claims, &key).unwrap());
    }
    forged.into_iter().map(|token| format!("Bearer {token}")).collect()
}

/// Waits until feed, dm and notice refuse these tokens, then auth does, too.
async fn wait_until_refused(routes: &[Route], who: &Person, other: &Person) {
    for service in ["/auth-service/", "/feed-service/", "/dm-service/", "/notice-service/"] {
        let mut closed = routes
            .iter()
            .filter(|route| route.closed && route.path.starts_with(service));
        let route = closed
            .find(|route| route.method == reqwest::Method::GET && !route.path.contains("/connect-"))
            .or_else(|| {
                routes
                    .iter()
                    .find(|route| route.closed && route.path.starts_with(service))
            })
            .unwrap();
        let tokens = (who.tokens.account.as_str(), who.tokens.access.as_str());
        eventually("the account is out", async || {
            let response = route.send(Some(tokens), &route.values(who, other)).await;
            (response.status() == StatusCode::FORBIDDEN).then_some(())
        })
        .await;
    }
}

async fn grant(fleet: &Cluster, addresses: &Addresses, person: &Person, role: &str) {
    let account = person.tokens.account.parse().unwrap();
    sosohappy_fleet::grant_role::run(&addresses.auth, &fleet.operator_token, &account, role.parse().unwrap())
        .await
        .unwrap();
}

/// A member of a role, whose token names it.
async fn person_with_role(fleet: &Cluster, addresses: &Addresses, name: &str, role: &str) -> Person {
    let mut person = person(addresses, name).await;
    grant(fleet, addresses, &person, role).await;
    let mut phone = Phone::new(addresses.clone(), &format!("{name}@example.com"), "google").unwrap();
    phone.sign_in().await.unwrap();
    person.tokens = phone.tokens.unwrap();
    person
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_admits_a_forged_token_or_who_is_out() {
    refuse_forgeries_and_who_is_out(EngineSet::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_admits_a_forged_token_or_who_is_out_on_the_real_engines() {
    if EngineSet::real_is_there() {
        refuse_forgeries_and_who_is_out(EngineSet::Real).await;
    }
}

async fn refuse_forgeries_and_who_is_out(set: EngineSet) {
    let fleet = verbose_fleet(set).await;
    let addresses = &addresses(fleet.replicas[0]);
    let (owner, other) = (person(addresses, "owner").await, person(addresses, "other").await);
    let (suspended, resigned) = (person(addresses, "banned").await, person(addresses, "left").await);
    let admin = person_with_role(&fleet, addresses, "boss", "admin").await;
    let routes = routes::all(addresses).await;
    let call = |path: &str| routes.iter().find(|route| route.path.ends_with(path)).unwrap();
    let send = |route: &Route, who: &Person, values: &[(&str, &str)]| {
        let values: Vec<(String, String)> = values
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let (route, tokens) = (route.clone(), who.tokens.clone());
        async move {
            route
                .send(Some((&tokens.account, &tokens.access)), &values)
                .await
                .status()
        }
    };
    let ban = [("nickname", "banned"), ("reason", "spam")];
    assert_eq!(send(call("/admin/suspend"), &admin, &ban).await, StatusCode::OK);
    let leave = [("email", resigned.tokens.account.as_str())];
    assert_eq!(send(call("/resign"), &resigned, &leave).await, StatusCode::OK);
    for out in [&suspended, &resigned] {
        wait_until_refused(&routes, out, &other).await;
    }

    let forged = forgeries(&owner.tokens.access);
    for route in routes.iter().filter(|route| route.closed) {
        let mine = route.values(&owner, &other);
        let account = owner.tokens.account.as_str();
        for token in &forged {
            assert_refused(route, "forged", route.send(Some((account, token)), &mine).await).await;
        }
        let refresh = owner.tokens.refresh.as_str();
        assert_refused(
            route,
            "refresh as access",
            route.send(Some((account, refresh)), &mine).await,
        )
        .await;
        for (who, out) in [("suspended", &suspended), ("resigned", &resigned)] {
            let tokens = (out.tokens.account.as_str(), out.tokens.access.as_str());
            assert_refused(route, who, route.send(Some(tokens), &route.values(out, &other)).await).await;
        }
    }
    // The owner was kept out by none of it.
    assert_eq!(send(call("/sessions"), &owner, &[]).await, StatusCode::OK);
    let mut secrets: Vec<String> = forged.iter().map(|token| bare(token)).collect();
    for person in [&owner, &other, &suspended, &resigned, &admin] {
        secrets.extend(person.secrets());
    }
    logs::assert_clean(&fleet, &secrets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_admits_the_roles_that_it_requires() {
    admit_required_roles(EngineSet::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_admits_the_roles_that_it_requires_on_the_real_engines() {
    if EngineSet::real_is_there() {
        admit_required_roles(EngineSet::Real).await;
    }
}

async fn admit_required_roles(set: EngineSet) {
    let fleet = fleet_on(set, &[]).await;
    let addresses = &addresses(fleet.replicas[0]);
    let member = person(addresses, "member").await;
    let moderator = person_with_role(&fleet, addresses, "mod", ROLES[0]).await;
    let admin = person_with_role(&fleet, addresses, "boss", ROLES[1]).await;
    let mut required = 0;
    for (number, route) in routes::all(addresses).await.into_iter().enumerate() {
        let Some(role) = route.required_role() else { continue };
        required += 1;
        // A new account for each route: some routes suspend it.
        let other = person(addresses, &format!("other{number}")).await;
        for (who, has_role) in [(&member, false), (&moderator, role == ROLES[0]), (&admin, true)] {
            let tokens = (who.tokens.account.as_str(), who.tokens.access.as_str());
            let response = route.send(Some(tokens), &route.values(who, &other)).await;
            let status = response.status();
            let text = response.text().await.unwrap();
            let told = format!("{} {} for {}: {status} {text}", route.method, route.path, who.nickname);
            assert!(status.as_u16() < 500, "{told}");
            let is_refused = status == StatusCode::FORBIDDEN && text.contains("role-required");
            assert_eq!(is_refused, !has_role, "{told}");
            if is_refused {
                let required = if role == ROLES[0] {
                    "moderator or admin"
                } else {
                    "admin"
                };
                let detail = format!("\"detail\":\"the role {required} is required\"");
                assert!(text.contains(&detail), "{told}");
            }
        }
    }
    assert!(required >= 8, "only {required} routes require a role");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_who_is_blocked_the_other_is_unknown_on_every_route() {
    let fleet = Cluster::embedded(binaries()).await;
    let addresses = &addresses(fleet.replicas[0]);
    let other = person(addresses, "other").await;
    let nobody = Person {
        nickname: "nobody".to_owned(),
        tokens: other.tokens.clone(),
    };
    let all = routes::all(addresses).await;
    let find = |path: &str| all.iter().find(|route| route.path.ends_with(path)).unwrap();
    let save = find("/saveFeed");
    let tokens = (other.tokens.account.as_str(), other.tokens.access.as_str());
    let saved = save.send(Some(tokens), &save.values(&other, &other)).await;
    assert_eq!(saved.status(), StatusCode::OK);
    let mut compared = 0;
    for (number, route) in all.iter().enumerate() {
        let names_other = ["dstNickname", "receiver"]
            .iter()
            .any(|name| route.parameters.contains(*name))
            || (route.parameters.contains("nickname") && route.actor_parameter() != Some("nickname"));
        // A report reaches the moderators across a block, and whether a name is taken is no secret.
        let exempt = [
            "/report",
            "/checkDuplicateNickname",
            "/setProfile",
            "/block",
            "/unblock",
        ];
        let is_exempt = exempt.iter().any(|call| route.path.ends_with(call)) || route.path.contains("/admin/");
        if !route.closed || !names_other || is_exempt {
            continue;
        }
        let blocked = person(addresses, &format!("blocked{number}")).await;
        let block = [
            ("srcNickname".to_owned(), other.nickname.clone()),
            ("dstNickname".to_owned(), blocked.nickname.clone()),
        ];
        let tokens = (other.tokens.account.as_str(), other.tokens.access.as_str());
        let done = find("/auth-service/block").send(Some(tokens), &block).await;
        assert_eq!(done.status(), StatusCode::OK);
        let tokens = (blocked.tokens.account.as_str(), blocked.tokens.access.as_str());
        compared += 1;
        // Feed hears of the block a moment later.
        eventually("the other is unknown", async || {
            let seen = route.send(Some(tokens), &route.values(&blocked, &other)).await;
            let unknown = route.send(Some(tokens), &route.values(&blocked, &nobody)).await;
            let (seen_status, unknown_status) = (seen.status(), unknown.status());
            assert!(seen_status.as_u16() < 500, "{}: {seen_status}", route.path);
            (seen_status == unknown_status && seen.text().await.unwrap() == unknown.text().await.unwrap()).then_some(())
        })
        .await;
    }
    assert!(compared > 8, "only {compared} routes were compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_is_refused_on_every_route() {
    // Long enough to set a profile with it on a busy machine.
    let lifetime = [("SOSOHAPPY_AUTH__TOKENS__ACCESS_LIFETIME", "15s")];
    let fleet = Cluster::embedded_with(binaries(), &lifetime).await;
    let addresses = &addresses(fleet.replicas[0]);
    let (owner, other) = (person(addresses, "owner").await, person(addresses, "other").await);
    tokio::time::sleep(std::time::Duration::from_millis(15_200)).await;
    for route in routes::all(addresses).await.into_iter().filter(|route| route.closed) {
        let tokens = (owner.tokens.account.as_str(), owner.tokens.access.as_str());
        assert_refused(
            &route,
            "expired",
            route.send(Some(tokens), &route.values(&owner, &other)).await,
        )
        .await;
    }
}
