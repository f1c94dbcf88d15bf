-- What is frozen when a session closes, and what lets old rows go.

-- The most that is ever booked on a closed session; absent while that is not known.
ALTER TABLE sessions ADD COLUMN bound BIGINT;

-- What operators were paid on lanes that are not kept any more: with the lanes that are, an operator's account.
CREATE TABLE pruned (
    operator TEXT NOT NULL PRIMARY KEY,
    paid BIGINT NOT NULL
);

CREATE INDEX sessions_by_age ON sessions (expires, session) WHERE ended;
CREATE INDEX transfers_by_age ON transfers (made, transfer) WHERE purpose NOT IN ('fund', 'carry');
CREATE INDEX refusals_by_age ON refusals (made);
