use anyhow::{Context as _, ensure};
use reqwest::multipart::{Form, Part};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use sha2::{Digest as _, Sha512};
use sosohappy_common::clock::{Entropy, SystemEntropy};

use super::{Phone, Tokens, expect_json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizeCode {
    authorize_code: String,
}

#[derive(Deserialize)]
struct SignedIn {
    nickname: String,
}

#[derive(Deserialize)]
struct Done {
    success: bool,
}

#[derive(Deserialize)]
struct Introduction {
    introduction: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Photo {
    profile_img: Option<String>,
}

impl Phone {
    /// Requests an authorize code for a challenge and signs in. Returns the nickname: empty until a profile is set.
    pub async fn sign_in(&mut self) -> anyhow::Result<String> {
        let entropy: &dyn Entropy = &SystemEntropy;
        let verifier = entropy.hex(10);
        let challenge = hex::encode(Sha512::digest(&verifier));
        let url = format!("{}/auth-service/getAuthorizeCode", self.addresses.auth);
        let form = Form::new().text("codeChallenge", challenge);
        let code: AuthorizeCode = expect_json(self.http.post(url).multipart(form).send().await?).await?;

        let form = Form::new()
            .text("email", self.email.clone())
            .text("provider", self.provider.clone())
            .text("providerId", self.provider_id.clone())
            .text("codeVerifier", verifier)
            .text("authorizeCode", code.authorize_code)
            .text("authorizationCode", "")
            .text("deviceToken", format!("device-of-{}", self.email));
        let url = format!("{}/auth-service/signIn", self.addresses.auth);
        let response = self.http.post(url).multipart(form).send().await?;
        let tokens = tokens_of(&response);
        let body: SignedIn = expect_json(response).await?;
        self.tokens = Some(tokens.context("the response of signIn lacks its headers")?);
        self.nickname.clone_from(&body.nickname);
        Ok(body.nickname)
    }

    /// Requests new tokens with the refresh token, and stores them. Returns the status.
    pub async fn re_issue(&mut self) -> anyhow::Result<StatusCode> {
        let tokens = self.tokens()?;
        let url = format!("{}/auth-service/reIssueToken", self.addresses.auth);
        let request = self
            .http
            .get(url)
            .header("email", &tokens.account)
            .header("Authorization-refresh", &tokens.refresh);
        let response = request.send().await?;
        let status = response.status();
        if status == StatusCode::OK {
            let account = tokens.account.clone();
            let fresh = tokens_of(&response).map(|fresh| Tokens { account, ..fresh });
            self.tokens = Some(fresh.context("the response of reIssueToken lacks its headers")?);
        }
        Ok(status)
    }

    /// Sets nickname, introduction and photo.
    pub async fn set_profile(&mut self, nickname: &str, introduction: &str, photo: &[u8]) -> anyhow::Result<()> {
        let form = Form::new()
            .text("email", self.account()?.to_owned())
            .text("nickname", nickname.to_owned())
            .text("introduction", introduction.to_owned())
            .part(
                "profileImg",
                Part::bytes(photo.to_vec()).file_name("me.png").mime_str("image/png")?,
            );
        let url = format!("{}/auth-service/setProfile", self.addresses.auth);
        let done: Done = expect_json(self.signed(self.http.post(url))?.multipart(form).send().await?).await?;
        ensure!(done.success, "the profile was not saved: the nickname may be taken");
        nickname.clone_into(&mut self.nickname);
        Ok(())
    }

    /// Returns the introduction of a nickname.
    pub async fn introduction_of(&self, nickname: &str) -> anyhow::Result<String> {
        let url = format!("{}/auth-service/findIntroduction", self.addresses.auth);
        let form = Form::new().text("nickname", nickname.to_owned());
        let found: Introduction = expect_json(self.signed(self.http.post(url))?.multipart(form).send().await?).await?;
        Ok(found.introduction)
    }

    /// Returns the photo of a nickname in base64.
    pub async fn photo_of(&self, nickname: &str) -> anyhow::Result<Option<String>> {
        let url = format!("{}/auth-service/findProfileImg", self.addresses.auth);
        let form = Form::new().text("nickname", nickname.to_owned());
        let found: Photo = expect_json(self.signed(self.http.post(url))?.multipart(form).send().await?).await?;
        Ok(found.profile_img)
    }

    /// Deletes the account.
    pub async fn resign(&self) -> anyhow::Result<()> {
        let form = Form::new().text("email", self.account()?.to_owned());
        let url = format!("{}/auth-service/resign", self.addresses.auth);
        let done: Done = expect_json(self.signed(self.http.post(url))?.multipart(form).send().await?).await?;
        ensure!(done.success, "the resignation was not accepted");
        Ok(())
    }
}

/// Reads the tokens from the headers of a response.
fn tokens_of(response: &Response) -> Option<Tokens> {
    let header = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    Some(Tokens {
        account: header("email").unwrap_or_default(),
        access: header("authorization")?,
        refresh: header("authorization-refresh")?,
    })
}
