//! Profiles: nickname, photo and introduction.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::{Deserialize, Serialize};
use sosohappy_access::{ActUpload, Acting, Actor, Caller};
use sosohappy_common::http::params::FilesOnly;
use sosohappy_common::http::{Params, ResponseMemory};
use sosohappy_common::{Account, Nickname, Problem};
use sosohappy_events::types::NicknameSet;
use sosohappy_media::{BinaryBody, ImageId, Picture, PictureRequest, Width};
use sosohappy_store::retrying;
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, later};
use crate::domain::person::Person;
use crate::domain::profile::Introduction;
use crate::domain::stamp;
use crate::error::Error;
use crate::nicknames;
use crate::store::Transaction;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CheckDuplicateNickname {
    #[param(min_length = 1, max_length = 320)]
    nickname: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// Only when the nickname is the caller's own: other holders of the nickname are not disclosed.
    #[schema(value_type = Option<String>)]
    email: Option<Account>,
    is_present: bool,
}

/// Returns whether this nickname is taken, in any spelling, looks like another account's, or is reserved for another account. Of another spelling of
/// the caller's own nickname, `email` says that `setProfile` accepts it.
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
    let bearer = app.bearer_of(&asked.nickname).await?;
    let own = bearer.as_ref().filter(|person| person.account == caller.account);
    // One's own name may be a placeholder, which cannot be chosen.
    let is_own_as_given = own.is_some_and(|person| person.nickname.as_str() == asked.nickname);
    let is_kept = if is_own_as_given {
        false
    } else {
        let nickname = Nickname::choose(asked.nickname)?;
        (bearer.is_some() && own.is_none()) || is_kept_from(&app, &caller.account, &nickname).await?
    };
    Ok(Json(Presence {
        email: own.filter(|_| !is_kept).map(|person| person.account.clone()),
        is_present: bearer.is_some() || is_kept,
    }))
}

/// Whether a nickname is reserved for another account, or looks like another account's.
async fn is_kept_from(app: &App, account: &Account, nickname: &Nickname) -> Result<bool, Error> {
    let person = app.store.person(account).await?.ok_or(Error::UnknownAccount)?;
    Ok(app
        .store
        .is_nickname_kept(&nicknames::claim(app, &person, nickname))
        .await?)
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

/// Returns a person's introduction: empty where one of the two blocks the other, as for an unknown nickname, and while the account is suspended or
/// moderation hides it.
#[utoipa::path(
    post,
    path = "/findIntroduction",
    tag = "profile",
    request_body = FindIntroduction,
    responses((status = 200, body = Told), (status = 400, body = Problem)),
)]
pub async fn find_introduction(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(asked): Params<FindIntroduction>,
) -> Result<Json<Told>, Error> {
    let person = app.profile_of(&caller, &asked.nickname).await?;
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

/// Both null when the nickname is unknown, or one of the two blocks the other.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Photo {
    nickname: Option<String>,
    /// Base64; null when there is none, the account is suspended, or moderation hides it.
    profile_img: Option<String>,
}

/// Returns a person's photo.
#[utoipa::path(
    post,
    path = "/findProfileImg",
    tag = "profile",
    request_body = FindProfileImg,
    responses((status = 200, body = Photo), (status = 400, body = Problem), (status = 503, body = Problem)),
)]
pub async fn find_profile_img(
    State(app): State<Arc<App>>,
    caller: Caller,
    memory: ResponseMemory,
    Params(asked): Params<FindProfileImg>,
) -> Result<Response, Error> {
    let person = app.profile_of(&caller, &asked.nickname).await?;
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

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ShowProfileImg {
    nickname: String,
    /// The width of a smaller photo, in pixels. Photos that are not wider, and animations, come as they are.
    #[param(inline)]
    w: Option<Width>,
}

/// A nickname's photo may be replaced, hidden or out of reach by a block: a cached copy is good only as long as auth confirms it.
const CHECKED: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Returns a person's photo as bytes: 404 also where one of the two blocks the other, and while the account is suspended or moderation hides it.
/// One range of bytes is answered (RFC 9110 section 14).
#[utoipa::path(
    get,
    path = "/profileImg",
    tag = "profile",
    params(ShowProfileImg),
    responses(
        (status = 200, description = "The photo", content((BinaryBody = "image/jpeg"), (BinaryBody = "image/png"), (BinaryBody = "image/gif"))),
        (status = 206, description = "The part named by Range", content((BinaryBody = "image/jpeg"), (BinaryBody = "image/png"), (BinaryBody = "image/gif"))),
        (status = 304, description = "The copy named by If-None-Match is good"),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 416, description = "The photo has no such part; Content-Range has its size", body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn show_profile_img(
    State(app): State<Arc<App>>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
    Params(asked): Params<ShowProfileImg>,
) -> Result<Response, Error> {
    let person = app.profile_of(&caller, &asked.nickname).await?;
    let image = person.and_then(|person| person.image).ok_or(Error::NoSuchPhoto)?;
    let request = PictureRequest::new(image, asked.w, &method, &headers);
    app.images
        .respond(image, &request, CHECKED)
        .await?
        .ok_or(Error::NoSuchPhoto)
}

/// How long a picture may wait to become a person's photo before it is taken for the remains of a crash. Far more than a
/// request lives.
const UPLOAD_TIME: Duration = Duration::from_hours(1);

#[derive(Debug, Deserialize, ToSchema)]
pub struct Profile {
    /// The caller's own account.
    #[schema(example = "kim@example.com+kakao")]
    email: String,
    /// 1 to 10 user-perceived characters and at most 320 bytes, all visible, no blank at either end, not of the form `email+provider`.
    /// Kept as given; unique in all its spellings (letter case, composition, look-alikes such as `I`, `l` and `1`).
    #[schema(min_length = 1, max_length = 320)]
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
    /// False when another account has the nickname or one that looks like it, or gave it up within `nicknames.reservation`.
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
    let nickname = Nickname::choose(params.nickname)?;
    let introduction = params.introduction.map(Introduction::try_from).transpose()?;
    let bounds = app.settings.get().images.bounds();
    let mut photos = files.take("profileImg");
    if photos.len() > 1 {
        return Err(Error::InvalidParameter("profileImg: given more than once"));
    }
    let picture = match photos.pop() {
        Some(bytes) => Some(app.images.sanitize(bytes, bounds).await?),
        None => None,
    };

    let bearer = app.store.person_named(nickname.as_str()).await?;
    let mut success = bearer.is_none_or(|person| person.account == caller.account);
    if success {
        let image = match picture {
            Some(picture) => Some(store(&app, &picture).await?),
            None => None,
        };
        nicknames::make_some_looks(app.store.as_ref()).await?;
        success = retrying(|| set(&app, &caller.account, &nickname, introduction.as_ref(), image)).await?;
    }
    Ok(Json(ProfileSet {
        email: caller.account,
        success,
    }))
}

/// Stores a picture that is discarded later unless it becomes a person's photo, whatever happens to this process.
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

/// False when another person has taken the nickname meanwhile.
async fn set(
    app: &App,
    account: &Account,
    nickname: &Nickname,
    introduction: Option<&Introduction>,
    image: Option<ImageId>,
) -> Result<bool, Error> {
    let mut tx = app.store.begin().await?;
    let person = tx.person(account).await?.ok_or(Error::UnknownAccount)?;
    let introduction = introduction.unwrap_or(&person.introduction);
    if !tx
        .set_profile(account, nickname, introduction, image.or(person.image))
        .await?
    {
        return Ok(false);
    }
    if person.nickname != *nickname && !take_over(app, tx.as_mut(), &person, nickname).await? {
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

/// Writes the looks of the new nickname, releases its reservation and makes one of the old name; returns false when the new one belongs to another
/// account by its looks or by a reservation.
///
/// After the name was written: of a rename that gives it up at the same moment, the write has waited for the end. The looks are written before
/// they are compared: of two accounts that take names which look alike at the same moment, one finds the other's.
async fn take_over(app: &App, tx: &mut dyn Transaction, person: &Person, new: &Nickname) -> Result<bool, Error> {
    tx.set_looks(&person.account, new).await?;
    let claim = nicknames::claim(app, person, new);
    if tx.is_nickname_kept(&claim).await? {
        return Ok(false);
    }
    if claim.is_another_name() {
        tx.release_nickname(new).await?;
        if person.profile_set {
            let until = later(claim.at, app.settings.get().nicknames.reservation);
            nicknames::reserve(tx, &person.nickname, Some(&claim.bearer), until).await?;
        }
    }
    Ok(true)
}
