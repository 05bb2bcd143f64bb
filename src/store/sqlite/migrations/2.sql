-- The wider revocation that named this one, by its selector; it is lifted with that one.
ALTER TABLE revocations ADD COLUMN named_for TEXT;

-- Sessions: a row each, in the order in which they were first learned.
CREATE TABLE sessions (
    number           INTEGER PRIMARY KEY,
    id               TEXT    NOT NULL,
    issuer           TEXT    NOT NULL,
    user             TEXT,
    username         TEXT,
    parent           TEXT,
    domain           TEXT,
    client           TEXT,
    address          TEXT,
    agent            INTEGER REFERENCES agents (number),
    kind             INTEGER NOT NULL,          -- 0 login, 1 sso
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    expires_at       INTEGER,                   -- NULL: nobody knows
    token_expires_at INTEGER,
    ended_at         INTEGER,                   -- NULL: it was not ended
    ended_by         TEXT,
    end_reason       TEXT,
    revocation       TEXT,
    CHECK ((ended_at IS NULL) = (ended_by IS NULL) AND (ended_at IS NULL) = (revocation IS NULL))
) STRICT;

-- One for each order that lists are wanted in; the number, which every index ends with, settles ties.
CREATE UNIQUE INDEX sessions_by_id ON sessions (id, issuer);
CREATE INDEX sessions_by_user ON sessions (user);
CREATE INDEX sessions_by_username ON sessions (username);
CREATE INDEX sessions_by_issuer ON sessions (issuer);
CREATE INDEX sessions_by_parent ON sessions (parent);
CREATE INDEX sessions_by_domain ON sessions (domain);
CREATE INDEX sessions_by_address ON sessions (address);
CREATE INDEX sessions_by_kind ON sessions (kind);
CREATE INDEX sessions_by_created ON sessions (created_at);
CREATE INDEX sessions_by_updated ON sessions (updated_at);
CREATE INDEX sessions_by_expires ON sessions (expires_at);
CREATE INDEX sessions_by_token_expires ON sessions (token_expires_at);
CREATE INDEX sessions_by_client ON sessions (client);
CREATE INDEX sessions_by_agent ON sessions (agent);
-- The ended, with what they are counted by.
CREATE INDEX sessions_ended ON sessions (ended_at, created_at, updated_at, expires_at, client, kind, issuer)
    WHERE ended_at IS NOT NULL;
CREATE INDEX sessions_by_revocation ON sessions (revocation) WHERE revocation IS NOT NULL;
-- What a lift must undo too.
CREATE INDEX revocations_superseding ON revocations (superseded_by) WHERE superseded_by IS NOT NULL;

-- How many sessions there are of each sort: a total that needs no walk over a million rows. A known client has a `=` before it.
CREATE TABLE census (
    issuer   TEXT    NOT NULL,
    client   TEXT    NOT NULL,
    kind     INTEGER NOT NULL,
    ended    INTEGER NOT NULL,
    sessions INTEGER NOT NULL,
    PRIMARY KEY (issuer, client, kind, ended)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER census_counts_the_new AFTER INSERT ON sessions BEGIN
    INSERT INTO census VALUES (NEW.issuer, ifnull('=' || NEW.client, ''), NEW.kind, NEW.ended_at IS NOT NULL, 1)
    ON CONFLICT DO UPDATE SET sessions = sessions + 1;
END;
CREATE TRIGGER census_counts_the_gone AFTER DELETE ON sessions BEGIN
    UPDATE census SET sessions = sessions - 1 WHERE issuer = OLD.issuer AND client = ifnull('=' || OLD.client, '')
        AND kind = OLD.kind AND ended = (OLD.ended_at IS NOT NULL);
    DELETE FROM census WHERE issuer = OLD.issuer AND client = ifnull('=' || OLD.client, '')
        AND kind = OLD.kind AND ended = (OLD.ended_at IS NOT NULL) AND sessions = 0;
END;
CREATE TRIGGER census_counts_the_changed AFTER UPDATE OF client, kind, ended_at ON sessions
WHEN OLD.client IS NOT NEW.client OR OLD.kind <> NEW.kind OR (OLD.ended_at IS NULL) <> (NEW.ended_at IS NULL) BEGIN
    UPDATE census SET sessions = sessions - 1 WHERE issuer = OLD.issuer AND client = ifnull('=' || OLD.client, '')
        AND kind = OLD.kind AND ended = (OLD.ended_at IS NOT NULL);
    DELETE FROM census WHERE issuer = OLD.issuer AND client = ifnull('=' || OLD.client, '')
        AND kind = OLD.kind AND ended = (OLD.ended_at IS NOT NULL) AND sessions = 0;
    INSERT INTO census VALUES (NEW.issuer, ifnull('=' || NEW.client, ''), NEW.kind, NEW.ended_at IS NOT NULL, 1)
    ON CONFLICT DO UPDATE SET sessions = sessions + 1;
END;

-- User agents repeat, so each is kept once; `folded` is what keywords are looked for in.
CREATE TABLE agents (
    number INTEGER PRIMARY KEY,
    text   TEXT NOT NULL UNIQUE,
    folded TEXT NOT NULL
) STRICT;

-- What else keywords are looked for in, a text a session, and which three letters occur in which.
CREATE TABLE words (
    number INTEGER PRIMARY KEY,
    text   TEXT NOT NULL
) STRICT;
CREATE VIRTUAL TABLE grams USING fts5 (text, content = '', columnsize = 0, detail = none, tokenize = 'trigram case_sensitive 1');

-- The tokens seen in each session; a token may have been seen in several.
CREATE TABLE tokens (
    digest     BLOB    NOT NULL,
    session    INTEGER NOT NULL,
    family     TEXT,
    kind       INTEGER NOT NULL,                -- in the order of the kinds
    token_id   TEXT,
    issued_at  INTEGER,
    expires_at INTEGER,                         -- NULL: nobody knows
    seen_at    INTEGER NOT NULL,
    PRIMARY KEY (digest, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_of_session ON tokens (session, issued_at);
-- Thirty days after it was last seen, what is not known to expire may be forgotten.
CREATE INDEX tokens_over ON tokens (ifnull(expires_at, seen_at + 2592000));

-- Which refresh tokens were claimed, and used.
CREATE TABLE redemptions (
    number      INTEGER PRIMARY KEY,
    digest      BLOB    NOT NULL UNIQUE,
    text        BLOB,                           -- NULL: it was used without a claim
    client      BLOB,
    claimed_at  INTEGER NOT NULL,
    answered    INTEGER NOT NULL,
    grace_until INTEGER,
    replays     INTEGER NOT NULL,
    sealed      BLOB,
    expires_at  INTEGER
) STRICT;
CREATE INDEX redemptions_expiring ON redemptions (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX redemptions_sealed ON redemptions (grace_until) WHERE sealed IS NOT NULL;

-- Revocations and lifts that concern more sessions than one transaction may change, and how far they have come.
CREATE TABLE sweeps (
    revocation TEXT    PRIMARY KEY,
    reached    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
