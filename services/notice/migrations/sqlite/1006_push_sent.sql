-- Devices that a waiting push was sent to already, as a JSON array: a later try leaves them out.
ALTER TABLE push ADD COLUMN sent TEXT;
