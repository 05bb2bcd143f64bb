-- Passwords that stand for a session: a salted digest each, and what is true of whoever shows it.
CREATE TABLE session_passwords (
    number     INTEGER PRIMARY KEY,             -- in the order in which they were given
    id         BLOB    NOT NULL UNIQUE,
    issuer     TEXT    NOT NULL,
    session    TEXT    NOT NULL,
    login      TEXT    NOT NULL,                -- the username that has to come with it
    phc        TEXT    NOT NULL,
    digest     BLOB    NOT NULL,                -- what it is known by where tokens are
    user       TEXT,
    claims     TEXT    NOT NULL,                -- the other claims, as JSON
    issued_at  INTEGER,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX session_passwords_of_session ON session_passwords (issuer, session);
CREATE INDEX session_passwords_expiring ON session_passwords (expires_at);

-- Temporary tokens of a user are taken back by generation.
ALTER TABLE tokens ADD COLUMN generation INTEGER;
