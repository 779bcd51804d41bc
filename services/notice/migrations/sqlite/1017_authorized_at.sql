-- When the access token was issued with which a person caused it, by auth's clock: a resignation from then or later erases it, also what another
-- service let the person do in the seconds after the resignation. Without it the moment at which it happened is compared.
ALTER TABLE push ADD COLUMN authorized_at INTEGER;
ALTER TABLE message ADD COLUMN authorized_at INTEGER;
ALTER TABLE message_read ADD COLUMN authorized_at INTEGER;
ALTER TABLE room_read ADD COLUMN authorized_at INTEGER;
-- Of a notice: what a resignation of the receiver, and of the actor, is compared with.
ALTER TABLE notice ADD COLUMN account_at INTEGER;
ALTER TABLE notice ADD COLUMN actor_at INTEGER;
