-- Volumes, and what is made of them. Snapshots and backups outlive their volume, so they hold no
-- foreign key on it.

CREATE TABLE volumes (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    pool_id TEXT NOT NULL REFERENCES pools (id),
    plan_id TEXT NOT NULL REFERENCES plans (id),
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    state TEXT NOT NULL,
    attached_instance TEXT,
    attached_state TEXT,
    origin_kind TEXT,
    origin_id TEXT,
    active_operation_id TEXT,
    cooldown_until BIGINT,
    tip_layer_id TEXT,
    used_bytes BIGINT NOT NULL,
    failure TEXT,
    created_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    UNIQUE (project_id, name)
);
CREATE INDEX volumes_by_age ON volumes (project_id, created_at, id);

CREATE TABLE snapshots (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    pool_id TEXT NOT NULL REFERENCES pools (id),
    volume_id TEXT NOT NULL,
    volume_name TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    labels TEXT NOT NULL,
    state TEXT NOT NULL,
    consistency TEXT,
    trigger_word TEXT NOT NULL,
    provisioned_bytes BIGINT NOT NULL,
    used_bytes BIGINT NOT NULL,
    changed_bytes BIGINT NOT NULL,
    stored_bytes BIGINT NOT NULL,
    freed_bytes BIGINT NOT NULL,
    layer_id TEXT,
    duration_ms BIGINT,
    protected BIGINT NOT NULL,
    failure TEXT,
    operation_id TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    version BIGINT NOT NULL
);
CREATE INDEX snapshots_by_age ON snapshots (project_id, created_at, id);
CREATE INDEX snapshots_by_volume ON snapshots (volume_id, created_at, id);
CREATE INDEX snapshots_by_name ON snapshots (account_id, name);
CREATE INDEX snapshots_by_end ON snapshots (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE backups (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    target_id TEXT NOT NULL REFERENCES targets (id),
    volume_id TEXT NOT NULL,
    volume_name TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    labels TEXT NOT NULL,
    state TEXT NOT NULL,
    consistency TEXT,
    trigger_word TEXT NOT NULL,
    provisioned_bytes BIGINT NOT NULL,
    used_bytes BIGINT NOT NULL,
    changed_bytes BIGINT NOT NULL,
    stored_bytes BIGINT NOT NULL,
    freed_bytes BIGINT NOT NULL,
    bytes_read BIGINT NOT NULL,
    content_hash TEXT,
    verified_at BIGINT,
    duration_ms BIGINT,
    protected BIGINT NOT NULL,
    failure TEXT,
    operation_id TEXT,
    created_at BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX backups_by_age ON backups (project_id, created_at, id);
CREATE INDEX backups_by_volume ON backups (volume_id, created_at, id);
CREATE INDEX backups_by_name ON backups (account_id, name);

-- Disk images that arrived, or are arriving, in the upload folder.
CREATE TABLE uploads (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    size_bytes BIGINT,
    operation_id TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX uploads_by_age ON uploads (created_at);
