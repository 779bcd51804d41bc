-- The column of the next migration is added at once only while no key has a virtual column. Builds before this one read `looks_made`, which stays.
ALTER TABLE account DROP KEY account_looks_made, ALGORITHM = INPLACE, LOCK = NONE;
