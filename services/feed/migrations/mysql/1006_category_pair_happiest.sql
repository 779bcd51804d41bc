-- A category's companions, the happiest first.
CREATE INDEX category_pair_happiest ON category_pair (one, happiness DESC, other)
