-- The care of vaults: collections and verifications, on a schedule, one at a time.

CREATE TABLE vault_care (
    vault_id TEXT NOT NULL PRIMARY KEY REFERENCES vaults (id),
    -- The task that cares for it now, and how far that is.
    task_id TEXT,
    progress TEXT,
    collect_due_at BIGINT NOT NULL,
    verify_due_at BIGINT NOT NULL,
    -- So many bytes may go in the next collection, because an administrator said so.
    confirmed_bytes BIGINT NOT NULL,
    freed_bytes BIGINT NOT NULL,
    -- How the last of each ended.
    collection TEXT,
    collected_at BIGINT,
    verification TEXT,
    verified_at BIGINT,
    damage TEXT NOT NULL,
    failure TEXT
);
CREATE UNIQUE INDEX vault_care_by_task ON vault_care (task_id) WHERE task_id IS NOT NULL;

-- When the schedule last looked at a backup, whatever it found.
CREATE TABLE backup_checks (
    backup_id TEXT NOT NULL PRIMARY KEY REFERENCES backups (id) ON DELETE CASCADE,
    checked_at BIGINT NOT NULL
);
