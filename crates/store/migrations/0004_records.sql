-- What happened: for the live stream, for the audit, and so that a repeated request is the same
-- request.

CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    volume_id TEXT,
    operation_id TEXT,
    at BIGINT NOT NULL
);
CREATE INDEX events_by_account ON events (account_id, sequence);
CREATE INDEX events_by_age ON events (at);

CREATE TABLE audit (
    sequence BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    account_id TEXT,
    user_id TEXT,
    login TEXT NOT NULL,
    request_id TEXT,
    action TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash TEXT NOT NULL
);

CREATE TABLE idempotency (
    account_id TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, key)
);
CREATE INDEX idempotency_by_age ON idempotency (created_at);
