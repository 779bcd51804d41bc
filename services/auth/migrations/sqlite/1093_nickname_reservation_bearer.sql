-- An account keeps a bounded number of reservations: the oldest are found by its keyed hash.
CREATE INDEX nickname_reservation_bearer ON nickname_reservation (bearer, reserved_until);
