-- made by `dev.py schema`; user_version 16
--
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
)
--
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name")
--
CREATE TABLE "runs" (
   "number" INTEGER PRIMARY KEY,
   "id" TEXT NOT NULL,
   "pipeline" TEXT NOT NULL,
   "experiment" TEXT NOT NULL,
   "state" TEXT NOT NULL,
   "created_at" TEXT NOT NULL,
   "started_at" TEXT,
   "finished_at" TEXT,
   "seconds" REAL,
   "parameters" TEXT DEFAULT '[]',
   "tags" TEXT DEFAULT '[]',
   "properties" TEXT DEFAULT '[]',
   "source" TEXT DEFAULT '',
   "spec" TEXT DEFAULT '',
   "options" TEXT DEFAULT '',
   "resumed_from" TEXT,
   "mirrors" INTEGER,
   "error" TEXT DEFAULT '',
   "parent" TEXT,
   "name" TEXT DEFAULT '',
   "cancel_requested" INTEGER DEFAULT 0
, kind TEXT NOT NULL DEFAULT 'run', removed TEXT NOT NULL DEFAULT '', superseded TEXT NOT NULL DEFAULT '[]') STRICT
--
CREATE UNIQUE INDEX "idx_runs_id"
    ON "runs" ("id")
--
CREATE INDEX "idx_runs_experiment_number"
    ON "runs" ("experiment", "number")
--
CREATE INDEX "idx_runs_pipeline_number"
    ON "runs" ("pipeline", "number")
--
CREATE INDEX "idx_runs_parent"
    ON "runs" ("parent")
--
CREATE TABLE specs (digest TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID
--
CREATE TABLE documents (digest TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID
--
CREATE TABLE step_runs (
            run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE, idx INTEGER NOT NULL, name TEXT NOT NULL,
            pipeline TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, decision TEXT NOT NULL DEFAULT '',
            causes TEXT NOT NULL DEFAULT '', unread TEXT NOT NULL DEFAULT '', compared INTEGER, manifest TEXT, base_key TEXT,
            snapshot TEXT, result INTEGER, reused_from INTEGER, queued_at TEXT, started_at TEXT, finished_at TEXT, seconds REAL,
            exit TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '', cpu_seconds REAL, peak_memory_bytes INTEGER,
            outputs TEXT NOT NULL DEFAULT '', tags TEXT NOT NULL DEFAULT '', expected_seconds REAL, changed INTEGER NOT NULL DEFAULT 0, put_away TEXT NOT NULL DEFAULT '',
            PRIMARY KEY (run, idx)) STRICT, WITHOUT ROWID
--
CREATE INDEX step_runs_by_name ON step_runs (pipeline, name, run)
--
CREATE TABLE results (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL, step TEXT NOT NULL, pipeline TEXT NOT NULL, fingerprint TEXT NOT NULL,
            base_key TEXT NOT NULL, snapshot TEXT NOT NULL, structure TEXT NOT NULL, reads BLOB, outputs TEXT NOT NULL,
            seconds REAL NOT NULL, finished_at TEXT NOT NULL, withdrawn TEXT NOT NULL DEFAULT '', undeclared BLOB, modules BLOB, audit TEXT NOT NULL DEFAULT '') STRICT
--
CREATE INDEX results_by_base_key ON results (base_key, id)
--
CREATE INDEX results_by_step ON results (pipeline, step, id)
--
CREATE TABLE artifacts (
            digest TEXT PRIMARY KEY, kind TEXT NOT NULL, size_bytes INTEGER NOT NULL, file_count INTEGER NOT NULL,
            signature TEXT NOT NULL, created_at TEXT NOT NULL, collected TEXT NOT NULL DEFAULT '') STRICT, WITHOUT ROWID
--
CREATE TABLE metrics (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL, step TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
            value TEXT NOT NULL, step_number INTEGER, time TEXT NOT NULL, origin TEXT NOT NULL DEFAULT '') STRICT
--
CREATE INDEX metrics_by_run ON metrics (run, step, id)
--
CREATE TABLE files (
            run INTEGER NOT NULL, step TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL,
            PRIMARY KEY (run, step, name)) STRICT, WITHOUT ROWID
--
CREATE TABLE models (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL, run INTEGER NOT NULL, step TEXT NOT NULL,
            path TEXT NOT NULL, tags TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE (name, version)) STRICT
--
CREATE TABLE stat_cache (
            path BLOB PRIMARY KEY, dev INTEGER, ino INTEGER, ctime_ns INTEGER, mtime_ns INTEGER, size INTEGER,
            digest TEXT NOT NULL, cached_at_ns INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID
--
CREATE TABLE cache (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID
--
CREATE TRIGGER runs_final BEFORE UPDATE OF state ON runs
                WHEN OLD.state IN ('succeeded', 'failed', 'canceled', 'reused', 'skipped') AND NEW.state <> OLD.state
                BEGIN SELECT RAISE(ABORT, 'a final state never changes'); END
--
CREATE TRIGGER step_runs_final BEFORE UPDATE OF state ON step_runs
                WHEN OLD.state IN ('succeeded', 'failed', 'canceled', 'reused', 'skipped') AND NEW.state <> OLD.state
                BEGIN SELECT RAISE(ABORT, 'a final state never changes'); END
--
CREATE TABLE sweeps (
            run INTEGER PRIMARY KEY REFERENCES runs(number) ON DELETE CASCADE, axes TEXT NOT NULL, parallel INTEGER NOT NULL,
            fail_fast INTEGER NOT NULL) STRICT
--
CREATE TABLE acceptances (
            id INTEGER PRIMARY KEY, pipeline TEXT NOT NULL, step TEXT NOT NULL, result INTEGER NOT NULL, from_fingerprint TEXT NOT NULL,
            from_snapshot TEXT NOT NULL, fingerprint TEXT NOT NULL, snapshot TEXT NOT NULL, causes TEXT NOT NULL, who TEXT NOT NULL,
            because TEXT NOT NULL, created_at TEXT NOT NULL, revoked_at TEXT, revoked_by TEXT) STRICT
--
CREATE INDEX acceptances_by_fingerprint ON acceptances (fingerprint, id)
--
CREATE TABLE pins (
            run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE, step TEXT NOT NULL, output TEXT NOT NULL,
            created_at TEXT NOT NULL, PRIMARY KEY (run, step, output)) STRICT, WITHOUT ROWID
--
CREATE TABLE project (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID
--
CREATE TABLE uptodate (request TEXT PRIMARY KEY, run INTEGER NOT NULL, body BLOB NOT NULL) STRICT, WITHOUT ROWID
--
CREATE TABLE uptodate_epoch (n INTEGER NOT NULL) STRICT
--
CREATE TRIGGER uptodate_result_added AFTER INSERT ON results BEGIN DELETE FROM uptodate; UPDATE uptodate_epoch SET n = n + 1; END
--
CREATE TRIGGER uptodate_result_changed AFTER UPDATE OF withdrawn ON results BEGIN DELETE FROM uptodate; UPDATE uptodate_epoch SET n = n + 1; END
--
CREATE TRIGGER uptodate_result_gone AFTER DELETE ON results BEGIN DELETE FROM uptodate; UPDATE uptodate_epoch SET n = n + 1; END
--
CREATE INDEX runs_unfinished ON runs (number) WHERE state IN ('queued', 'running')
--
CREATE TABLE dataset_names (name TEXT PRIMARY KEY, highest INTEGER NOT NULL) STRICT, WITHOUT ROWID
--
CREATE TABLE dataset_versions (
            name TEXT NOT NULL, version INTEGER NOT NULL, definition TEXT NOT NULL, content TEXT NOT NULL, file_count INTEGER NOT NULL,
            size_bytes INTEGER NOT NULL, columns TEXT NOT NULL, expectations TEXT NOT NULL, created_at TEXT NOT NULL,
            description TEXT NOT NULL, tags TEXT NOT NULL, PRIMARY KEY (name, version)) STRICT, WITHOUT ROWID
--
CREATE TABLE dataset_manifests (content TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID
--
CREATE TABLE dataset_profiles (key TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID
--
CREATE TABLE deliveries (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL, step TEXT NOT NULL, output TEXT NOT NULL, artifact TEXT NOT NULL,
            address TEXT NOT NULL, files TEXT NOT NULL, file_count INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
            delivered_at TEXT NOT NULL) STRICT
--
CREATE INDEX deliveries_by_address ON deliveries (address, id)
--
CREATE INDEX deliveries_by_run ON deliveries (run, step)
--
CREATE TABLE row_counts (digest TEXT PRIMARY KEY, rows INTEGER NOT NULL) STRICT, WITHOUT ROWID
--
CREATE TABLE made_tables (key TEXT PRIMARY KEY, artifact TEXT NOT NULL) STRICT, WITHOUT ROWID
--
CREATE TABLE checks (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE, step TEXT NOT NULL,
            input TEXT NOT NULL, severity TEXT NOT NULL, holds INTEGER NOT NULL, text TEXT NOT NULL) STRICT
--
CREATE INDEX checks_by_run ON checks (run)
--
CREATE TRIGGER uptodate_dataset_added AFTER INSERT ON dataset_versions BEGIN DELETE FROM uptodate; UPDATE uptodate_epoch SET n = n + 1; END
--
CREATE TRIGGER uptodate_dataset_changed AFTER UPDATE OF definition, content, expectations ON dataset_versions BEGIN DELETE FROM uptodate; UPDATE uptodate_epoch SET n = n + 1; END
--
CREATE TRIGGER uptodate_dataset_gone AFTER DELETE ON dataset_versions BEGIN DELETE FROM uptodate; UPDATE uptodate_epoch SET n = n + 1; END
--
INSERT INTO "_sqlite_migrations" (id, migration_set, name, applied_at) VALUES (1, 'mlpipe', 'm001_runs_results_and_metrics', 'datetime of making')
--
INSERT INTO "_sqlite_migrations" (id, migration_set, name, applied_at) VALUES (2, 'mlpipe', 'm005_sweeps_and_acceptances', 'datetime of making')
--
INSERT INTO "_sqlite_migrations" (id, migration_set, name, applied_at) VALUES (3, 'mlpipe', 'm004_upkeep', 'datetime of making')
--
INSERT INTO "_sqlite_migrations" (id, migration_set, name, applied_at) VALUES (4, 'mlpipe', 'm006_up_to_date_entries_end_with_what_they_rest_on', 'datetime of making')
--
INSERT INTO "_sqlite_migrations" (id, migration_set, name, applied_at) VALUES (5, 'mlpipe', 'm002_undeclared', 'datetime of making')
--
INSERT INTO "_sqlite_migrations" (id, migration_set, name, applied_at) VALUES (6, 'mlpipe', 'm012_step_directories_that_were_put_away', 'datetime of making')
--
INSERT INTO "_sqlite_migrations" (id, migration_set, name, applied_at) VALUES (7, 'mlpipe', 'm008_datasets', 'datetime of making')
--
INSERT INTO "_sqlite_migrations" (id, migration_set, name, applied_at) VALUES (8, 'mlpipe', 'm007_datastores', 'datetime of making')
--
INSERT INTO "_sqlite_migrations" (id, migration_set, name, applied_at) VALUES (9, 'mlpipe', 'm009_rows', 'datetime of making')
--
INSERT INTO "_sqlite_migrations" (id, migration_set, name, applied_at) VALUES (10, 'mlpipe', 'm011_watch', 'datetime of making')
--
INSERT INTO "uptodate_epoch" (n) VALUES (0)
