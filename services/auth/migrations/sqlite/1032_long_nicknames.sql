-- A nickname of ten user-perceived characters can have more than 100 code points: nothing to change where text has no limit.
SELECT 1;
