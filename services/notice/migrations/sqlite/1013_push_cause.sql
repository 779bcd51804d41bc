-- The request that caused a push (its id and trace context, as a JSON array): log lines and trace of the push continue it.
ALTER TABLE push ADD COLUMN cause TEXT;
