-- +goose Up

-- The stores whose place this one has taken: a JSON list of their ids.
ALTER TABLE meta ADD COLUMN supersedes TEXT NOT NULL DEFAULT '[]';
