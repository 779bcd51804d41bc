-- What is unread since the last view is counted by these, and not through all notices and messages of an account.
CREATE INDEX notice_account_occurred_at ON notice (account, occurred_at);
CREATE INDEX message_unread_occurred_at ON message (account, occurred_at) WHERE handled = 0;
