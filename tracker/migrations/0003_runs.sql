-- Each of a stream's counters has a name, and is counted by it: `name:bytes`, the newest last. What was counted
-- before has no name and is one sum.
ALTER TABLE terms ADD COLUMN published_runs TEXT NOT NULL DEFAULT '';
UPDATE terms SET published_before_restart = published_before_restart + published_bytes;
ALTER TABLE terms RENAME COLUMN published_before_restart TO published_before_runs;
ALTER TABLE terms DROP COLUMN published_bytes;
ALTER TABLE terms DROP COLUMN published_at;

-- Whom the stream was delegated to last: who may say where it is.
ALTER TABLE streams ADD COLUMN packager TEXT;
