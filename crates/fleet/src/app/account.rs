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
    /// Challenge, authorize code, sign-in. Answers the nickname, empty while no profile is set.
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
        self.tokens = Some(tokens.context("signIn answered without its headers")?);
        self.nickname.clone_from(&body.nickname);
        Ok(body.nickname)
    }

    /// New tokens for the refresh token; the status when refused.
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
            self.tokens = Some(fresh.context("reIssueToken answered without its headers")?);
        }
        Ok(status)
    }

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
        ensure!(done.success, "the profile was not taken; is the nickname free?");
        nickname.clone_into(&mut self.nickname);
        Ok(())
    }

    pub async fn introduction_of(&self, nickname: &str) -> anyhow::Result<String> {
        let url = format!("{}/auth-service/findIntroduction", self.addresses.auth);
        let form = Form::new().text("nickname", nickname.to_owned());
        let found: Introduction = expect_json(self.signed(self.http.post(url))?.multipart(form).send().await?).await?;
        Ok(found.introduction)
    }

    /// The picture's bytes in base64.
    pub async fn photo_of(&self, nickname: &str) -> anyhow::Result<Option<String>> {
        let url = format!("{}/auth-service/findProfileImg", self.addresses.auth);
        let form = Form::new().text("nickname", nickname.to_owned());
        let found: Photo = expect_json(self.signed(self.http.post(url))?.multipart(form).send().await?).await?;
        Ok(found.profile_img)
    }

    pub async fn resign(&self) -> anyhow::Result<()> {
        let form = Form::new().text("email", self.account()?.to_owned());
        let url = format!("{}/auth-service/resign", self.addresses.auth);
        let done: Done = expect_json(self.signed(self.http.post(url))?.multipart(form).send().await?).await?;
        ensure!(done.success, "the resignation was not taken");
        Ok(())
    }
}

fn tokens_of(response: &Response) -> Option<Tokens> {
    let header = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    Some(Tokens {
        account: header("email").unwrap_or_default(),
        access: header("authorization")?,
        refresh: header("authorization-refresh")?,
    })
}
