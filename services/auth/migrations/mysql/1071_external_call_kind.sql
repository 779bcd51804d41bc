-- Mails with codes are external calls, too: `mail` is no longer written. A kind waits for no other one.
CREATE INDEX external_call_kind ON external_call (kind, due_at);
