//! What people show of themselves.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header;
use serde::{Deserialize, Serialize};
use sosohappy_access::{ActUpload, Acting, Actor, Caller};
use sosohappy_common::http::params::FilesOnly;
use sosohappy_common::http::{Params, ResponseMemory};
use sosohappy_common::{Account, Problem};
use sosohappy_events::types::NicknameSet;
use sosohappy_media::{ImageId, Picture};
use sosohappy_store::retrying;
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, later};
use crate::domain::profile::{Introduction, Nickname};
use crate::domain::stamp;
use crate::error::Error;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CheckDuplicateNickname {
    #[param(min_length = 1, max_length = 100)]
    nickname: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// Only when the nickname is the caller's own: who else bears it is nobody's business.
    #[schema(value_type = Option<String>)]
    email: Option<Account>,
    is_present: bool,
}

/// Whether somebody bears this nickname.
#[utoipa::path(
    get,
    path = "/checkDuplicateNickname",
    tag = "profile",
    params(CheckDuplicateNickname),
    responses((status = 200, body = Presence), (status = 400, body = Problem)),
)]
pub async fn check_duplicate_nickname(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(asked): Params<CheckDuplicateNickname>,
) -> Result<Json<Presence>, Error> {
    let nickname = Nickname::try_from(asked.nickname)?;
    let bearer = app.store.person_named(&nickname).await?.map(|person| person.account);
    let is_reserved = bearer.is_none() && app.store.is_nickname_reserved(&nickname, app.now()).await?;
    Ok(Json(Presence {
        is_present: bearer.is_some() || is_reserved,
        email: bearer.filter(|account| *account == caller.account),
    }))
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct FindIntroduction {
    nickname: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Told {
    /// Empty when there is none.
    introduction: String,
}

/// What somebody tells about themselves.
#[utoipa::path(
    post,
    path = "/findIntroduction",
    tag = "profile",
    request_body = FindIntroduction,
    responses((status = 200, body = Told), (status = 400, body = Problem)),
)]
pub async fn find_introduction(
    State(app): State<Arc<App>>,
    Params(asked): Params<FindIntroduction>,
) -> Result<Json<Told>, Error> {
    let person = app.bearer_of(&asked.nickname).await?;
    Ok(Json(Told {
        introduction: person
            .map(|person| person.introduction.as_str().to_owned())
            .unwrap_or_default(),
    }))
}

/// The picture itself, its base64 and the JSON around it: times its size, rounded up.
const COPIES: usize = 4;

#[derive(Debug, Deserialize, ToSchema)]
pub struct FindProfileImg {
    nickname: String,
}

/// Both null when nobody bears the nickname.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Photo {
    nickname: Option<String>,
    /// Base64; null when there is none.
    profile_img: Option<String>,
}

/// Somebody's photo.
#[utoipa::path(
    post,
    path = "/findProfileImg",
    tag = "profile",
    request_body = FindProfileImg,
    responses((status = 200, body = Photo), (status = 400, body = Problem), (status = 503, body = Problem)),
)]
pub async fn find_profile_img(
    State(app): State<Arc<App>>,
    memory: ResponseMemory,
    Params(asked): Params<FindProfileImg>,
) -> Result<Response, Error> {
    let person = app.bearer_of(&asked.nickname).await?;
    let nickname = person.as_ref().map(|person| person.nickname.as_str().to_owned());
    let picture = match person.and_then(|person| person.image) {
        Some(image) => app.images.find(image).await?,
        None => None,
    };
    let Some(picture) = picture else {
        return Ok(Json(Photo {
            nickname,
            profile_img: None,
        })
        .into_response());
    };
    let share = memory.share(picture.size().saturating_mul(COPIES)).await?;
    let profile_img = BASE64_STANDARD.encode(picture.read().await?);
    let photo = Photo {
        nickname,
        profile_img: Some(profile_img),
    };
    let json = serde_json::to_vec(&photo).expect("two texts are JSON");
    drop(photo);
    Ok(([(header::CONTENT_TYPE, "application/json")], share.hold(json)).into_response())
}

/// How long a picture may wait to become somebody's photo before it is taken for the remains of a crash. Far more than a
/// request lives.
const UPLOAD_TIME: Duration = Duration::from_hours(1);

#[derive(Debug, Deserialize, ToSchema)]
pub struct Profile {
    /// The caller's own account.
    #[schema(example = "kim@example.com+kakao")]
    email: String,
    /// 1 to 100 characters that can be seen, no blank at either end, not of the form `email+provider`.
    #[schema(min_length = 1, max_length = 100)]
    nickname: String,
    /// The old one stays when it is left out.
    #[schema(max_length = 1000)]
    introduction: Option<String>,
    #[serde(default, rename = "profileImg")]
    #[schema(ignore)]
    _profile_img: FilesOnly,
}

/// [`Profile`] with a photo, as the app sends it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documents what `Profile` and the files are read from")]
pub struct ProfileForm {
    #[serde(flatten)]
    profile: Profile,
    /// JPEG, PNG, GIF or WebP; the old one stays when it is left out or empty.
    #[schema(rename = "profileImg", value_type = Option<String>, format = Binary)]
    profile_img: Option<Vec<u8>>,
}

impl Actor for Profile {
    fn acting(&self) -> Acting<'_> {
        Acting::Account(&self.email)
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ProfileSet {
    #[schema(value_type = String)]
    email: Account,
    /// False when somebody else bears the nickname.
    success: bool,
}

/// Sets nickname, introduction and photo.
#[utoipa::path(
    post,
    path = "/setProfile",
    tag = "profile",
    request_body(content((ProfileForm = "multipart/form-data"), (Profile = "application/x-www-form-urlencoded"), (Profile = "application/json"))),
    responses((status = 200, body = ProfileSet), (status = 400, body = Problem), (status = 401, body = Problem)),
)]
pub async fn set_profile(State(app): State<Arc<App>>, act: ActUpload<Profile>) -> Result<Json<ProfileSet>, Error> {
    let ActUpload {
        caller,
        params,
        mut files,
    } = act;
    let nickname = Nickname::try_from(params.nickname)?;
    let introduction = params.introduction.map(Introduction::try_from).transpose()?;
    let limits = &app.settings.get().images;
    let mut photos = files.take("profileImg");
    if photos.len() > 1 {
        return Err(Error::InvalidParameter("profileImg: given more than once"));
    }
    let picture = photos
        .pop()
        .map(|bytes| Picture::inspect(bytes, limits.max_bytes, limits.max_pixels))
        .transpose()?;

    let bearer = app.store.person_named(&nickname).await?;
    let mut success = bearer.is_none_or(|person| person.account == caller.account);
    if success {
        let image = match picture {
            Some(picture) => Some(store(&app, &picture).await?),
            None => None,
        };
        success = retrying(|| set(&app, &caller.account, &nickname, introduction.as_ref(), image)).await?;
    }
    Ok(Json(ProfileSet {
        email: caller.account,
        success,
    }))
}

/// Stores a picture that is discarded later unless it becomes somebody's photo, whatever happens to this process.
async fn store(app: &App, picture: &Picture) -> Result<ImageId, Error> {
    let image = app.images.new_id();
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        tx.discard_image(image, later(app.now(), UPLOAD_TIME)).await?;
        tx.commit().await
    })
    .await?;
    app.images.put_as(image, picture).await?;
    Ok(image)
}

/// False when somebody else was quicker with the nickname.
async fn set(
    app: &App,
    account: &Account,
    nickname: &Nickname,
    introduction: Option<&Introduction>,
    image: Option<ImageId>,
) -> Result<bool, Error> {
    let mut tx = app.store.begin().await?;
    let person = tx.person(account).await?.ok_or(Error::UnknownAccount)?;
    if person.nickname != *nickname && tx.is_nickname_reserved(nickname, app.now()).await? {
        return Ok(false);
    }
    let introduction = introduction.unwrap_or(&person.introduction);
    if !tx
        .set_profile(account, nickname, introduction, image.or(person.image))
        .await?
    {
        return Ok(false);
    }
    let at = stamp::after(person.changed_at, app.now());
    if let Some(image) = image {
        tx.keep_image(image).await?;
        if let Some(old) = person.image {
            tx.discard_image(old, app.now()).await?;
        }
    }
    tx.stamp_person(account, at).await?;
    let renamed = NicknameSet {
        account: account.clone(),
        nickname: Some(nickname.as_str().to_owned()),
    };
    app.enqueue(tx.as_mut(), renamed, at).await?;
    app.commit(tx).await?;
    Ok(true)
}
