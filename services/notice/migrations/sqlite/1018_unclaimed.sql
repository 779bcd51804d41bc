-- The account, while the inbox has something of it that is later than its resignation: it is of the next account of the address, or was for the
-- one before. An hour later the directory knows whether there is a next one.
ALTER TABLE account_mark ADD COLUMN unclaimed TEXT;

CREATE INDEX account_mark_unclaimed ON account_mark (erased_until) WHERE unclaimed IS NOT NULL;
