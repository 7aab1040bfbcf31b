-- +goose Up

-- One row. minimum_version is the oldest bunting that can use this schema; each
-- migration sets it, so that an older program can name it when it refuses.
CREATE TABLE meta (
    only_row        INTEGER PRIMARY KEY CHECK (only_row = 1),
    store_id        TEXT    NOT NULL,
    environment     TEXT    NOT NULL,
    revision        INTEGER NOT NULL CHECK (revision >= 0),
    created_at      INTEGER NOT NULL, -- times are microseconds since 1970, UTC
    minimum_version TEXT    NOT NULL
) STRICT;

INSERT INTO meta (only_row, store_id, environment, revision, created_at, minimum_version)
VALUES (1, '', '', 0, 0, '0.1.0');

-- Documents are the domain's JSON; what stands beside them is what is searched.
CREATE TABLE flags (
    key      TEXT PRIMARY KEY,
    document TEXT NOT NULL
) STRICT;

CREATE TABLE overrides (
    flag_key  TEXT NOT NULL REFERENCES flags (key),
    entity_id TEXT NOT NULL,
    document  TEXT NOT NULL,
    PRIMARY KEY (flag_key, entity_id)
) STRICT;

CREATE TABLE holds (
    flag_key TEXT NOT NULL REFERENCES flags (key),
    holder   TEXT NOT NULL,
    due_at   INTEGER, -- when its expiry is to be committed; NULL: never, or it was
    document TEXT NOT NULL,
    PRIMARY KEY (flag_key, holder)
) STRICT;

CREATE INDEX holds_due ON holds (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE audit (
    revision INTEGER NOT NULL,
    ordinal  INTEGER NOT NULL, -- from 0 within the revision
    time     INTEGER NOT NULL,
    actor    TEXT    NOT NULL,
    owner_id TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    kind     INTEGER NOT NULL, -- flag.Kind; 0 for a token
    flag_key TEXT    NOT NULL, -- '' for a token
    object   TEXT    NOT NULL,
    before   TEXT    NOT NULL, -- '' when it did not exist
    after    TEXT    NOT NULL, -- '' when it does not exist any more
    note     TEXT    NOT NULL,
    PRIMARY KEY (revision, ordinal)
) STRICT;

CREATE INDEX audit_flag ON audit (flag_key, revision, ordinal);
CREATE INDEX audit_time ON audit (time, revision);

CREATE TABLE requests (
    actor   TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    time    INTEGER NOT NULL,
    content TEXT    NOT NULL,
    answer  TEXT    NOT NULL,
    PRIMARY KEY (actor, id)
) STRICT;

CREATE INDEX requests_time ON requests (time);

CREATE TABLE tokens (
    id       TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    hash     TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL
) STRICT;

CREATE INDEX tokens_name ON tokens (name);
