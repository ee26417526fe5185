-- Where things are, and the rules that apply to them.

CREATE TABLE regions (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE nodes (
    id TEXT NOT NULL PRIMARY KEY,
    region_id TEXT NOT NULL REFERENCES regions (id),
    name TEXT NOT NULL UNIQUE,
    last_seen_at BIGINT
);

CREATE TABLE pools (
    id TEXT NOT NULL PRIMARY KEY,
    node_id TEXT NOT NULL REFERENCES nodes (id),
    name TEXT NOT NULL UNIQUE,
    driver TEXT NOT NULL,
    live_capture BIGINT NOT NULL
);

CREATE TABLE targets (
    id TEXT NOT NULL PRIMARY KEY,
    region_id TEXT NOT NULL REFERENCES regions (id),
    name TEXT NOT NULL UNIQUE,
    driver TEXT NOT NULL
);

-- One vault for each account in each target: no byte is shared between accounts.
CREATE TABLE vaults (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    target_id TEXT NOT NULL REFERENCES targets (id),
    created_at BIGINT NOT NULL,
    UNIQUE (account_id, target_id)
);

-- A version of a plan never changes.
CREATE TABLE plans (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (name, version)
);
