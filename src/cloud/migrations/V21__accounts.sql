-- Programs and people of makers, and what was done: the cloud's own audit.

-- The directory: kept in the first database of the region.
CREATE TABLE service_accounts (
    id text PRIMARY KEY,
    name text NOT NULL,
    brand text NOT NULL,
    networks text[] NOT NULL,
    scopes text[] NOT NULL,
    secret bytea NOT NULL,              -- keyed hash
    created_at bigint NOT NULL,
    created_by text NOT NULL,
    ended_at bigint
);
CREATE TABLE vendors (
    id text PRIMARY KEY,
    username text NOT NULL,
    folded text NOT NULL UNIQUE,
    display_name text NOT NULL,
    role text NOT NULL,
    brand text NOT NULL,
    networks text[] NOT NULL,
    password text NOT NULL,             -- argon2id
    created_at bigint NOT NULL,
    created_by text NOT NULL,
    ended_at bigint
);
CREATE TABLE tokens (
    hash bytea PRIMARY KEY,             -- keyed
    kind text NOT NULL,                 -- service, vendor
    holder text NOT NULL,
    source text NOT NULL,
    created_at bigint NOT NULL,
    last_use bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX tokens_by_holder ON tokens (kind, holder, created_at);
CREATE INDEX tokens_by_end ON tokens (expires_at);

-- In each database: what was done there, as a chain of hashes.
CREATE TABLE acts (
    seq bigint PRIMARY KEY,
    entry bytea NOT NULL,
    beside bytea,
    brand text NOT NULL,
    at bigint NOT NULL
);
CREATE INDEX acts_by_brand ON acts (brand, at);
CREATE TABLE acts_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint NOT NULL,
    hash bytea NOT NULL
);
INSERT INTO acts_head (one, seq, hash) VALUES (true, 0, '');
