//! The ports to feed's tables and the outcomes a caller must tell apart. Adapters: `SQLite` and `MySQL`, over one text of statements.

pub mod imports;
#[cfg(test)]
mod migration_tests;
mod mysql;
mod sqlite;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod view_tests;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::settings::SecretUrl;
use sosohappy_common::{Account, Context};
use sosohappy_events::Outgoing;
use sosohappy_events::types::{ModerationOutcome, PostChanged};
use sosohappy_media::ImageId;
use sosohappy_store::outbox::Outbox;
use sosohappy_store::{Directory, Ping, StoreError, Transient};

use crate::domain::companions::Companions;
use crate::domain::draft::{Draft, SavedDraft};
use crate::domain::post::PostVersion;
use crate::domain::review::ReviewedPost;
use crate::domain::view::PostView;
use crate::domain::word_list::WordList;
use crate::domain::{Comment, Day, Days, NewPost, OwnPost, PageFrom, PostDate, SeenPost, Sort, Visibility, Writer};
use crate::store::imports::Imports;

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The account resigned after the writer's token was issued.
    #[error("the account has resigned")]
    Resigned,
    /// The upload took so long that its pictures were given up.
    #[error("the pictures were given up")]
    ImagesGivenUp,
    /// Another request was stored under the same idempotency key.
    #[error("the idempotency key names another request")]
    KeyReused,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Transient for WriteError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

/// Why a comment was not stored.
#[derive(Debug, thiserror::Error)]
pub enum CommentError {
    /// The writer sees no such post: it is private, of a day to come, not there, or one of the two blocks the other.
    #[error("there is no such post")]
    NoSuchPost,
    #[error("the post takes no comments")]
    Closed,
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for CommentError {
    fn from(error: StoreError) -> Self {
        Self::Write(error.into())
    }
}

impl Transient for CommentError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Write(error) if error.is_transient())
    }
}

/// Which posts of others.
#[derive(Debug, Clone)]
pub struct Shown<'a> {
    /// The account that reads: posts of people in a block with it, in either direction, are left out.
    pub viewer: &'a Account,
    /// Posts of later days are not there yet.
    pub today: Day,
    pub by: By<'a>,
    pub day: Option<Day>,
    pub sort: Sort,
}

/// A list that no other method explains.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub enum List<'a> {
    Own(&'a Account, Days),
    Likers(&'a Account, Days),
    Happiness(&'a Account, Days),
    Reviewed(&'a Account, Days),
    Exported(&'a Account),
    Versions(i64),
    Drafts(&'a Account, Option<Day>),
    HeldPosts,
    HeldComments,
}

#[derive(Debug, Clone, Copy)]
pub enum By<'a> {
    One(&'a Account),
    /// Everybody but the viewer.
    Others,
}

/// A picture under its id until now and under its new one.
#[derive(Debug, Clone, Copy)]
pub struct Copied {
    pub old: ImageId,
    pub new: ImageId,
}

/// Another audience of a post.
#[derive(Debug, Clone)]
pub struct VisibilityChange {
    /// The visibility that was read; a post that has another one by now is not changed.
    pub from: Visibility,
    pub to: Visibility,
    /// Reserved copies of its pictures, where fewer people see it from now on.
    pub copies: Vec<Copied>,
    /// A post with one of them is held for review before more people see it.
    pub words: WordList,
}

/// Outcome of a change that was prepared from what was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toggled {
    Done,
    NoPost,
    /// The post has become another meanwhile: the copies are not of its pictures.
    Changed,
}

/// Outcome of a save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    Stored,
    /// The same save was stored before. Nothing has changed, and the pictures of this one are in no post.
    Repeated,
}

/// Returns the event of a like (true) or of a withdrawn like (false) of the post of that date, if its author is to be notified.
pub type Notice<'a> = &'a (dyn Fn(PostDate, bool) -> Option<Outgoing> + Send + Sync);

/// Makes the notice of a comment from its id and the date of the post, if anybody is to hear of it.
pub type CommentNotice<'a> = &'a (dyn Fn(i64, PostDate) -> Option<Outgoing> + Send + Sync);

#[async_trait]
pub trait Posts: Debug + Send + Sync {
    /// Stores the post of that day, or puts it in the place of the one that is there: likes stay, pictures that are no longer in it
    /// become garbage. Takes its pictures out of their reservation. A repeated save changes nothing: one under a key that was stored, or
    /// one that the post of the day is exactly the outcome of. A draft of the day is deleted.
    async fn save(&self, post: &NewPost, now: Timestamp) -> Result<Saved, WriteError>;

    /// Returns whether [`Posts::save`] would find the save repeated, which it then is. For a post whose pictures are not stored yet.
    async fn repeat(&self, post: &NewPost, now: Timestamp) -> Result<bool, WriteError>;

    /// Up to `rows` earlier versions of the author's post of that day, newest first; `None` when there is no post.
    async fn history(
        &self,
        author: &Account,
        day: Day,
        from: PageFrom,
        rows: i64,
    ) -> Result<Option<Vec<PostVersion>>, StoreError>;

    /// The author's own posts, newest first.
    async fn own(&self, author: &Account, days: Days) -> Result<Vec<OwnPost>, StoreError>;

    /// Returns the visibility of the author's post of that day, and its pictures; `None` when there is no post.
    async fn visibility(&self, author: &Account, day: Day) -> Result<Option<(Visibility, Vec<ImageId>)>, StoreError>;

    /// Changes who sees the author's post of that day. One that fewer see from now on gets the copies for the pictures it has: their old
    /// ids, which others may know, become garbage.
    async fn set_visibility(
        &self,
        author: &Account,
        day: Day,
        change: &VisibilityChange,
        now: Timestamp,
    ) -> Result<Toggled, WriteError>;

    /// False when there is no post.
    async fn delete(&self, author: &Account, day: Day, now: Timestamp) -> Result<bool, StoreError>;

    /// Up to `rows` posts in their order: public ones, and of one author who is the viewer's friend also those for friends.
    async fn public(&self, shown: &Shown<'_>, from: PageFrom, rows: i64) -> Result<Vec<SeenPost>, StoreError>;

    /// Up to `rows` posts of the viewer's friends, newest first, those only for friends included.
    async fn of_friends(
        &self,
        viewer: &Account,
        today: Day,
        from: PageFrom,
        rows: i64,
    ) -> Result<Vec<SeenPost>, StoreError>;

    /// How the database finds the newest posts of each of these friends, a line a step.
    #[cfg(test)]
    async fn friends_plan(&self, friends: &[Account], from: PageFrom, rows: i64) -> Vec<String>;

    /// How the database finds the rows of this list, a line a step.
    #[cfg(test)]
    async fn list_plan(&self, list: List<'_>, from: PageFrom) -> Vec<String>;

    /// How the database finds such a page, a line a step.
    #[cfg(test)]
    async fn public_plan(&self, shown: &Shown<'_>, from: PageFrom, rows: i64) -> Vec<String>;

    /// Returns the parts of the author's posts that a review needs, in the order of their days.
    async fn reviewed(&self, author: &Account, days: Days) -> Result<Vec<ReviewedPost>, StoreError>;

    /// The happiness of each day that has a post, in the order of the days.
    async fn happiness(&self, author: &Account, days: Days) -> Result<Vec<(Day, i32)>, StoreError>;
}

/// The post that a like or a bookmark is put on or taken off.
#[derive(Debug, Clone, Copy)]
pub struct Marked<'a> {
    pub author: &'a Account,
    pub day: Day,
    /// Whether the author is suspended: marks are taken off only, as off a post that is not seen.
    pub is_suspended: bool,
}

#[async_trait]
pub trait Likes: Debug + Send + Sync {
    /// Likes the post, or no longer does; true for a like. The event of either is written with it. A like is taken back whatever has become of
    /// the post. `None` when the liker does not like it and sees no such post (it is private, hidden, held, of a day to come, not there, its
    /// author is suspended, or one of the two blocks the other).
    async fn toggle(
        &self,
        liker: &Writer,
        marked: Marked<'_>,
        notice: Notice<'_>,
        now: Timestamp,
    ) -> Result<Option<bool>, WriteError>;
}

/// A comment to store.
#[derive(Debug, Clone, Copy)]
pub struct NewComment<'a> {
    pub text: &'a str,
    /// It waits for a review.
    pub is_held: bool,
}

#[async_trait]
pub trait Comments: Debug + Send + Sync {
    /// Stores a comment on the author's post of that day, with its notice; returns its id. One that is held for review is seen by its writer
    /// alone, and has no notice yet.
    async fn comment(
        &self,
        writer: &Writer,
        author: &Account,
        day: Day,
        comment: NewComment<'_>,
        notice: CommentNotice<'_>,
        now: Timestamp,
    ) -> Result<i64, CommentError>;

    /// Up to `rows` comments, oldest first, without those of people in a block with the viewer; `None` when the viewer sees no such post.
    async fn comments(
        &self,
        viewer: &Account,
        author: &Account,
        day: Day,
        today: Day,
        from: PageFrom,
        rows: i64,
    ) -> Result<Option<Vec<Comment>>, StoreError>;

    /// How the database finds a page of comments, a line a step.
    #[cfg(test)]
    async fn comments_plan(&self, viewer: &Account, post: i64, from: PageFrom) -> Vec<String>;

    /// Deletes one's own comment, or one on one's own post; false when there is none.
    async fn delete_comment(&self, by: &Account, id: i64, now: Timestamp) -> Result<bool, StoreError>;

    /// Closes the author's post to new comments, or opens it again; returns whether it takes comments now, `None` when there is no post.
    async fn toggle_comments(&self, author: &Account, day: Day, now: Timestamp) -> Result<Option<bool>, WriteError>;
}

/// A bookmarked post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bookmarked {
    pub post: SeenPost,
    /// In milliseconds since the epoch.
    pub saved_at: i64,
}

/// Makes the notice of a bookmark that was set (true) or taken back, from the date of the post.
pub type BookmarkNotice<'a> = &'a (dyn Fn(bool, PostDate) -> Outgoing + Send + Sync);

#[async_trait]
pub trait Bookmarks: Debug + Send + Sync {
    /// Bookmarks the post, or no longer does; true for a bookmark. `None` as for a like.
    async fn toggle_bookmark(
        &self,
        saver: &Writer,
        marked: Marked<'_>,
        notice: BookmarkNotice<'_>,
        now: Timestamp,
    ) -> Result<Option<bool>, WriteError>;

    /// Up to `rows` saved posts that the person still sees, the one saved last first.
    async fn bookmarks(
        &self,
        saver: &Account,
        today: Day,
        from: PageFrom,
        rows: i64,
    ) -> Result<Vec<Bookmarked>, StoreError>;

    /// How the database finds a page of bookmarks, a line a step.
    #[cfg(test)]
    async fn bookmarks_plan(&self, saver: &Account, today: Day, from: PageFrom) -> Vec<String>;
}

/// A post that is held for review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPost {
    pub id: i64,
    pub author: Account,
    pub date: PostDate,
    pub text: String,
    pub weather: String,
    pub categories: Vec<String>,
    pub images: Vec<ImageId>,
    pub version: Vec<u8>,
    pub held_at: Timestamp,
}

/// A comment that is held for review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldComment {
    pub id: i64,
    pub writer: Account,
    /// When the writer's access token was issued.
    pub authorized_at: Timestamp,
    pub text: String,
    /// Of the post.
    pub author: Account,
    /// Of the post.
    pub date: PostDate,
    pub held_at: Timestamp,
}

/// Posts and comments that wait for a moderator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub waiting: i64,
    /// Of these, since before the time that was asked for.
    pub late: i64,
}

/// A moderator's decision about held content.
#[derive(Debug, Clone, Copy)]
pub struct Release<'a> {
    pub moderator: &'a Account,
    /// Whether others see it from now on.
    pub is_released: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reviewed {
    Decided,
    /// Nothing of that id waits for a decision.
    NothingHeld,
    /// The post has another version by now.
    Changed,
    /// It is the moderator's own.
    OwnContent,
}

/// Makes the events of a decision, from the writer, the date of the post and the comment if it is about one.
pub type ReleaseEvents<'a> = &'a (dyn Fn(&Account, PostDate, Option<&HeldComment>) -> Vec<Outgoing> + Send + Sync);

/// Posts and comments with a word of the list.
#[async_trait]
pub trait Reviews: Debug + Send + Sync {
    /// Up to `rows` posts that wait, the oldest first. A private post is not among them.
    async fn held_posts(&self, from: PageFrom, rows: i64) -> Result<Vec<HeldPost>, StoreError>;

    /// Up to `rows` comments that wait, the oldest first.
    async fn held_comments(&self, from: PageFrom, rows: i64) -> Result<Vec<HeldComment>, StoreError>;

    /// Counts what these two lists hold.
    async fn held(&self, late_before: Timestamp) -> Result<Held, StoreError>;

    /// Who has written the comment, if it waits.
    async fn held_comment_writer(&self, comment: i64) -> Result<Option<Account>, StoreError>;

    /// Decides about this version of a post.
    async fn decide_post(
        &self,
        post: i64,
        version: &[u8],
        release: &Release<'_>,
        events: ReleaseEvents<'_>,
        now: Timestamp,
    ) -> Result<Reviewed, StoreError>;

    async fn decide_comment(
        &self,
        comment: i64,
        release: &Release<'_>,
        events: ReleaseEvents<'_>,
        now: Timestamp,
    ) -> Result<Reviewed, StoreError>;
}

/// A post as its author keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedPost {
    pub date: PostDate,
    pub weather: String,
    pub happiness: i32,
    pub text: String,
    pub visibility: Visibility,
    pub categories: Vec<String>,
    pub images: Vec<ImageId>,
    pub edited_at: Option<Timestamp>,
    pub likes: i64,
    pub comments: i64,
}

#[async_trait]
pub trait Exports: Debug + Send + Sync {
    /// Up to `rows` of the author's posts of days after this one (`yyyyMMdd`, 0 for all), in the order of their days.
    async fn posts_to_export(&self, author: &Account, after: i64, rows: u32) -> Result<Vec<ExportedPost>, StoreError>;

    /// Returns those of the days on which the author has a post, by one statement for up to 500 days.
    async fn days_with_posts(&self, author: &Account, days: &[Day]) -> Result<HashSet<Day>, StoreError>;

    /// Stores a post as [`Posts::save`] does, unless its day has one: then nothing changes, and the result is false. A draft of the day stays.
    async fn save_new(&self, post: &NewPost, now: Timestamp) -> Result<bool, WriteError>;

    /// Returns the key that signs exports: the stored one, or else `fresh`, which is stored.
    async fn export_key(&self, fresh: [u8; 32], now: Timestamp) -> Result<[u8; 32], StoreError>;
}

/// Which views.
#[derive(Debug, Clone, Copy)]
pub struct ViewsOf<'a> {
    pub author: &'a Account,
    pub days: Days,
}

/// The projection of posts that the events of the topic `post` keep.
#[async_trait]
pub trait PostViews: Debug + Send + Sync {
    /// Applies events, of which there is at least one, in their order and in one transaction. A second copy, or one that comes after a later one,
    /// changes nothing that the later one has said. Events of posts that are new to the view take as many statements as one.
    async fn apply_to_view(&self, events: &[PostChanged], now: Timestamp) -> Result<(), StoreError>;

    /// Whether the view has the posts from before it existed.
    async fn is_view_built(&self) -> Result<bool, StoreError>;

    /// Builds the view of posts from before it existed, from the step on at which an earlier build ended; nothing if another replica does.
    async fn build_view(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Builds the view of some posts with ids after this one anew, from the posts themselves. Returns the last of the ids, `None` when there
    /// was none, and how many posts there were.
    async fn rebuild_view_after(&self, after: i64, now: Timestamp) -> Result<(Option<i64>, u64), StoreError>;

    /// Up to `rows` views of posts that the viewer sees, newest first.
    async fn post_views(
        &self,
        viewer: &Account,
        of: ViewsOf<'_>,
        today: Day,
        from: PageFrom,
        rows: i64,
    ) -> Result<Vec<PostView>, StoreError>;

    /// Deletes tombstones from before then, which guard against late events.
    async fn sweep_view(&self, before: Timestamp) -> Result<(), StoreError>;

    /// How the database finds a page of views, a line a step.
    #[cfg(test)]
    async fn views_plan(&self, viewer: &Account, of: ViewsOf<'_>, today: Day, from: PageFrom) -> Vec<String>;
}

/// Pictures without a post. Neither a crash nor an unavailable image store leaks one.
#[async_trait]
pub trait ImageLedger: Debug + Send + Sync {
    /// Before they are uploaded: unless a post takes them until `due`, they are garbage.
    async fn reserve(&self, images: &[ImageId], due: Timestamp) -> Result<(), StoreError>;

    /// Gives up the reservation of pictures that no post will take.
    async fn give_up(&self, images: &[ImageId], now: Timestamp) -> Result<(), StoreError>;

    /// Whether a post had the picture and has it no more: it is served no longer, though it may not be deleted yet.
    async fn is_discarded(&self, image: ImageId) -> Result<bool, StoreError>;

    /// Returns due garbage, which no post can take any more.
    async fn garbage(&self, now: Timestamp, limit: u32) -> Result<Vec<ImageId>, StoreError>;

    /// Removes deleted pictures from the ledger.
    async fn forget(&self, images: &[ImageId]) -> Result<(), StoreError>;

    /// Delays the next attempt to delete pictures.
    async fn postpone(&self, images: &[ImageId], due: Timestamp) -> Result<(), StoreError>;
}

/// Drafts of posts, one for each person and day.
#[async_trait]
pub trait Drafts: Debug + Send + Sync {
    /// Stores a draft in the place of the one of its day; false when the account has `most` drafts of other days.
    async fn save_draft(&self, writer: &Writer, draft: &Draft, most: usize, now: Timestamp)
    -> Result<bool, WriteError>;

    /// Up to `rows` drafts, that of the latest day first.
    async fn drafts(
        &self,
        account: &Account,
        day: Option<Day>,
        from: PageFrom,
        rows: i64,
    ) -> Result<Vec<SavedDraft>, StoreError>;

    /// False when there is none.
    async fn delete_draft(&self, account: &Account, day: Day) -> Result<bool, StoreError>;
}

/// Keys under which saves were stored.
#[async_trait]
pub trait IdempotencyKeys: Debug + Send + Sync {
    /// Deletes keys that have expired.
    async fn forget_keys(&self, now: Timestamp) -> Result<(), StoreError>;
}

#[async_trait]
pub trait Categories: Debug + Send + Sync {
    /// Each post's categories and happiness.
    async fn of_posts(&self, author: &Account, days: Days) -> Result<Vec<(Vec<String>, i32)>, StoreError>;

    /// Returns the categories that occur together with these over all posts. Of a category with very many companions those with the
    /// least happiness may be left out.
    async fn companions(&self, of: &[String]) -> Result<Companions, StoreError>;

    /// Folds up to so many changes into the totals, and puts those that cannot be read into quarantine; how many there were.
    async fn fold(&self, limit: u32, now: Timestamp) -> Result<usize, StoreError>;
}

/// Recommendations as they were shown. They are kept for a day: what others write meanwhile does not change them.
#[async_trait]
pub trait Recommendations: Debug + Send + Sync {
    /// Returns the sentences that the person was shown on this day for these best categories.
    async fn recommended(
        &self,
        account: &Account,
        day: Day,
        best: &[String],
    ) -> Result<Option<Vec<String>>, StoreError>;

    /// Stores the sentences for the rest of the day, and returns them; those of another request if it was quicker.
    async fn keep_recommended(
        &self,
        writer: &Writer,
        day: Day,
        best: &[String],
        sentences: &[String],
    ) -> Result<Vec<String>, WriteError>;

    /// Deletes the sentences of days before this one.
    async fn forget_recommended(&self, before: Day) -> Result<(), StoreError>;
}

#[async_trait]
pub trait Erasures: Debug + Send + Sync {
    /// Erases what was written with tokens issued up to `until`, in steps of which each is committed, and puts the receipt into the
    /// outbox after the last. To do it again erases what is left, and answers again.
    async fn erase(
        &self,
        account: &Account,
        until: Timestamp,
        receipt: &Outgoing,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Forgets resignations before then.
    async fn forget_erasures(&self, before: Timestamp) -> Result<(), StoreError>;
}

/// Content that moderators decide about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The author's post of that day.
    Post(Day),
    /// By its id.
    Comment(i64),
}

#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// Hidden from everybody but the author, or shown again.
    pub hidden: bool,
    /// Of two decisions the later one is in force.
    pub at: Timestamp,
    /// Of content that a report hides at once: nothing is hidden that the reporter would not see without a block.
    pub reporter: Option<&'a Account>,
}

/// A post that others no longer see, whose pictures still have ids that they know.
#[derive(Debug, Clone, Copy)]
pub struct HiddenPost {
    pub id: i64,
    pub date: PostDate,
}

/// An account whose posts others no longer see, or one of whose posts could not be renewed when it was hidden: the ids of its pictures are to be
/// replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    pub account: Account,
    pub requested_at: Timestamp,
}

/// A change of the state of an account that is not in all counts yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    pub account: Account,
    pub changed_at: Timestamp,
}

/// Which accounts are suspended. What a suspended account likes, saves and writes at posts is in no count of theirs.
#[async_trait]
pub trait AccountStates: Debug + Send + Sync {
    /// Stores whether the account is suspended, unless a later state is known or the account was erased since.
    async fn set_suspended(&self, account: &Account, is_suspended: bool, at: Timestamp) -> Result<(), StoreError>;

    /// Returns up to 100 changes that are not in all counts yet, the oldest first.
    async fn uncounted(&self) -> Result<Vec<StateChange>, StoreError>;

    /// Counts all posts with something of the account anew, step by step and with an event for each post. It may be repeated.
    async fn recount(&self, change: &StateChange, now: Timestamp) -> Result<(), StoreError>;
}

/// Content as it was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedContent {
    pub text: String,
    /// The post's present pictures; none for a comment.
    pub images: Vec<ImageId>,
}

#[async_trait]
pub trait Moderation: Debug + Send + Sync {
    /// Hides or restores the author's content, unless a later decision is known; content that is not there is no error. Returns what became of the
    /// decision, and a hidden post that waits for new ids of its pictures.
    async fn moderate(
        &self,
        author: &Account,
        content: Content,
        decision: Decision<'_>,
        now: Timestamp,
    ) -> Result<(ModerationOutcome, Option<HiddenPost>), StoreError>;

    /// Gives a post these reserved copies for its pictures, whose old ids become garbage.
    async fn renew_images(&self, post: HiddenPost, copies: &[Copied], now: Timestamp) -> Result<Toggled, StoreError>;

    /// Stores that the pictures of the author's posts need new ids.
    async fn request_renewal(&self, author: &Account, at: Timestamp) -> Result<(), StoreError>;

    /// Returns whether this replica renews, for ten seconds: several would copy the same pictures, each for itself.
    async fn lease_renewals(&self) -> Result<bool, StoreError>;

    /// Returns up to 100 renewals that are not done, the oldest first.
    async fn renewals(&self) -> Result<Vec<Renewal>, StoreError>;

    /// Returns up to 100 posts of the author with pictures that others may know, in the order of their days, after this one. Hidden and held posts
    /// are among them: friends may have seen a post before it was held.
    async fn known_pictures(&self, author: &Account, after: Option<Day>) -> Result<Vec<HiddenPost>, StoreError>;

    /// Ends a renewal, unless it was requested again.
    async fn end_renewal(&self, renewal: &Renewal) -> Result<(), StoreError>;

    /// Keeps a copy of the author's content under the number of a report, the first time only; false if it is not there or the reporter does
    /// not see it. Content that moderators have hidden counts as seen: it was reported before. So does content of people in a block with the
    /// reporter. Of an unknown reporter, whom an older release does not name, only content of public posts is kept.
    async fn keep_reported(
        &self,
        report: i64,
        author: &Account,
        content: Content,
        reporter: Option<&Account>,
        at: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Deletes the copy of a report, and refuses a later one.
    async fn close_reported(&self, report: i64, at: Timestamp) -> Result<(), StoreError>;

    async fn reported(&self, report: i64) -> Result<Option<ReportedContent>, StoreError>;

    /// Forgets copies of reports from before then.
    async fn forget_reported(&self, before: Timestamp) -> Result<(), StoreError>;
}

pub trait Store:
    Posts
    + Drafts
    + Likes
    + Comments
    + Bookmarks
    + PostViews
    + Reviews
    + Exports
    + ImageLedger
    + IdempotencyKeys
    + Categories
    + Recommendations
    + Erasures
    + Moderation
    + AccountStates
    + Imports
    + Ping
{
}

/// An open database.
#[derive(Debug, Clone)]
pub struct Opened {
    pub store: Arc<dyn Store>,
    pub outbox: Arc<dyn Outbox>,
    pub directory: Arc<dyn Directory>,
}

/// Opens the database that `database.url` names and brings its tables up to date.
pub async fn open(url: &SecretUrl, max_connections: u32, context: &Context) -> Result<Opened, StoreError> {
    match url.scheme() {
        "sqlite" => sqlite::open(url, max_connections, context).await,
        "mysql" => mysql::open(url, max_connections, context).await,
        other => Err(StoreError::Settings(format!(
            "sqlite: or mysql: is expected, not {other}:"
        ))),
    }
}
