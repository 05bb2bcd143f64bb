-- Sessions: a row each, in the order in which they were first learned. Texts are compared by their bytes. A NUL, which no
-- text here can hold, is written as two bytes (see sessions/text.rs).
CREATE SEQUENCE portcullis.session_numbers;
CREATE TABLE portcullis.sessions (
    number           bigint   NOT NULL PRIMARY KEY,
    id               text     COLLATE "C" NOT NULL,
    issuer           text     COLLATE "C" NOT NULL,
    sub              text     COLLATE "C",
    username         text     COLLATE "C",
    parent           text     COLLATE "C",
    domain           text     COLLATE "C",
    client           text     COLLATE "C",
    address          text     COLLATE "C",
    user_agent       text     COLLATE "C",
    kind             smallint NOT NULL,          -- 0 login, 1 sso
    created_at       bigint   NOT NULL,
    updated_at       bigint   NOT NULL,
    -- A session that is seen again changes no index within a quarter of an hour, so that its row is updated in place.
    updated_quarter  bigint   NOT NULL GENERATED ALWAYS AS (updated_at / 900) STORED,
    expires_at       bigint,                     -- NULL: nobody knows
    token_expires_at bigint,
    ended_at         bigint,                     -- NULL: it was not ended
    ended_by         text     COLLATE "C",
    end_reason       text     COLLATE "C",
    revocation       bytea,
    CHECK ((ended_at IS NULL) = (ended_by IS NULL) AND (ended_at IS NULL) = (revocation IS NULL))
) WITH (fillfactor = 80);

-- One for each order that lists are wanted in, the unknown first; the number settles ties.
CREATE UNIQUE INDEX sessions_by_id ON portcullis.sessions (id, issuer);
CREATE INDEX sessions_by_sub ON portcullis.sessions (sub NULLS FIRST, number);
CREATE INDEX sessions_by_username ON portcullis.sessions (username NULLS FIRST, number);
CREATE INDEX sessions_by_issuer ON portcullis.sessions (issuer, number);
CREATE INDEX sessions_by_parent ON portcullis.sessions (parent NULLS FIRST, number);
CREATE INDEX sessions_by_domain ON portcullis.sessions (domain NULLS FIRST, number);
CREATE INDEX sessions_by_client ON portcullis.sessions (client NULLS FIRST, number);
CREATE INDEX sessions_by_address ON portcullis.sessions (address NULLS FIRST, number);
CREATE INDEX sessions_by_kind ON portcullis.sessions (kind, number);
CREATE INDEX sessions_by_created ON portcullis.sessions (created_at, number);
CREATE INDEX sessions_by_updated ON portcullis.sessions (updated_quarter);
CREATE INDEX sessions_by_expires ON portcullis.sessions (expires_at NULLS FIRST, number);
CREATE INDEX sessions_by_token_expires ON portcullis.sessions (token_expires_at NULLS FIRST, number);
CREATE INDEX sessions_ended ON portcullis.sessions (revocation, number) WHERE ended_at IS NOT NULL;

-- How many sessions there are of each sort, in pieces that add up: a total that needs no walk over a million rows. Every
-- statement adds pieces and changes none, so that writers do not wait for each other; upkeep adds them up.
CREATE TABLE portcullis.census (
    issuer   text     COLLATE "C" NOT NULL,
    client   text     COLLATE "C",
    kind     smallint NOT NULL,
    ended    boolean  NOT NULL,
    sessions bigint   NOT NULL
);
CREATE FUNCTION portcullis.census_counts_the_new() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO portcullis.census SELECT issuer, client, kind, ended_at IS NOT NULL, count(*)
        FROM fresh GROUP BY 1, 2, 3, 4;
    RETURN NULL;
END $$;
CREATE FUNCTION portcullis.census_counts_the_gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO portcullis.census SELECT issuer, client, kind, ended_at IS NOT NULL, -count(*)
        FROM former GROUP BY 1, 2, 3, 4;
    RETURN NULL;
END $$;
CREATE FUNCTION portcullis.census_counts_the_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO portcullis.census SELECT issuer, client, kind, ended, sum(difference) FROM (
            SELECT issuer, client, kind, ended_at IS NOT NULL AS ended, 1 AS difference FROM fresh
            UNION ALL SELECT issuer, client, kind, ended_at IS NOT NULL, -1 FROM former) AS changed
        GROUP BY 1, 2, 3, 4 HAVING sum(difference) <> 0;
    RETURN NULL;
END $$;
CREATE TRIGGER census_counts_the_new AFTER INSERT ON portcullis.sessions
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION portcullis.census_counts_the_new();
CREATE TRIGGER census_counts_the_gone AFTER DELETE ON portcullis.sessions
    REFERENCING OLD TABLE AS former FOR EACH STATEMENT EXECUTE FUNCTION portcullis.census_counts_the_gone();
CREATE TRIGGER census_counts_the_changed AFTER UPDATE ON portcullis.sessions
    REFERENCING OLD TABLE AS former NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION portcullis.census_counts_the_changed();

-- What keywords are looked for in, a text a session.
CREATE TABLE portcullis.words (
    number bigint NOT NULL PRIMARY KEY,
    text   text   COLLATE "C" NOT NULL
);
-- Three letters each lead to it where the extension pg_trgm is, or may be made; elsewhere all words are read, and an
-- administrator who adds the extension may make this very index too.
DO $$ DECLARE home text; BEGIN
    BEGIN
        CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA portcullis;
    EXCEPTION WHEN OTHERS THEN
        RAISE NOTICE 'searching by keyword reads every session: %', SQLERRM;
    END;
    SELECT nspname INTO home FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
        WHERE extname = 'pg_trgm';
    IF home IS NOT NULL THEN
        EXECUTE format('CREATE INDEX words_by_letters ON portcullis.words USING gin (text %I.gin_trgm_ops)', home);
    END IF;
END $$;

-- The tokens seen in each session; a token may have been seen in several.
CREATE TABLE portcullis.tokens (
    digest     bytea    NOT NULL,
    session    bigint   NOT NULL,
    family     text     COLLATE "C",
    kind       smallint NOT NULL,                -- in the order of the kinds
    token_id   text     COLLATE "C",
    issued_at  bigint,
    expires_at bigint,                           -- NULL: nobody knows
    seen_at    bigint   NOT NULL,
    generation bigint,                           -- temporary tokens of a user are taken back by generation
    PRIMARY KEY (digest, session)
);
-- What is not known comes before the first second.
CREATE INDEX tokens_of_session ON portcullis.tokens (session, coalesce(issued_at, -1), digest);
-- Thirty days after it was last seen, what is not known to expire may be forgotten.
CREATE INDEX tokens_over ON portcullis.tokens (coalesce(expires_at, least(seen_at, 9000000000000000000) + 2592000));

-- Which refresh tokens were claimed, and used.
CREATE TABLE portcullis.redemptions (
    digest      bytea   NOT NULL PRIMARY KEY,
    text        bytea,                           -- NULL: it was used without a claim
    client      bytea,
    claimed_at  bigint  NOT NULL,
    answered    boolean NOT NULL,
    grace_until bigint,
    replays     bigint  NOT NULL,
    sealed      bytea,
    expires_at  bigint
);
CREATE INDEX redemptions_expiring ON portcullis.redemptions (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX redemptions_sealed ON portcullis.redemptions (grace_until) WHERE sealed IS NOT NULL;

-- Revocations and lifts that concern more sessions than one transaction may change, or sessions that others were changing
-- just then; and how far they have come.
CREATE TABLE portcullis.sweeps (
    revocation bytea  NOT NULL PRIMARY KEY,
    reached    bigint NOT NULL
);

-- Passwords that stand for a session: a salted digest each, and what is true of whoever shows it.
CREATE TABLE portcullis.session_passwords (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- in the order in which they were given
    id         bytea  NOT NULL UNIQUE,
    issuer     text   COLLATE "C" NOT NULL,
    session    text   COLLATE "C" NOT NULL,
    login      text   COLLATE "C" NOT NULL,      -- the username that has to come with it
    phc        text   COLLATE "C" NOT NULL,
    digest     bytea  NOT NULL,                  -- what it is known by where tokens are
    sub        text   COLLATE "C",
    claims     text   COLLATE "C" NOT NULL,      -- the other claims, as JSON
    issued_at  bigint,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX session_passwords_of_session ON portcullis.session_passwords (issuer, session, number);
CREATE INDEX session_passwords_expiring ON portcullis.session_passwords (expires_at);
