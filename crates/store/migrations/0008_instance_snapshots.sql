-- Instance snapshots: the whole; its parts are snapshots.

CREATE TABLE instance_snapshots (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    pool_id TEXT NOT NULL,
    -- The instance may be gone.
    instance_id TEXT NOT NULL,
    instance_name TEXT NOT NULL,
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
    -- What the instance was made of, with the snapshot of each volume.
    config TEXT NOT NULL,
    duration_ms BIGINT,
    protected BIGINT NOT NULL,
    failure TEXT,
    operation_id TEXT,
    created_at BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX instance_snapshots_by_age ON instance_snapshots (project_id, created_at, id);
CREATE INDEX instance_snapshots_by_instance ON instance_snapshots (instance_id, created_at, id);
CREATE INDEX instance_snapshots_by_name ON instance_snapshots (account_id, name);

-- The whole that a snapshot is part of, and goes with.
ALTER TABLE snapshots ADD COLUMN instance_snapshot_id TEXT REFERENCES instance_snapshots (id);
CREATE INDEX snapshots_by_whole ON snapshots (instance_snapshot_id)
    WHERE instance_snapshot_id IS NOT NULL;

ALTER TABLE operations ADD COLUMN instance_snapshot_id TEXT;
CREATE INDEX operations_by_instance_snapshot ON operations (instance_snapshot_id)
    WHERE finished_at IS NULL;
