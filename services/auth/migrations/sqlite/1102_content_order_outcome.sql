-- What became of an order: `applied`, `notFound` or `superseded`. Null: its service has not answered, or has in a release that answered every order alike.
ALTER TABLE content_order ADD COLUMN outcome TEXT;
