use anyhow::ensure;
use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;

use super::{Phone, expect_json, expect_text};

/// A new post in the app's form.
#[derive(Debug, Clone)]
pub struct NewPost<'a> {
    /// `yyyyMMddHHmmssSS`.
    pub date: i64,
    pub text: &'a str,
    pub pictures: &'a [Vec<u8>],
}

/// A post of the account itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnPost {
    pub nickname: String,
    pub date: i64,
    pub text: String,
    pub image_id_list: Vec<i64>,
    pub like_nickname_list: Vec<String>,
}

/// A public post of another account.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherPost {
    pub nickname: String,
    pub date: i64,
    pub text: String,
    pub image_id_list: Vec<i64>,
    pub is_liked: bool,
}

#[derive(Deserialize)]
struct Slice {
    content: Vec<OtherPost>,
}

#[derive(Deserialize)]
struct Done {
    success: bool,
}

#[derive(Deserialize)]
struct Liked {
    like: bool,
}

impl Phone {
    /// Saves a public post with its pictures as `imageList[0]`, `imageList[1]`…
    pub async fn save_post(&self, post: &NewPost<'_>) -> anyhow::Result<()> {
        let mut form = Form::new()
            .text("nickname", self.nickname.clone())
            .text("date", post.date.to_string())
            .text("weather", "sunny")
            .text("happiness", "5")
            .text("categoryList", "coffee,friends")
            .text("text", post.text.to_owned())
            .text("isPublic", "true");
        for (index, picture) in post.pictures.iter().enumerate() {
            let part = Part::bytes(picture.clone())
                .file_name("picture.png")
                .mime_str("image/png")?;
            form = form.part(format!("imageList[{index}]"), part);
        }
        let url = format!("{}/feed-service/saveFeed", self.addresses.feed);
        let done: Done = expect_json(self.signed(self.http.post(url))?.multipart(form).send().await?).await?;
        ensure!(done.success, "the post was not saved");
        Ok(())
    }

    /// Returns the account's own post of a day.
    pub async fn own_day(&self, date: i64) -> anyhow::Result<Option<OwnPost>> {
        let url = format!("{}/feed-service/findDayFeed", self.addresses.feed);
        let form = Form::new()
            .text("nickname", self.nickname.clone())
            .text("date", date.to_string());
        let text = expect_text(self.signed(self.http.post(url))?.multipart(form).send().await?).await?;
        Ok(if text.is_empty() {
            None
        } else {
            Some(serde_json::from_str(&text)?)
        })
    }

    /// Returns the account's own posts of a month.
    pub async fn own_month(&self, date: i64) -> anyhow::Result<Vec<OwnPost>> {
        let url = format!("{}/feed-service/findMonthFeed", self.addresses.feed);
        let form = Form::new()
            .text("nickname", self.nickname.clone())
            .text("date", date.to_string());
        expect_json(self.signed(self.http.post(url))?.multipart(form).send().await?).await
    }

    /// Returns the first page of others' public posts.
    pub async fn others(&self) -> anyhow::Result<Vec<OtherPost>> {
        let url = format!("{}/feed-service/findOtherFeed", self.addresses.feed);
        let query = [("nickname", self.nickname.as_str()), ("page", "0"), ("size", "25")];
        let slice: Slice = expect_json(self.signed(self.http.get(url))?.query(&query).send().await?).await?;
        Ok(slice.content)
    }

    /// Returns one public post of an author.
    pub async fn post_of(&self, author: &str, date: i64) -> anyhow::Result<OtherPost> {
        let url = format!("{}/feed-service/findDetailFeed", self.addresses.feed);
        let form = Form::new()
            .text("srcNickname", self.nickname.clone())
            .text("dstNickname", author.to_owned())
            .text("date", date.to_string());
        expect_json(self.signed(self.http.post(url))?.multipart(form).send().await?).await
    }

    /// Requests others' posts and returns the status: 403 once the token is revoked.
    pub async fn access_status(&self) -> anyhow::Result<StatusCode> {
        let url = format!("{}/feed-service/findOtherFeed", self.addresses.feed);
        let query = [("nickname", self.nickname.as_str())];
        Ok(self.signed(self.http.get(url))?.query(&query).send().await?.status())
    }

    /// Downloads a picture, without a token.
    pub async fn picture(&self, id: i64) -> anyhow::Result<Vec<u8>> {
        let url = format!("{}/feed-service/image/{id}", self.addresses.feed);
        let response = self.http.get(url).send().await?.error_for_status()?;
        Ok(response.bytes().await?.to_vec())
    }

    /// Likes or un-likes a post. Returns whether the account likes it now.
    pub async fn toggle_like(&self, author: &str, date: i64) -> anyhow::Result<bool> {
        let form = Form::new()
            .text("srcNickname", self.nickname.clone())
            .text("nickname", author.to_owned())
            .text("date", date.to_string());
        let url = format!("{}/feed-service/updateLike", self.addresses.feed);
        let liked: Liked = expect_json(self.signed(self.http.post(url))?.multipart(form).send().await?).await?;
        Ok(liked.like)
    }
}
