//! The port of auth's store: reads without a transaction, writes in transactions that also hold their events. Adapters for `SQLite` and `MySQL`
//! over one text.

pub mod connections;
pub mod email;
pub mod external_calls;
pub mod imports;
pub mod moderation;
mod mysql;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::settings::SecretUrl;
use sosohappy_common::{Account, Context, Nickname, NicknameKey};
use sosohappy_events::types::{Device, DeviceTokenSet, Role, SessionId, TokenDigest};
use sosohappy_events::{EventId, Outgoing, Topic};
use sosohappy_media::ImageId;
use sosohappy_store::outbox::Outbox;
use sosohappy_store::{DueTimer, Ping, StoreError, Timer};

use crate::domain::code::CodeId;
use crate::domain::muted_word::{MutedWord, Word};
use crate::domain::nickname_claim::NicknameClaim;
use crate::domain::page::Page;
use crate::domain::person::{Identity, LinkedIdentity, Person};
use crate::domain::profile::Introduction;
use crate::domain::session::Session;
use crate::store::connections::{ConnectionTransaction, Connections};
use crate::store::email::{EmailStore, EmailTransaction};
use crate::store::external_calls::{ExternalCallTransaction, ExternalCalls};
use crate::store::imports::{ImportTransaction, Imports};
use crate::store::moderation::{Moderation, ModerationTransaction};

/// The open sessions of an account and their devices.
#[derive(Debug, Clone, Default)]
pub struct OpenDevices {
    /// All open sessions, also those without a push token.
    pub sessions: Vec<SessionId>,
    /// In the order in which they got their tokens.
    pub devices: Vec<Device>,
}

impl OpenDevices {
    /// Returns the event that publishes them.
    pub fn published(self, account: &Account) -> DeviceTokenSet {
        DeviceTokenSet::all(account.clone(), self.devices).with_sessions(self.sessions)
    }
}

/// A live or past access token, with the attributes of its bearer that services need.
#[derive(Debug, Clone)]
pub struct AccessToken {
    pub account: Account,
    pub session: SessionId,
    pub role: Role,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

/// `account` wants nothing to do with `other`.
#[derive(Debug, Clone)]
pub struct Block {
    pub account: Account,
    pub other: Account,
    pub since: Timestamp,
}

/// A person in a list of people.
#[derive(Debug, Clone)]
pub struct RelatedPerson {
    pub nickname: String,
    /// Whether each follows the other.
    pub friend: bool,
    pub since: Timestamp,
}

/// Which end of its follows an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Following,
    Followers,
}

/// A resignation that not every service has acknowledged yet.
#[derive(Debug, Clone)]
pub struct Resignation {
    /// The id of the `resign` event.
    pub id: EventId,
    pub account: Account,
    pub nickname: String,
    pub resigned_at: Timestamp,
}

/// What stays of a resignation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResignationProof {
    /// The keyed hash of the account.
    pub account_hash: [u8; 32],
    pub resigned_at: Timestamp,
}

/// A resignation that not every service has acknowledged yet, without whose it is.
#[derive(Debug, Clone)]
pub struct PendingResignation {
    /// The id of the `resign` event.
    pub id: String,
    pub resigned_at: Timestamp,
    /// Services that have given their receipts.
    pub acknowledged: Vec<String>,
}

/// A record with a null value that waits until no Spring service reads its topic.
#[derive(Debug, Clone)]
pub struct Tombstone {
    pub account: Account,
    pub occurred_at: Timestamp,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Unfinished {
    pub count: i64,
    pub oldest: Option<Timestamp>,
}

#[async_trait]
pub trait Store: Connections + EmailStore + ExternalCalls + Imports + Moderation + Ping + std::fmt::Debug {
    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError>;

    async fn person(&self, account: &Account) -> Result<Option<Person>, StoreError>;

    /// Returns who bears this nickname in any spelling.
    async fn person_named(&self, nickname: &str) -> Result<Option<Person>, StoreError>;

    /// Returns the identities that are linked to an account, beside that of its own row.
    async fn identities_of(&self, account: &Account) -> Result<Vec<LinkedIdentity>, StoreError>;

    /// Returns accounts whose nickname has no key yet: an older release has written them.
    async fn without_keys(&self, limit: u32) -> Result<Vec<Account>, StoreError>;

    /// Returns whether one of the two blocks the other.
    async fn is_blocked(&self, one: &Account, other: &Account) -> Result<bool, StoreError>;

    /// Returns whom the account blocks, the newest block first.
    async fn blocked_by(&self, account: &Account, page: Page) -> Result<Vec<RelatedPerson>, StoreError>;

    /// Returns whom the account follows, or who follows it, the newest first.
    async fn follows_of(
        &self,
        account: &Account,
        direction: Direction,
        page: Page,
    ) -> Result<Vec<RelatedPerson>, StoreError>;

    /// With those that have expired.
    async fn muted_words(&self, account: &Account) -> Result<Vec<MutedWord>, StoreError>;

    /// Deletes muted words that have expired.
    async fn forget_muted_words(&self, now: Timestamp) -> Result<(), StoreError>;

    /// The one that was not used for longest first.
    async fn sessions_of(&self, account: &Account) -> Result<Vec<Session>, StoreError>;

    /// None also while the account is suspended.
    async fn access_token(&self, digest: &TokenDigest) -> Result<Option<AccessToken>, StoreError>;

    async fn is_code_used(&self, code: &CodeId) -> Result<bool, StoreError>;

    /// Returns the account that an identity is linked to, or else the oldest account that has the identity in its own row.
    async fn owner_of_identity(&self, identity: &Identity) -> Result<Option<Account>, StoreError>;

    /// Deletes used codes that expired before then.
    async fn forget_codes(&self, expired_before: Timestamp) -> Result<(), StoreError>;

    /// The secret of that name; the candidate becomes it when there is none.
    async fn secret(&self, name: &str, candidate: &[u8]) -> Result<Vec<u8>, StoreError>;

    async fn unfinished_resignations(&self) -> Result<Unfinished, StoreError>;

    /// The oldest first.
    async fn pending_resignations(&self, limit: u32) -> Result<Vec<PendingResignation>, StoreError>;

    /// The unfinished resignations of an account of that hash.
    async fn pending_resignations_of(&self, account_hash: &[u8; 32]) -> Result<Vec<PendingResignation>, StoreError>;

    /// The proofs of all resignations, also of those that are not complete, the oldest first.
    async fn resignation_proofs(&self) -> Result<Vec<ResignationProof>, StoreError>;

    async fn discarded_images(&self, now: Timestamp, limit: u32) -> Result<Vec<ImageId>, StoreError>;

    async fn forget_discarded_image(&self, image: ImageId) -> Result<(), StoreError>;

    /// A picture that cannot be discarded now blocks nothing.
    async fn postpone_discarded_image(&self, image: ImageId, due_at: Timestamp) -> Result<(), StoreError>;

    /// Timers that are due, the earliest first. Another replica may be about to take them: see [`Transaction::take_timer`].
    async fn due_timers(&self, kind: &str, now: Timestamp, limit: u32) -> Result<Vec<DueTimer>, StoreError>;

    /// Sets a due timer that has failed to a later moment.
    async fn postpone_timer(&self, kind: &str, key: &str, now: Timestamp, fire_at: Timestamp)
    -> Result<(), StoreError>;

    /// Puts a timer aside whose key cannot be read.
    async fn quarantine_timer(&self, kind: &str, key: &str) -> Result<(), StoreError>;

    /// Deletes reservations of nicknames that have ended.
    async fn forget_reservations(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Returns whether the nickname is reserved for another account, or one that looks like it is borne by another account or reserved for one.
    async fn is_nickname_kept(&self, claim: &NicknameClaim<'_>) -> Result<bool, StoreError>;

    /// Returns whether the looks of an account's nickname are to be made: see [`Transaction::make_looks`].
    async fn is_without_looks(&self) -> Result<bool, StoreError>;

    async fn withheld_tombstones(&self, topic: Topic, limit: u32) -> Result<Vec<Tombstone>, StoreError>;

    fn outbox(&self) -> Arc<dyn Outbox>;
}

/// Nothing of it is there before [`Transaction::commit`], and nothing after it was dropped. A row that is read stays as it is until
/// the end. The order of locks is code, person, session, resignation, external call, timer: two transactions that lock the same rows in different
/// orders would wait for each other.
#[async_trait]
pub trait Transaction:
    ConnectionTransaction + EmailTransaction + ExternalCallTransaction + ImportTransaction + ModerationTransaction + Send
{
    /// Records that a code was used, until it expires; false if it was used before. Of several transactions with the same code one
    /// gets true.
    async fn use_code(&mut self, code: &CodeId, expires_at: Timestamp) -> Result<bool, StoreError>;

    async fn person(&mut self, account: &Account) -> Result<Option<Person>, StoreError>;

    /// Returns the person of this account, or of one that differs from it in letter case only.
    async fn person_at(&mut self, account: &Account) -> Result<Option<Person>, StoreError>;

    /// Returns who bears the nickname of this key.
    async fn person_keyed(&mut self, key: &NicknameKey) -> Result<Option<Person>, StoreError>;

    /// Writes the key of a person's nickname, and whether it was chosen; false when another account has the key.
    async fn set_nickname_key(&mut self, person: &Person) -> Result<bool, StoreError>;

    /// False when another account has the key.
    async fn set_address_key(&mut self, account: &Account, key: &[u8; 32]) -> Result<bool, StoreError>;

    /// [`StoreError::Retry`] when another transaction was quicker.
    async fn insert_person(&mut self, person: &Person) -> Result<(), StoreError>;

    /// Returns the account that an identity is linked to.
    async fn owner_of_linked_identity(&mut self, identity: &Identity) -> Result<Option<Account>, StoreError>;

    /// As [`Transaction::owner_of_linked_identity`], or else the oldest account that has the identity in its own row.
    async fn owner_of_identity(&mut self, identity: &Identity) -> Result<Option<Account>, StoreError>;

    /// Returns the identities that are linked to an account, beside that of its own row.
    async fn identities_of(&mut self, account: &Account) -> Result<Vec<LinkedIdentity>, StoreError>;

    /// False when an account has the identity.
    async fn insert_identity(
        &mut self,
        account: &Account,
        identity: &Identity,
        at: Timestamp,
    ) -> Result<bool, StoreError>;

    async fn delete_identity(&mut self, account: &Account, identity: &Identity) -> Result<(), StoreError>;

    /// Writes the identity of the account's own row.
    async fn link_person(&mut self, account: &Account, identity: &Identity) -> Result<(), StoreError>;

    async fn stamp_person(&mut self, account: &Account, at: Timestamp) -> Result<(), StoreError>;

    /// False when the nickname belongs to another account; the transaction has to be rolled back then.
    async fn set_profile(
        &mut self,
        account: &Account,
        nickname: &Nickname,
        introduction: &Introduction,
        image: Option<ImageId>,
    ) -> Result<bool, StoreError>;

    /// With sessions, tokens and blocks.
    async fn delete_person(&mut self, account: &Account) -> Result<(), StoreError>;

    /// Returns the account of a session; locks nothing.
    async fn owner_of(&mut self, session: SessionId) -> Result<Option<Account>, StoreError>;

    async fn session(&mut self, session: SessionId) -> Result<Option<Session>, StoreError>;

    /// The one that was not used for longest first.
    async fn sessions_of(&mut self, account: &Account) -> Result<Vec<Session>, StoreError>;

    async fn insert_session(&mut self, session: &Session) -> Result<(), StoreError>;

    async fn update_session(&mut self, session: &Session) -> Result<(), StoreError>;

    async fn insert_device(&mut self, device: &Device) -> Result<(), StoreError>;

    /// The publisher of the answer has locked the person, so that the event published last is the present state.
    async fn devices_of(&mut self, account: &Account) -> Result<OpenDevices, StoreError>;

    /// With its tokens and its device.
    async fn delete_session(&mut self, session: SessionId) -> Result<(), StoreError>;

    async fn insert_access_token(&mut self, digest: &TokenDigest, token: &AccessToken) -> Result<(), StoreError>;

    /// Returns digest and expiry of the access token of a session that was issued at that moment.
    async fn access_token_of(
        &mut self,
        session: SessionId,
        issued_at: Timestamp,
    ) -> Result<Option<(TokenDigest, Timestamp)>, StoreError>;

    /// Forgets a session's access tokens but for the `most` that were issued last.
    async fn trim_access_tokens(&mut self, session: SessionId, most: u32) -> Result<(), StoreError>;

    /// When the last of its access tokens ends.
    async fn last_expiry(&mut self, session: SessionId) -> Result<Option<Timestamp>, StoreError>;

    async fn delete_access_tokens(&mut self, session: SessionId) -> Result<(), StoreError>;

    /// False when it was so already.
    async fn insert_block(&mut self, account: &Account, other: &Account, since: Timestamp) -> Result<bool, StoreError>;

    /// False when it was so already.
    async fn delete_block(&mut self, account: &Account, other: &Account) -> Result<bool, StoreError>;

    /// Returns the blocks by and of the account, with their times.
    async fn blocks_around(&mut self, account: &Account) -> Result<Vec<Block>, StoreError>;

    /// Returns whether one of the two blocks the other.
    async fn is_blocked(&mut self, one: &Account, other: &Account) -> Result<bool, StoreError>;

    /// False when it was so already.
    async fn insert_follow(&mut self, account: &Account, other: &Account, since: Timestamp)
    -> Result<bool, StoreError>;

    /// False when it was so already.
    async fn delete_follow(&mut self, account: &Account, other: &Account) -> Result<bool, StoreError>;

    async fn follows(&mut self, account: &Account, other: &Account) -> Result<bool, StoreError>;

    /// Returns the follows by and of the account, as pairs of follower and followed account.
    async fn follows_around(&mut self, account: &Account) -> Result<Vec<(Account, Account)>, StoreError>;

    /// With those that have expired.
    async fn muted_words(&mut self, account: &Account) -> Result<Vec<MutedWord>, StoreError>;

    async fn insert_muted_word(&mut self, account: &Account, word: &MutedWord) -> Result<(), StoreError>;

    async fn delete_muted_word(&mut self, account: &Account, word: &Word) -> Result<(), StoreError>;

    async fn insert_resignation(
        &mut self,
        resignation: &Resignation,
        account_hash: &[u8; 32],
    ) -> Result<(), StoreError>;

    /// When an account of that hash last resigned.
    async fn last_resignation(&mut self, account_hash: &[u8; 32]) -> Result<Option<Timestamp>, StoreError>;

    async fn is_resignation(&mut self, id: EventId) -> Result<bool, StoreError>;

    async fn unfinished_resignation(&mut self, id: EventId) -> Result<Option<Resignation>, StoreError>;

    async fn insert_receipt(&mut self, id: EventId, service: &str, at: Timestamp) -> Result<(), StoreError>;

    async fn receipts(&mut self, id: EventId) -> Result<Vec<String>, StoreError>;

    /// Notes that what was erased has to be overwritten in the file as well.
    async fn note_erasure(&mut self, now: Timestamp) -> Result<(), StoreError>;

    /// Forgets who it was. The proof names the services whose receipts were not waited for.
    async fn complete_resignation(
        &mut self,
        id: EventId,
        at: Timestamp,
        not_awaited: &[String],
    ) -> Result<(), StoreError>;

    /// Keeps a nickname until then from everybody but the account of this hash; without one from everybody.
    async fn reserve_nickname(
        &mut self,
        nickname: &Nickname,
        bearer: Option<&[u8; 32]>,
        until: Timestamp,
    ) -> Result<(), StoreError>;

    /// Releases the reservations of the account of this hash, but for the `most` that end last.
    async fn trim_reservations(&mut self, bearer: &[u8; 32], most: u32) -> Result<(), StoreError>;

    async fn release_nickname(&mut self, nickname: &Nickname) -> Result<(), StoreError>;

    /// Takes over the reservations of the release before, which had no keys.
    async fn take_old_reservations(&mut self) -> Result<(), StoreError>;

    /// As [`Store::is_nickname_kept`]; to be called after [`Transaction::set_profile`] and [`Transaction::set_looks`]. It waits for transactions that
    /// are about to set or remove one of the looks.
    async fn is_nickname_kept(&mut self, claim: &NicknameClaim<'_>) -> Result<bool, StoreError>;

    /// Replaces the looks of an account's nickname, also where another account has the same.
    async fn set_looks(&mut self, account: &Account, nickname: &Nickname) -> Result<(), StoreError>;

    /// Makes the looks of at most `limit` accounts whose nicknames an older release has written, or whose looks have a smaller version than
    /// [`NicknameLooks::VERSION`](sosohappy_common::NicknameLooks::VERSION). Returns how many there were. It waits for transactions that make them.
    async fn make_looks(&mut self, limit: u32) -> Result<u32, StoreError>;

    /// Remembers a tombstone that must not be published yet.
    async fn withhold_tombstone(&mut self, topic: Topic, account: &Account, at: Timestamp) -> Result<(), StoreError>;

    /// Takes a withheld tombstone; false when another replica was quicker.
    async fn take_tombstone(&mut self, topic: Topic, account: &Account) -> Result<bool, StoreError>;

    /// The picture is deleted from the object store once that time has come, unless it is kept before.
    async fn discard_image(&mut self, image: ImageId, due_at: Timestamp) -> Result<(), StoreError>;

    async fn keep_image(&mut self, image: ImageId) -> Result<(), StoreError>;

    async fn set_timer(&mut self, timer: &Timer) -> Result<(), StoreError>;

    async fn clear_timer(&mut self, kind: &str, key: &str) -> Result<(), StoreError>;

    /// Clears a timer that is due; false when it is not, or no more.
    async fn take_timer(&mut self, kind: &str, key: &str, now: Timestamp) -> Result<bool, StoreError>;

    async fn enqueue(&mut self, record: &Outgoing, now: Timestamp) -> Result<(), StoreError>;

    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

/// Opens the engine that the URL names.
pub async fn open(url: &SecretUrl, max_connections: u32, context: &Context) -> Result<Arc<dyn Store>, StoreError> {
    match url.scheme() {
        "sqlite" => Ok(Arc::new(sqlite::open(url, max_connections, context).await?)),
        "mysql" => Ok(Arc::new(mysql::open(url, max_connections, context).await?)),
        other => Err(StoreError::Settings(format!(
            "auth keeps its accounts in sqlite: or mysql:, not in {other}:"
        ))),
    }
}
