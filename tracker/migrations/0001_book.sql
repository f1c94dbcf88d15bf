-- The book and what belongs to it. Read by SQLite and by PostgreSQL: BIGINT, TEXT, BYTEA and BOOLEAN mean the same to
-- both through our driver. Ids and keys are in their one text form (base64url), times in milliseconds since 1970,
-- money in micro-units.

CREATE TABLE accounts (
    account TEXT NOT NULL PRIMARY KEY,
    balance BIGINT NOT NULL,
    CHECK (balance >= 0 OR account = 'external')
);

-- Every transfer's entries sum to zero.
CREATE TABLE transfers (
    transfer TEXT NOT NULL PRIMARY KEY,
    purpose TEXT NOT NULL,
    batch BIGINT NOT NULL,
    made BIGINT NOT NULL
);

CREATE TABLE entries (
    transfer TEXT NOT NULL REFERENCES transfers (transfer),
    account TEXT NOT NULL REFERENCES accounts (account),
    amount BIGINT NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (transfer, account)
);

CREATE INDEX entries_by_account ON entries (account);

-- A stream's money. Who it is stands in `streams`.
CREATE TABLE terms (
    stream TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    price BIGINT NOT NULL,
    budget_day BIGINT NOT NULL,
    stopped BOOLEAN NOT NULL,
    recorded BOOLEAN NOT NULL,
    -- Live: milliseconds of its window. Recorded: bits a second.
    extent BIGINT NOT NULL,
    spent_day BIGINT NOT NULL,
    spent BIGINT NOT NULL,
    published_before_restart BIGINT NOT NULL,
    published_bytes BIGINT NOT NULL,
    published_at BIGINT NOT NULL,
    published_before_window BIGINT NOT NULL,
    removed BOOLEAN NOT NULL
);

CREATE TABLE sessions (
    session TEXT NOT NULL PRIMARY KEY,
    session_key TEXT NOT NULL,
    stream TEXT NOT NULL REFERENCES terms (stream),
    joined BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    closed BOOLEAN NOT NULL,
    ended BOOLEAN NOT NULL,
    base BIGINT NOT NULL,
    payable BIGINT NOT NULL
);

-- What a start reads, out of all that ever was.
CREATE INDEX sessions_alive ON sessions (session) WHERE NOT ended;

CREATE TABLE lanes (
    session TEXT NOT NULL REFERENCES sessions (session),
    edge TEXT NOT NULL,
    operator TEXT NOT NULL,
    price BIGINT NOT NULL,
    cap_bytes BIGINT NOT NULL,
    headroom BIGINT NOT NULL,
    serial BIGINT NOT NULL,
    issued BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    payable BIGINT NOT NULL,
    received BIGINT NOT NULL,
    segments BIGINT NOT NULL,
    paid BIGINT NOT NULL,
    reserved BIGINT NOT NULL CHECK (reserved >= 0),
    settled BOOLEAN NOT NULL,
    epoch BIGINT NOT NULL,
    epoch_micros BIGINT NOT NULL,
    epoch_bytes BIGINT NOT NULL,
    epoch_segments BIGINT NOT NULL,
    booked BIGINT NOT NULL,
    digest TEXT NOT NULL,
    refused BIGINT NOT NULL,
    PRIMARY KEY (session, edge)
);

CREATE INDEX lanes_by_edge ON lanes (edge);
CREATE INDEX lanes_by_operator ON lanes (operator);

-- The newest voucher of a lane in an epoch, and what the lane earned in that epoch: what payouts are traced back to.
CREATE TABLE vouchers (
    session TEXT NOT NULL,
    edge TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    operator TEXT NOT NULL,
    stream TEXT NOT NULL,
    payable BIGINT NOT NULL,
    micros BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    segments BIGINT NOT NULL,
    booked BIGINT NOT NULL,
    voucher BYTEA NOT NULL,
    PRIMARY KEY (session, edge, epoch),
    FOREIGN KEY (session, edge) REFERENCES lanes (session, edge)
);

CREATE INDEX vouchers_by_operator ON vouchers (operator, epoch);

CREATE TABLE epochs (
    epoch BIGINT NOT NULL,
    operator TEXT NOT NULL,
    micros BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    segments BIGINT NOT NULL,
    PRIMARY KEY (epoch, operator)
);

CREATE INDEX epochs_by_operator ON epochs (operator, epoch);

CREATE TABLE refusals (
    batch BIGINT NOT NULL,
    line BIGINT NOT NULL,
    session TEXT NOT NULL,
    edge TEXT NOT NULL,
    payable BIGINT NOT NULL,
    made BIGINT NOT NULL,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (batch, line)
);

CREATE INDEX refusals_by_edge ON refusals (edge, made);

-- Who a stream is: its keys and who may watch. The seed is the root key's secret, which is why this file is for the
-- tracker's user alone.
CREATE TABLE streams (
    stream TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    key_hash TEXT NOT NULL UNIQUE,
    root_seed BYTEA NOT NULL,
    public BOOLEAN NOT NULL,
    ticket_key TEXT,
    generation BIGINT NOT NULL,
    created BIGINT NOT NULL
);

-- Tickets that were used, until they would be refused for their age.
CREATE TABLE tickets (
    stream TEXT NOT NULL,
    jti TEXT NOT NULL,
    forget BIGINT NOT NULL,
    PRIMARY KEY (stream, jti)
);

CREATE INDEX tickets_by_age ON tickets (forget);

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
