-- Unread notices of an account that does not say what it has read are counted from the time of its last view, and not through its whole inbox.
CREATE INDEX notice_account_occurred_at ON notice (account, occurred_at);
