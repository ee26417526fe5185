-- How much of its machine's memory an instance snapshot holds; null when it is of disks alone.
ALTER TABLE instance_snapshots ADD COLUMN memory_bytes BIGINT;
