-- Until when a backup was promised to stay.
ALTER TABLE backups ADD COLUMN keep_until BIGINT;
-- How a target locks what is to stay.
ALTER TABLE targets ADD COLUMN object_lock TEXT;
