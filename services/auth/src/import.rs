//! Accounts, photos and sessions of the legacy Spring auth, taken over by `fleet import spring`.
//!
//! A row is taken over as often as the command runs: one that is as it was at the last pass costs a comparison, one that has changed
//! is written again unless its account was changed here since, one that is gone takes its account along under the same condition.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sosohappy_common::{Account, Context};
use sosohappy_events::types::{Device, NicknameSet, Role, SessionId};
use sosohappy_events::{Envelope, Event};
use sosohappy_media::{ImageId, Images};
use sosohappy_store::{StoreError, Timer, retrying};

use crate::app::later;
use crate::domain::claims::Kind;
use crate::domain::hash::AccountHasher;
use crate::domain::legacy::{self, LegacyToken};
use crate::domain::person::{Identity, Person};
use crate::domain::profile::Introduction;
use crate::domain::provider::Provider;
use crate::domain::session::{Origin, Refresh, Session};
use crate::domain::stamp;
use crate::keys::Keyring;
use crate::provider_tokens::ProviderTokens;
use crate::sessions::REFRESH_TIMER;
use crate::settings::Settings;
use crate::store::imports::{Fingerprint, ImportedAccount, NameOf};
use crate::store::{Store, Transaction};
use crate::{nicknames, shared_secret, store};

pub use crate::domain::legacy::NoAccount;
pub use crate::store::imports::KnownName;

/// Value of Apple's column for accounts of other providers.
const NO_APPLE_TOKEN: &str = "-";

/// How long a photo may wait to become a person's before it is taken for the remains of a crash.
const UPLOAD_TIME: Duration = Duration::from_hours(1);

const SUBJECT_CHARS: usize = 255;
const DEVICE_TOKEN_BYTES: usize = 4096;

/// A row of the legacy table `user`; texts that did not decode are repaired by the reader.
#[derive(Debug, Clone, Default)]
pub struct LegacyUser {
    pub id: i64,
    pub email: Option<String>,
    pub provider: Option<String>,
    pub provider_id: Option<String>,
    pub nickname: Option<String>,
    pub introduction: Option<String>,
    pub device_token: Option<String>,
    pub apple_refresh_token: Option<String>,
    pub refresh_token: Option<String>,
    /// SHA-256 of the photo.
    pub photo: Option<[u8; 32]>,
    /// False where another account of the table keeps the nickname.
    pub bears_nickname: bool,
}

impl LegacyUser {
    /// Returns the account of the row.
    pub fn account(&self) -> Result<Account, NoAccount> {
        self.placed().map(|(account, _)| account)
    }

    fn placed(&self) -> Result<(Account, Provider), NoAccount> {
        let email = self.email.as_deref().ok_or(NoAccount::NoAddress)?;
        legacy::account_of(email, self.provider.as_deref())
    }

    pub(crate) fn photo_fingerprint(&self) -> Option<Fingerprint> {
        self.photo.map(|photo| half(&photo))
    }

    pub(crate) fn source(&self) -> Fingerprint {
        let texts = [
            &self.email,
            &self.provider,
            &self.provider_id,
            &self.nickname,
            &self.introduction,
            &self.device_token,
            &self.apple_refresh_token,
            &self.refresh_token,
        ];
        let mut digest = Sha256::new();
        for text in texts {
            // The length in front tells a text from the next, and none from an empty one.
            let length = text.as_ref().map_or(u64::MAX, |text| text.len() as u64);
            digest.update(length.to_be_bytes());
            digest.update(text.as_deref().unwrap_or_default());
        }
        digest.update([u8::from(self.bears_nickname)]);
        digest.update(self.photo.map_or([0; 32], |photo| photo));
        half(&digest.finalize())
    }
}

fn half(digest: &[u8]) -> Fingerprint {
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

/// Outcome of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// As at the last pass.
    Unchanged,
    Created,
    Updated,
    /// The legacy row is gone, and its account with it.
    Deleted,
    /// The account was changed here after it was imported: it stays as it is.
    KeptOurs,
    /// There was an account of this address before the import: it stays as it is.
    ExistsHere,
    /// The account resigned here after it was imported.
    ResignedHere,
    /// The row has no account.
    Unplaced,
}

/// A part of a row that was left out or altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    pub column: &'static str,
    pub reason: &'static str,
}

/// Outcome of a row, with the parts of it that were left out.
#[derive(Debug)]
pub struct Applied {
    pub id: i64,
    pub outcome: Outcome,
    pub notes: Vec<Note>,
}

/// Auth's database, image store and keys, opened for the import.
#[derive(Debug)]
pub struct Importer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) images: Images,
    keyring: Keyring,
    pub(crate) provider_tokens: ProviderTokens,
    hasher: AccountHasher,
    settings: Settings,
    context: Context,
}

impl Importer {
    /// Opens what the settings of auth name.
    pub async fn open(settings: Settings, context: &Context) -> anyhow::Result<Self> {
        let store = store::open(&settings.database.url, settings.database.max_connections, context)
            .await
            .context("auth: database.url")?;
        nicknames::make_keys(store.as_ref(), context).await?;
        let hash_key = shared_secret(store.as_ref(), context, "account-hash").await?;
        let signing_key = shared_secret(store.as_ref(), context, "signing-key").await?;
        let provider_key = shared_secret(store.as_ref(), context, "provider-tokens").await?;
        Ok(Self {
            images: Images::open(&settings.images.url, context).context("auth: images.url")?,
            keyring: Keyring::of(&settings.tokens.keys, &signing_key)?.with_legacy(&settings.tokens.legacy_key)?,
            provider_tokens: ProviderTokens::of(&settings.tokens.provider_keys, &provider_key)?,
            hasher: AccountHasher::new(&hash_key),
            store,
            settings,
            context: context.clone(),
        })
    }

    /// Returns whether `tokens.legacy-key` is set, without which no session is taken over.
    #[must_use]
    pub fn takes_sessions(&self) -> bool {
        self.keyring.knows_legacy_tokens()
    }

    /// Returns when the refresh token of a row ends; none where it does not live.
    #[must_use]
    pub fn session_until(&self, user: &LegacyUser) -> Option<Timestamp> {
        let account = user.account().ok()?;
        self.living(user, &account).map(|token| token.expires_at)
    }

    /// Takes or renews the lease without which no import or export may write; false while another process has it.
    pub async fn lease(&self, ttl: Duration) -> Result<bool, StoreError> {
        self.store.lease_import(&self.context.instance, ttl).await
    }

    /// Gives the lease back.
    pub async fn release_lease(&self) -> Result<(), StoreError> {
        self.store.release_import(&self.context.instance).await
    }

    /// Returns the rows whose photo has to be read for [`Self::apply`]: those that are new or have another one than at the last pass.
    pub async fn photos_to_read(&self, users: &[LegacyUser]) -> Result<Vec<i64>, StoreError> {
        let ids: Vec<i64> = users.iter().map(|user| user.id).collect();
        let known = self.store.imported(&ids).await?;
        let needed = users.iter().filter(|user| match (user.photo, known.get(&user.id)) {
            (None, _) => false,
            (Some(photo), Some(known)) => known.photo != Some(half(&photo)),
            (Some(_), None) => user.account().is_ok(),
        });
        Ok(needed.map(|user| user.id).collect())
    }

    /// Takes rows over, all in one transaction. `read_at` is a moment before they were read: changes here after it take precedence.
    /// A dry run returns what would be done.
    pub async fn apply(
        &self,
        users: &[LegacyUser],
        photos: &HashMap<i64, Bytes>,
        read_at: Timestamp,
        dry_run: bool,
    ) -> anyhow::Result<Vec<Applied>> {
        let read_at = Timestamp::from_millisecond(read_at.as_millisecond())?;
        let ids: Vec<i64> = users.iter().map(|user| user.id).collect();
        let known = self.store.imported(&ids).await?;
        let mut pictures = HashMap::new();
        for user in users {
            if let Some(bytes) = photos.get(&user.id)
                && !matches!(known.get(&user.id), Some(known) if known.source == user.source())
            {
                pictures.insert(user.id, self.store_photo(bytes, dry_run).await?);
            }
        }
        retrying(|| self.apply_once(users, &known, &pictures, read_at, dry_run))
            .await
            .map_err(Into::into)
    }

    async fn apply_once(
        &self,
        users: &[LegacyUser],
        known: &HashMap<i64, ImportedAccount>,
        pictures: &HashMap<i64, Result<ImageId, &'static str>>,
        read_at: Timestamp,
        dry_run: bool,
    ) -> Result<Vec<Applied>, StoreError> {
        let mut tx = self.store.begin().await?;
        let mut applied = Vec::with_capacity(users.len());
        for user in users {
            let row = Row {
                importer: self,
                user,
                picture: pictures.get(&user.id).copied(),
                read_at,
            };
            let mut notes = Vec::new();
            let outcome = row.apply(tx.as_mut(), known.get(&user.id), &mut notes).await?;
            applied.push(Applied {
                id: user.id,
                outcome,
                notes,
            });
        }
        if !dry_run {
            tx.commit().await?;
        }
        Ok(applied)
    }

    /// Remembers that posts, likes and messages under these nicknames, which further rows of the accounts' addresses have, are of these
    /// accounts, and that no other nickname is.
    pub async fn set_further_names(&self, names: &[(String, Account)]) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.store.begin().await?;
            tx.forget_further_rows().await?;
            for (nickname, account) in names {
                if tx.person(account).await?.is_some() {
                    tx.remember_name(nickname, account, NameOf::FurtherRow).await?;
                }
            }
            tx.commit().await
        })
        .await
    }

    /// Returns every nickname with every account that bears it here or bore it in the legacy fleet; a pair may be there twice.
    pub async fn known_names(&self) -> Result<Vec<KnownName>, StoreError> {
        self.store.known_names().await
    }

    /// Returns how many of these rows are recorded as taken over.
    pub async fn count_imported(&self, legacy_ids: &[i64]) -> Result<usize, StoreError> {
        Ok(self.store.imported(legacy_ids).await?.len())
    }

    /// Returns the ids that were taken over, greater than `after` and up to `until`, in order.
    pub async fn imported_between(&self, after: i64, until: i64) -> Result<Vec<i64>, StoreError> {
        self.store.imported_between(after, until).await
    }

    /// Deletes the accounts of rows that are gone, unless they were changed or used here.
    pub async fn delete(&self, legacy_ids: &[i64], dry_run: bool) -> Result<Vec<Applied>, StoreError> {
        let known = self.store.imported(legacy_ids).await?;
        retrying(|| async {
            let mut tx = self.store.begin().await?;
            let mut applied = Vec::new();
            for id in legacy_ids {
                let Some(known) = known.get(id) else { continue };
                applied.push(Applied {
                    id: *id,
                    outcome: self.delete_one(tx.as_mut(), known).await?,
                    notes: Vec::new(),
                });
            }
            if !dry_run {
                tx.commit().await?;
            }
            Ok(applied)
        })
        .await
    }

    async fn delete_one(&self, tx: &mut dyn Transaction, known: &ImportedAccount) -> Result<Outcome, StoreError> {
        let Some(account) = known.account.clone() else {
            return Ok(Outcome::ResignedHere);
        };
        let Some(person) = tx.person(&account).await? else {
            return Ok(Outcome::ResignedHere);
        };
        let sessions = tx.sessions_of(&account).await?;
        let used = sessions
            .iter()
            .any(|session| Some(session.id) != known.session || session.previous.is_some());
        let is_unchanged = [written(&person), exported(&person)].contains(&known.written);
        if used || !is_unchanged {
            return Ok(Outcome::KeptOurs);
        }
        for session in &sessions {
            tx.clear_timer(REFRESH_TIMER, &session.id.to_string()).await?;
        }
        if let Some(image) = person.image {
            tx.discard_image(image, self.context.clock.now()).await?;
        }
        tx.delete_person(&account).await?;
        tx.forget_imported(known.legacy_id).await?;
        Ok(Outcome::Deleted)
    }

    /// Encodes a photo anew, as an upload is, and stores it: it is deleted later unless an account takes it, also when this process ends.
    async fn store_photo(&self, bytes: &Bytes, dry_run: bool) -> anyhow::Result<Result<ImageId, &'static str>> {
        let picture = match self.images.sanitize(bytes.clone(), self.settings.images.bounds()).await {
            Ok(picture) => picture,
            Err(error) => return error.refusal().map(Err).ok_or(error.into()),
        };
        let image = self.images.new_id();
        if !dry_run {
            retrying(|| async {
                let mut tx = self.store.begin().await?;
                tx.discard_image(image, later(self.context.clock.now(), UPLOAD_TIME))
                    .await?;
                tx.commit().await
            })
            .await?;
            self.images.put_as(image, &picture).await?;
        }
        Ok(Ok(image))
    }

    /// The refresh token of a row, if it lives and is of this account.
    fn living(&self, user: &LegacyUser, account: &Account) -> Option<LegacyToken> {
        let token = user.refresh_token.as_deref()?;
        let token = self.keyring.read_legacy(token, Kind::RefreshToken)?;
        (token.account == *account && token.expires_at > self.context.clock.now()).then_some(token)
    }

    async fn enqueue<E: Event>(&self, tx: &mut dyn Transaction, event: E, at: Timestamp) -> Result<(), StoreError> {
        let mut envelope = Envelope::new(event, &self.context);
        envelope.meta.occurred_at = at;
        tx.enqueue(&envelope.to_outgoing(), self.context.clock.now()).await
    }
}

/// Returns the fingerprint of the columns that an import writes.
pub(crate) fn written(person: &Person) -> Fingerprint {
    fingerprint(person, person.image, person.introduction.as_str())
}

/// As [`written`], of what the export writes: nothing that moderation hides. An import that finds the row changed keeps what is hidden here.
pub(crate) fn exported(person: &Person) -> Fingerprint {
    if is_hidden(person) {
        fingerprint(person, None, "")
    } else {
        written(person)
    }
}

/// Whether the export leaves introduction and photo out.
pub(crate) fn is_hidden(person: &Person) -> bool {
    person.is_profile_hidden || person.is_suspended
}

fn fingerprint(person: &Person, image: Option<ImageId>, introduction: &str) -> Fingerprint {
    let image = image.map_or(-1, |image| image.0);
    let digest = Sha256::new()
        .chain_update([u8::from(person.profile_set)])
        .chain_update(image.to_be_bytes())
        .chain_update((person.nickname.as_str().len() as u64).to_be_bytes())
        .chain_update(person.nickname.as_str())
        .chain_update(introduction)
        .finalize();
    half(&digest)
}

/// One row on its way.
struct Row<'a> {
    importer: &'a Importer,
    user: &'a LegacyUser,
    /// Its photo where that was read: stored, or why it cannot be.
    picture: Option<Result<ImageId, &'static str>>,
    read_at: Timestamp,
}

impl Row<'_> {
    async fn apply(
        &self,
        tx: &mut dyn Transaction,
        known: Option<&ImportedAccount>,
        notes: &mut Vec<Note>,
    ) -> Result<Outcome, StoreError> {
        let (account, provider) = match self.user.placed() {
            Ok(placed) => placed,
            Err(reason) => {
                notes.push(Note {
                    column: "email",
                    reason: no_account(reason),
                });
                return Ok(Outcome::Unplaced);
            }
        };
        let source = self.user.source();
        if known.is_some_and(|known| known.source == source) {
            return Ok(Outcome::Unchanged);
        }
        let person = tx.person(&account).await?;
        // The account may have been imported from another row of the same address.
        let known = match known {
            Some(known) => Some(known.clone()),
            None => tx.imported_as(&account).await?,
        };
        match (person, known) {
            (None, Some(_)) => Ok(Outcome::ResignedHere),
            (Some(_), Some(known)) if known.account.is_none() => Ok(Outcome::ExistsHere),
            (Some(_), None) => Ok(Outcome::ExistsHere),
            (None, None) => {
                let person = self.create(tx, account, provider, notes).await?;
                let session = self.take_session(tx, &person, None, notes).await?;
                self.finish(tx, &person, source, session, None).await?;
                Ok(Outcome::Created)
            }
            (Some(person), Some(known)) => {
                let session = self.take_session(tx, &person, known.session, notes).await?;
                if written(&person) != known.written {
                    self.finish_as(tx, &person, source, session, known.written, Some(&known))
                        .await?;
                    return Ok(Outcome::KeptOurs);
                }
                let person = self.update(tx, person, provider, &known, notes).await?;
                self.finish(tx, &person, source, session, Some(&known)).await?;
                Ok(Outcome::Updated)
            }
        }
    }

    async fn create(
        &self,
        tx: &mut dyn Transaction,
        account: Account,
        provider: Provider,
        notes: &mut Vec<Note>,
    ) -> Result<Person, StoreError> {
        let importer = self.importer;
        let resigned_at = tx.last_resignation(&importer.hasher.hash(&account)).await?;
        let mut person = Person {
            identity: self.identity(provider, notes),
            nickname: legacy::placeholder(&account),
            profile_set: false,
            introduction: Introduction::default(),
            image: None,
            role: Role::User,
            is_suspended: false,
            is_profile_hidden: false,
            created_at: self.read_at,
            changed_at: stamp::after(resigned_at.unwrap_or(Timestamp::UNIX_EPOCH), self.read_at),
            account,
        };
        self.fill(&mut person, notes).await?;
        person.image = self.photo(tx, None, notes).await?;
        tx.insert_person(&person).await?;
        self.tell_name(tx, &person).await?;
        Ok(person)
    }

    async fn update(
        &self,
        tx: &mut dyn Transaction,
        mut person: Person,
        provider: Provider,
        known: &ImportedAccount,
        notes: &mut Vec<Note>,
    ) -> Result<Person, StoreError> {
        let before = person.nickname.clone();
        if person.identity.subject.is_none() {
            person.identity = self.identity(provider, notes);
        }
        self.fill(&mut person, notes).await?;
        let has_other_photo = known.photo != self.user.photo.map(|photo| half(&photo));
        if has_other_photo {
            let old = person.image;
            person.image = self.photo(tx, old, notes).await?;
        }
        person.changed_at = stamp::after(person.changed_at, self.read_at);
        tx.rewrite_person(&person).await?;
        if person.nickname != before {
            self.tell_name(tx, &person).await?;
        }
        Ok(person)
    }

    fn identity(&self, provider: Provider, notes: &mut Vec<Note>) -> Identity {
        let subject = self.user.provider_id.as_deref().filter(|subject| !subject.is_empty());
        let fits = subject.is_none_or(|subject| subject.chars().count() <= SUBJECT_CHARS);
        if !fits {
            notes.push(Note {
                column: "provider_id",
                reason: "longer than 255 characters",
            });
        }
        Identity {
            issuer: provider.issuer().to_owned(),
            subject: subject.filter(|_| fits).map(str::to_owned),
        }
    }

    /// Nickname and introduction.
    async fn fill(&self, person: &mut Person, notes: &mut Vec<Note>) -> Result<(), StoreError> {
        let mut note = |column, reason| notes.push(Note { column, reason });
        let legacy = self.user.nickname.as_deref().unwrap_or_default();
        (person.nickname, person.profile_set) = match legacy::nickname_of(legacy) {
            _ if legacy.is_empty() => {
                note("nickname", "none: the profile is not set");
                (legacy::placeholder(&person.account), false)
            }
            None => {
                note("nickname", "cannot be borne: the profile is not set");
                (legacy::placeholder(&person.account), false)
            }
            Some(_) if !self.user.bears_nickname => {
                note("nickname", "another account keeps it: the profile is not set");
                (legacy::placeholder(&person.account), false)
            }
            Some((nickname, chosen)) => match self.importer.store.person_named(nickname.as_str()).await? {
                Some(bearer) if bearer.account != person.account => {
                    note("nickname", "an account here bears it: the profile is not set");
                    (legacy::placeholder(&person.account), false)
                }
                _ => (nickname, chosen),
            },
        };
        let introduction = self.user.introduction.clone().unwrap_or_default();
        person.introduction = Introduction::try_from(introduction).unwrap_or_else(|_| {
            note("introduction", "longer than 1000 characters, or with a NUL");
            Introduction::default()
        });
        Ok(())
    }

    /// Puts the photo that was read in the place of the old one.
    async fn photo(
        &self,
        tx: &mut dyn Transaction,
        old: Option<ImageId>,
        notes: &mut Vec<Note>,
    ) -> Result<Option<ImageId>, StoreError> {
        let new = match self.picture {
            Some(Ok(image)) => {
                tx.keep_image(image).await?;
                Some(image)
            }
            Some(Err(reason)) => {
                notes.push(Note {
                    column: "profile_img",
                    reason,
                });
                None
            }
            None if self.user.photo.is_some() => {
                notes.push(Note {
                    column: "profile_img",
                    reason: "it changed while it was read: the next pass takes it",
                });
                None
            }
            None => None,
        };
        if let Some(old) = old {
            tx.discard_image(old, self.importer.context.clock.now()).await?;
        }
        Ok(new)
    }

    async fn tell_name(&self, tx: &mut dyn Transaction, person: &Person) -> Result<(), StoreError> {
        let named = NicknameSet {
            account: person.account.clone(),
            nickname: Some(person.nickname.as_str().to_owned()),
        };
        self.importer.enqueue(tx, named, person.changed_at).await
    }

    /// Opens the session of the row's refresh token and closes the one of the token before, unless that was used here. Returns the session
    /// that legacy tokens of the account belong to.
    async fn take_session(
        &self,
        tx: &mut dyn Transaction,
        person: &Person,
        before: Option<SessionId>,
        notes: &mut Vec<Note>,
    ) -> Result<Option<SessionId>, StoreError> {
        let mut note = |column, reason| notes.push(Note { column, reason });
        let token = self.importer.living(self.user, &person.account);
        let has_token = self
            .user
            .refresh_token
            .as_deref()
            .is_some_and(|token| !token.is_empty());
        if token.is_none() && has_token {
            note(
                "refresh_token",
                "expired, of another address, or not signed with tokens.legacy-key",
            );
        }
        let present = match before {
            Some(before) => tx.session(before).await?,
            None => None,
        };
        let is_new = |token: &LegacyToken| before != Some(token.session());
        let opened = token.as_ref().filter(|token| is_new(token));
        if let Some(present) = present
            && present.previous.is_none()
            && (opened.is_some() || token.is_none())
        {
            tx.delete_session(present.id).await?;
            tx.clear_timer(REFRESH_TIMER, &present.id.to_string()).await?;
        }
        let Some(token) = token else {
            if self.user.device_token.as_deref().is_some_and(|token| !token.is_empty()) {
                note("device_token", "there is no session to push to");
            }
            return Ok(None);
        };
        // A session that was closed here stays closed.
        if before != Some(token.session()) && tx.session(token.session()).await?.is_none() {
            let session = Session {
                id: token.session(),
                account: person.account.clone(),
                stamped_at: self.read_at,
                refresh: Refresh {
                    id: token.refresh_id(),
                    issued_at: self.read_at,
                    expires_at: token.expires_at,
                },
                origin: Origin::default(),
                previous: None,
            };
            tx.insert_session(&session).await?;
            tx.set_timer(&Timer {
                kind: REFRESH_TIMER.to_owned(),
                key: session.id.to_string(),
                fire_at: token.expires_at,
            })
            .await?;
        }
        self.take_device(tx, person, token.session(), notes).await?;
        Ok(Some(token.session()))
    }

    async fn take_device(
        &self,
        tx: &mut dyn Transaction,
        person: &Person,
        session: SessionId,
        notes: &mut Vec<Note>,
    ) -> Result<(), StoreError> {
        let Some(token) = self.user.device_token.as_deref().filter(|token| !token.is_empty()) else {
            return Ok(());
        };
        if token.len() > DEVICE_TOKEN_BYTES {
            notes.push(Note {
                column: "device_token",
                reason: "longer than 4096 bytes",
            });
            return Ok(());
        }
        if tx.session(session).await?.is_none() {
            return Ok(());
        }
        let devices = tx.devices_of(&person.account).await?.devices;
        match devices.iter().find(|device| device.session == session) {
            Some(device) if device.token == token => return Ok(()),
            Some(_) => tx.delete_device(session).await?,
            None => {}
        }
        let device = Device {
            session,
            token: token.to_owned(),
            since: self.read_at,
        };
        tx.insert_device(&device).await?;
        let set = tx.devices_of(&person.account).await?.published(&person.account);
        self.importer.enqueue(tx, set, self.read_at).await
    }

    async fn finish(
        &self,
        tx: &mut dyn Transaction,
        person: &Person,
        source: Fingerprint,
        session: Option<SessionId>,
        known: Option<&ImportedAccount>,
    ) -> Result<(), StoreError> {
        self.finish_as(tx, person, source, session, written(person), known)
            .await
    }

    /// Remembers the row, its nickname and Apple's token.
    async fn finish_as(
        &self,
        tx: &mut dyn Transaction,
        person: &Person,
        source: Fingerprint,
        session: Option<SessionId>,
        written: Fingerprint,
        known: Option<&ImportedAccount>,
    ) -> Result<(), StoreError> {
        let importer = self.importer;
        if let Some(nickname) = self.user.nickname.as_deref().filter(|name| !name.is_empty()) {
            tx.renamed(&person.account).await?;
            tx.remember_name(nickname, &person.account, NameOf::TheAccount).await?;
        }
        let apple = self.user.apple_refresh_token.as_deref();
        if let Some(token) = apple.filter(|token| !token.is_empty() && *token != NO_APPLE_TOKEN) {
            let sealed = importer
                .provider_tokens
                .seal(person.account.as_str(), token, &*importer.context.entropy);
            tx.set_provider_token(&person.account, &sealed).await?;
        }
        tx.set_imported(&ImportedAccount {
            legacy_id: self.user.id,
            person: person.account.fingerprint(),
            account: Some(person.account.clone()),
            session,
            source,
            photo: self.user.photo.map(|photo| half(&photo)),
            written,
            imported_at: known.map_or(self.read_at, |known| known.imported_at),
        })
        .await
    }
}

fn no_account(reason: NoAccount) -> &'static str {
    match reason {
        NoAccount::NoAddress => "no address",
        NoAccount::NoProvider => "no provider, neither in the address nor beside it",
        NoAccount::UnknownProvider => "the provider is none of apple, google and kakao",
        NoAccount::Invalid => "no account: control characters, or more than 255 bytes",
    }
}
