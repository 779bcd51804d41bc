-- A nickname of ten user-perceived characters can have more than 100 code points.
ALTER TABLE resignation MODIFY COLUMN nickname VARCHAR(400);
