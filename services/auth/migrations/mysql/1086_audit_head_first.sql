INSERT INTO audit_head (id, entry, digest) VALUES (1, 0, UNHEX(REPEAT('00', 32)));
