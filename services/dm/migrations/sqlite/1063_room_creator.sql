-- A resignation looks for the rooms that the account created.
CREATE INDEX room_creator ON room (creator);
