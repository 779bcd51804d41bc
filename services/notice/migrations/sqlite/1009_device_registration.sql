-- What a device says of itself when it registers: without a language its texts are Korean. `seen_at`: when it registered, signed in or opened a
-- socket. `authorized_at`: when the access token that registered it was issued, by auth's clock.
ALTER TABLE device ADD COLUMN language TEXT;
ALTER TABLE device ADD COLUMN platform TEXT;
ALTER TABLE device ADD COLUMN seen_at INTEGER;
ALTER TABLE device ADD COLUMN authorized_at INTEGER;
-- The open sessions of the newest list, as a JSON array: a registration of a session that is closed is refused.
ALTER TABLE account_mark ADD COLUMN open_sessions TEXT;
