-- Volumes that are used already while they are filled from a backup.

-- The backup that a volume is filled from; null when it is whole.
ALTER TABLE volumes ADD COLUMN filling_backup_id TEXT REFERENCES backups (id);
CREATE INDEX volumes_by_filling ON volumes (filling_backup_id) WHERE filling_backup_id IS NOT NULL;

DROP VIEW volumes_attached;
CREATE VIEW volumes_attached AS
    SELECT v.id, v.account_id, v.project_id, v.pool_id, v.plan_id, v.name, v.role, v.size_bytes,
        v.state, v.attached_instance, v.attached_state, v.origin_kind, v.origin_id,
        v.filling_backup_id, v.active_operation_id, v.cooldown_until, v.tip_layer_id, v.used_bytes,
        v.failure, v.created_at, v.version, v.instance_id, v.place,
        i.name AS instance_name, i.state AS instance_state, i.power AS instance_power,
        i.ready AS instance_ready, i.load_percent AS instance_load,
        i.active_operation_id AS instance_operation_id
    FROM volumes v LEFT JOIN instances i ON i.id = v.instance_id;

-- The work on that: which task has it, how far it is, how the last one failed.
CREATE TABLE volume_fills (
    volume_id TEXT NOT NULL PRIMARY KEY REFERENCES volumes (id) ON DELETE CASCADE,
    task_id TEXT,
    progress TEXT,
    due_at BIGINT NOT NULL,
    failure TEXT
);
CREATE UNIQUE INDEX volume_fills_by_task ON volume_fills (task_id) WHERE task_id IS NOT NULL;
