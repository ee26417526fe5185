-- Instances, and which of them has a volume.

CREATE TABLE instances (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    pool_id TEXT NOT NULL REFERENCES pools (id),
    name TEXT NOT NULL,
    flavor TEXT NOT NULL,
    state TEXT NOT NULL,
    power TEXT NOT NULL,
    ready BIGINT NOT NULL,
    load_percent BIGINT,
    next_place BIGINT NOT NULL,
    active_operation_id TEXT,
    failure TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    version BIGINT NOT NULL,
    UNIQUE (project_id, name)
);
CREATE INDEX instances_by_age ON instances (project_id, created_at, id);
CREATE INDEX instances_by_pool ON instances (pool_id);

-- An instance of ours that has the volume, and its place there. What the provider's orchestrator
-- reported stays in attached_instance and attached_state; a volume has one or the other.
ALTER TABLE volumes ADD COLUMN instance_id TEXT REFERENCES instances (id);
ALTER TABLE volumes ADD COLUMN place BIGINT;
CREATE UNIQUE INDEX volumes_by_instance ON volumes (instance_id, place)
    WHERE instance_id IS NOT NULL;

-- A volume with what its rules need to know of the instance that has it.
CREATE VIEW volumes_attached AS
    SELECT v.id, v.account_id, v.project_id, v.pool_id, v.plan_id, v.name, v.role, v.size_bytes,
        v.state, v.attached_instance, v.attached_state, v.origin_kind, v.origin_id,
        v.active_operation_id, v.cooldown_until, v.tip_layer_id, v.used_bytes, v.failure,
        v.created_at, v.version, v.instance_id, v.place,
        i.name AS instance_name, i.state AS instance_state, i.power AS instance_power,
        i.ready AS instance_ready, i.load_percent AS instance_load,
        i.active_operation_id AS instance_operation_id
    FROM volumes v LEFT JOIN instances i ON i.id = v.instance_id;

ALTER TABLE operations ADD COLUMN instance_id TEXT;
ALTER TABLE operations ADD COLUMN instance_name TEXT;
CREATE INDEX operations_by_instance ON operations (instance_id, created_at, id);
-- Whatever the code does: an instance has at most one operation under way.
CREATE UNIQUE INDEX operations_one_per_instance ON operations (instance_id)
    WHERE finished_at IS NULL AND instance_id IS NOT NULL;

-- Whether a node has said that it runs instances.
ALTER TABLE nodes ADD COLUMN runs_instances BIGINT NOT NULL DEFAULT 0;
