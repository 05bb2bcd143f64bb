-- The log's end: where every append begins, by locking this row until it commits. So positions are given out in the order
-- in which they become visible.
CREATE TABLE portcullis.head (
    one      boolean PRIMARY KEY DEFAULT TRUE CHECK (one),
    position bigint  NOT NULL,
    mark     bigint,                            -- of the last commit; NULL: there was none
    epoch    bigint  NOT NULL,                  -- random: another one is another log
    floor    bigint  NOT NULL                   -- the commits up to here are no longer kept
) WITH (fillfactor = 10);
INSERT INTO portcullis.head (position, epoch, floor)
    VALUES (0, ('x' || left(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint, 0);

-- Where each append ended, and a random mark: what tells this history from another one that has got as far.
CREATE TABLE portcullis.commits (
    position bigint PRIMARY KEY,
    mark     bigint NOT NULL
);

-- A row for each revocation that stands, and for what ended not long ago. `position` is where its last change stands in
-- the log. Text is compared by its bytes.
CREATE TABLE portcullis.revocations (
    id            bytea    PRIMARY KEY,
    position      bigint   NOT NULL UNIQUE,
    key           bigint   NOT NULL,            -- a hash of the selector
    selector      text     COLLATE "C" NOT NULL, -- canonical JSON
    parts         bigint[] NOT NULL,            -- a hash of each claim but the issuer, for searching
    reach         smallint NOT NULL,            -- a bit a kind
    cutoff        bigint,                       -- the last second that dies; NULL: absolute
    created_at    bigint   NOT NULL,
    expires_at    bigint,                       -- NULL: kept until lifted
    actor         text     COLLATE "C" NOT NULL,
    reason        text     COLLATE "C",
    named_for     text     COLLATE "C",         -- the wider revocation that named this one; it is lifted with that one
    ended_at      bigint,                       -- NULL: neither lifted nor superseded
    lifted_by     text     COLLATE "C",
    superseded_by bytea,
    crowded       boolean  NOT NULL,            -- whether another row without an ending has, or had, the same selector
    CHECK ((ended_at IS NULL) = (lifted_by IS NULL AND superseded_by IS NULL)),
    CHECK (lifted_by IS NULL OR superseded_by IS NULL)
);
-- What an append compares with.
CREATE INDEX revocations_unended ON portcullis.revocations (key) WHERE ended_at IS NULL;
-- What a follower must load together.
CREATE INDEX revocations_crowded ON portcullis.revocations (key) WHERE ended_at IS NULL AND crowded;
-- What searches look for.
CREATE INDEX revocations_by_part ON portcullis.revocations USING gin (parts);
-- What may be forgotten.
CREATE INDEX revocations_expiring ON portcullis.revocations (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX revocations_ended ON portcullis.revocations (ended_at) WHERE ended_at IS NOT NULL AND expires_at IS NULL;
-- What a lift must undo too.
CREATE INDEX revocations_superseding ON portcullis.revocations (superseded_by) WHERE superseded_by IS NOT NULL;

CREATE TABLE portcullis.audit (
    sequence   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         bigint NOT NULL,
    actor      text   COLLATE "C" NOT NULL,
    address    text   COLLATE "C" NOT NULL,
    action     text   COLLATE "C" NOT NULL,
    subject    text   COLLATE "C" NOT NULL,
    reason     text   COLLATE "C",
    result     text   COLLATE "C" NOT NULL,
    revocation bytea
);
CREATE INDEX audit_by_actor ON portcullis.audit (actor, sequence);
CREATE INDEX audit_by_revocation ON portcullis.audit (revocation) WHERE revocation IS NOT NULL;

CREATE FUNCTION portcullis.keep_the_trail() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$;
CREATE TRIGGER audit_keeps_all BEFORE UPDATE OR DELETE OR TRUNCATE ON portcullis.audit
    FOR EACH STATEMENT EXECUTE FUNCTION portcullis.keep_the_trail();

-- Which replicas there are, by their last sign of life.
CREATE TABLE portcullis.replicas (
    id         text        COLLATE "C" PRIMARY KEY,
    name       text        COLLATE "C" NOT NULL,
    version    text        COLLATE "C" NOT NULL,
    position   bigint      NOT NULL,
    mark       bigint,
    standing   text        COLLATE "C" NOT NULL,
    lease      bigint      NOT NULL,            -- milliseconds
    started_at bigint      NOT NULL,
    seen_at    timestamptz NOT NULL
) WITH (fillfactor = 20);
