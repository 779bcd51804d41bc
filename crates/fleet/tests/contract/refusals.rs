//! Every route × (no token, forged token, expired token, another account, owner): unauthorized requests get 403 as a problem, and no
//! request gets a 500.

use reqwest::{Response, StatusCode};
use serde_json::Value;
use sosohappy_fleet::app::{Addresses, Phone, Tokens};
use sosohappy_testkit::Cluster;

use crate::routes::{self, Route};
use crate::{addresses, binaries};

/// A signed-in account with a nickname.
struct Person {
    nickname: String,
    tokens: Tokens,
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
            let text = match name {
                "email" => &actor.tokens.account,
                "srcNickname" | "sender" => &actor.nickname,
                "nickname" if names_actor_by_nickname => &actor.nickname,
                "nickname" | "dstNickname" | "receiver" => &other.nickname,
                "date" | "timeBoundary" => "2026030112000000",
                "weather" => "sunny",
                "happiness" => "5",
                "categoryList" => "coffee",
                "wordList" => "spoiler",
                "text" | "introduction" => "a small happiness",
                "isPublic" => "true",
                "page" => "0",
                "size" => "7",
                "messageCnt" => "20",
                "imageId" | "commentId" | "seq" => "1",
                "id" => "0123456789abcdef",
                "idList" => "01890000-0000-7000-8000-000000000000",
                "provider" => "google",
                "providerId" | "codeVerifier" | "codeChallenge" | "authorizeCode" | "account" | "tokenDigest"
                | "payload" | "app_id" | "user_id" | "referrer_type" => "something",
                "all"
                | "expiresAt"
                | "muted"
                | "sort"
                | "codeChallengeMethod"
                | "deviceToken"
                | "idToken"
                | "password"
                | "newPassword"
                | "code"
                | "nonce"
                | "cursor"
                | "authorizationCode"
                | "since"
                | "v"
                | "visibility"
                | "w"
                | "imageList"
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
        let others = ["findProfileImg", "findIntroduction", "checkDuplicateNickname"];
        let about_others = others.iter().any(|call| self.path.ends_with(call));
        let names = ["srcNickname", "sender", "email", "nickname"];
        let found = names.into_iter().find(|name| self.parameters.contains(*name))?;
        (!about_others).then_some(found)
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_admits_its_owner_only() {
    let fleet = Cluster::embedded(binaries()).await;
    let addresses = &addresses(fleet.replicas[0]);
    let other = person(addresses, "other").await;
    let mut acting = 0;
    for (number, route) in routes::all(addresses).await.into_iter().enumerate() {
        // A new account for each route: some routes end a session or delete the account.
        let owner = person(addresses, &format!("owner{number}")).await;
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

            // A socket reports the refusal by a close code: tests of the services cover its handshake.
            if route.actor_parameter().is_some() && !route.path.contains("/connect-") {
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
        let response = route.send(Some((account, access)), &mine).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(
            status.as_u16() < 500,
            "{} {} for the owner: {status} {text}",
            route.method,
            route.path
        );
        if route.closed {
            let denied = status == StatusCode::FORBIDDEN || status == StatusCode::UNAUTHORIZED;
            let needs_role = text.contains("role-required") && route.path.contains("/admin/");
            assert!(
                !denied || needs_role,
                "{} {} for the owner: {status} {text}",
                route.method,
                route.path
            );
        }
    }
    assert!(acting > 15, "only {acting} routes were tested with another account");
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
