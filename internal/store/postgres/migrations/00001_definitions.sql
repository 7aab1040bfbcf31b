-- +goose Up

-- One row: a write locks it before anything else, so commits are in the order of
-- their revisions. minimum_version is the oldest bunting that can use this schema;
-- each migration sets it, so that an older program can name it when it refuses.
CREATE TABLE bunting.meta (
    only_row        integer PRIMARY KEY CHECK (only_row = 1),
    store_id        text    NOT NULL, -- without the timeline, which PostgreSQL itself knows
    environment     text    NOT NULL,
    revision        bigint  NOT NULL CHECK (revision >= 0),
    created_at      bigint  NOT NULL, -- times are microseconds since 1970, UTC
    minimum_version text    NOT NULL,
    supersedes      text[]  NOT NULL -- the stores whose place this one has taken
);

INSERT INTO bunting.meta (only_row, store_id, environment, revision, created_at, minimum_version, supersedes)
VALUES (1, '', '', 0, 0, '0.1.0', '{}');

-- Documents are the domain's JSON as text, because jsonb would change how numbers
-- are written; what stands beside them is what is searched. What is compared byte
-- by byte is of collation "C": an update of the system's locales cannot damage
-- its indexes.
CREATE TABLE bunting.flags (
    key      text COLLATE "C" PRIMARY KEY,
    document text NOT NULL
);

CREATE TABLE bunting.overrides (
    flag_key  text COLLATE "C" NOT NULL REFERENCES bunting.flags (key),
    entity_id text COLLATE "C" NOT NULL,
    document  text NOT NULL,
    PRIMARY KEY (flag_key, entity_id)
);

CREATE TABLE bunting.holds (
    flag_key text COLLATE "C" NOT NULL REFERENCES bunting.flags (key),
    holder   text COLLATE "C" NOT NULL,
    due_at   bigint, -- when its expiry is to be committed; NULL: never, or it was
    document text NOT NULL,
    PRIMARY KEY (flag_key, holder)
);

CREATE INDEX holds_due ON bunting.holds (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE bunting.audit (
    revision bigint  NOT NULL,
    ordinal  integer NOT NULL, -- from 0 within the revision
    time     bigint  NOT NULL,
    actor    text    NOT NULL,
    owner_id text    NOT NULL,
    action   text    NOT NULL,
    kind     integer NOT NULL, -- flag.Kind; 0 for a token or a store
    flag_key text    COLLATE "C" NOT NULL, -- '' for a token or a store
    object   text    COLLATE "C" NOT NULL,
    before   text    NOT NULL, -- '' when it did not exist
    after    text    NOT NULL, -- '' when it does not exist any more
    note     text    NOT NULL,
    PRIMARY KEY (revision, ordinal)
);

CREATE INDEX audit_flag ON bunting.audit (flag_key, revision, ordinal);
CREATE INDEX audit_time ON bunting.audit (time, revision);

CREATE TABLE bunting.requests (
    actor   text   COLLATE "C" NOT NULL,
    id      bytea  NOT NULL, -- a caller's text, which may hold what a text here may not
    time    bigint NOT NULL,
    content text   NOT NULL,
    answer  text   NOT NULL,
    PRIMARY KEY (actor, id)
);

CREATE INDEX requests_time ON bunting.requests (time);

CREATE TABLE bunting.tokens (
    id       text COLLATE "C" PRIMARY KEY,
    name     text COLLATE "C" NOT NULL,
    hash     text COLLATE "C" NOT NULL UNIQUE,
    document text NOT NULL
);

CREATE INDEX tokens_name ON bunting.tokens (name);
