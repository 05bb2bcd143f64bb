-- Revocations: a row each, compacted. `position` is where the row's last change stands in the log.
CREATE TABLE revocations (
    number        INTEGER PRIMARY KEY,
    id            TEXT    NOT NULL UNIQUE,
    selector      TEXT    NOT NULL,             -- canonical JSON
    reach         INTEGER NOT NULL,             -- a bit a kind
    cutoff        INTEGER,                      -- the last second that dies; NULL: absolute
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER,                      -- NULL: kept until lifted
    actor         TEXT    NOT NULL,
    reason        TEXT,
    position      INTEGER NOT NULL UNIQUE,
    ended_at      INTEGER,                      -- NULL: neither lifted nor superseded
    lifted_by     TEXT,
    superseded_by TEXT,
    CHECK ((ended_at IS NULL) = (lifted_by IS NULL AND superseded_by IS NULL)),
    CHECK (lifted_by IS NULL OR superseded_by IS NULL)
) STRICT;

-- What an append compares with, and what a follower loads, in this order.
CREATE INDEX revocations_unended ON revocations (selector) WHERE ended_at IS NULL;
-- What may be forgotten.
CREATE INDEX revocations_expiring ON revocations (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX revocations_ended ON revocations (ended_at) WHERE ended_at IS NOT NULL AND expires_at IS NULL;

-- The claims of each selector, for searching; without the issuer, which tells few rows apart.
CREATE TABLE parts (
    name       TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    revocation INTEGER NOT NULL REFERENCES revocations (number),
    PRIMARY KEY (name, value, revocation)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    actor      TEXT    NOT NULL,
    address    TEXT    NOT NULL,
    action     TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    reason     TEXT,
    result     TEXT    NOT NULL,
    revocation TEXT
) STRICT;

CREATE INDEX audit_by_actor ON audit (actor);
CREATE INDEX audit_by_revocation ON audit (revocation) WHERE revocation IS NOT NULL;

CREATE TRIGGER audit_keeps_what_was_written BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_keeps_all BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;

-- The log's end; it outlives the rows, so that no position is given out twice.
CREATE TABLE log (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    head INTEGER NOT NULL
) STRICT;
INSERT INTO log (one, head) VALUES (1, 0);
