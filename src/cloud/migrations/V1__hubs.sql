-- What the cloud keeps of hubs. Every key is led by hub_id, and no statement spans two hubs: a hub lives on one shard.
-- Numbers that are u64 in the program fit into bigint: they are counters and times.

CREATE TABLE facts (
    name text PRIMARY KEY,
    value text NOT NULL
);

-- One row for each hub ever linked. It is locked by whoever allots a cursor or takes a batch.
CREATE TABLE hubs (
    hub_id bytea PRIMARY KEY,
    identity bytea NOT NULL,
    epoch bigint NOT NULL,
    mirror_key bytea NOT NULL,
    -- Null while the household has no recovery code.
    recovery_key bytea,
    recovery_recipient text,
    recipient text NOT NULL,
    name text NOT NULL,
    consent text NOT NULL,
    epoch_statement bytea,
    link_time bigint NOT NULL,
    linked_at bigint NOT NULL,
    unlinked_at bigint,
    cursor bigint NOT NULL DEFAULT 0,
    -- How far the hub has durably taken what came down.
    taken bigint NOT NULL DEFAULT 0,
    -- The last batch of this epoch.
    batch bigint NOT NULL DEFAULT 0,
    synced_at bigint,
    clock_grade text NOT NULL DEFAULT '',
    -- Where the audit of this epoch ends here.
    audit_seq bigint NOT NULL DEFAULT 0,
    audit_hash bytea,
    bulletin bigint NOT NULL DEFAULT 0
);

-- The mirror key of each epoch: a hub whose place was taken is told so, and nobody else.
CREATE TABLE epochs (
    hub_id bytea NOT NULL,
    epoch bigint NOT NULL,
    mirror_key bytea NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (hub_id, epoch)
);

-- The last reply of each hub: a batch that is sent again gets it again.
CREATE TABLE replies (
    hub_id bytea PRIMARY KEY,
    epoch bigint NOT NULL,
    batch bigint NOT NULL,
    body text NOT NULL
);

-- Lost in a crash of the database, at worst: what is replayed then does nothing that was not asked for once.
CREATE UNLOGGED TABLE nonces (
    hub_id bytea NOT NULL,
    nonce bytea NOT NULL,
    at bigint NOT NULL,
    -- Signed by a clock that is far off: remembered for longer.
    stray boolean NOT NULL,
    PRIMARY KEY (hub_id, nonce)
);
CREATE INDEX nonces_at ON nonces (at);
CREATE INDEX nonces_stray ON nonces (hub_id) WHERE stray;

CREATE TABLE rows (
    hub_id bytea NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,
    gen bigint NOT NULL,
    ver bigint NOT NULL,
    origin text NOT NULL,
    body text NOT NULL,
    body_hash bytea NOT NULL,
    -- In which batch the hub sent it last: what does not come again in a resync is forgotten.
    seen_epoch bigint NOT NULL,
    seen_batch bigint NOT NULL,
    PRIMARY KEY (hub_id, kind, key)
);

CREATE TABLE marks (
    hub_id bytea NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,
    gen bigint NOT NULL,
    at bigint NOT NULL,
    by_ text NOT NULL,
    -- Its place in what comes down.
    cursor bigint NOT NULL,
    -- The epoch in which the hub itself sent it: it need not hear it again in that one.
    sent_in bigint,
    PRIMARY KEY (hub_id, kind, key)
);
CREATE INDEX marks_cursor ON marks (hub_id, cursor);

-- How the copies of a kind compare.
CREATE TABLE kinds (
    hub_id bytea NOT NULL,
    kind text NOT NULL,
    -- As computed here; null when something has changed since.
    digest text,
    -- Where the hub began to send the kind anew.
    begun_epoch bigint NOT NULL DEFAULT 0,
    begun_batch bigint NOT NULL DEFAULT 0,
    begun boolean NOT NULL DEFAULT false,
    asked_at bigint NOT NULL DEFAULT 0,
    asked bigint NOT NULL DEFAULT 0,
    conflicts bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (hub_id, kind)
);

CREATE TABLE items (
    hub_id bytea NOT NULL,
    cursor bigint NOT NULL,
    id text NOT NULL,
    kind text NOT NULL,
    body text NOT NULL,
    -- waiting, done, refused, or taken (what needs no answer).
    state text NOT NULL DEFAULT 'waiting',
    code text NOT NULL DEFAULT '',
    detail text NOT NULL DEFAULT '',
    -- Whose request it is; empty for what the cloud itself sends.
    by_ text NOT NULL DEFAULT '',
    at bigint NOT NULL,
    ends_at bigint,
    done_at bigint,
    PRIMARY KEY (hub_id, cursor)
);
CREATE UNIQUE INDEX items_id ON items (hub_id, id);
CREATE INDEX items_waiting ON items (hub_id, cursor) WHERE state = 'waiting';

CREATE TABLE audit (
    hub_id bytea NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    entry text NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (hub_id, epoch, seq)
);

-- The hub's signed words about where its audit ended. They stay, also when the hub is unlinked.
CREATE TABLE heads (
    hub_id bytea NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    head bytea NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (hub_id, epoch, seq)
);

-- What should not have happened: a forked audit, marks beyond reach.
CREATE TABLE alarms (
    hub_id bytea NOT NULL,
    epoch bigint NOT NULL,
    code text NOT NULL,
    subject text NOT NULL,
    detail text NOT NULL,
    first_at bigint NOT NULL,
    last_at bigint NOT NULL,
    times bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (hub_id, epoch, code, subject)
);

CREATE TABLE bundles (
    hub_id bytea PRIMARY KEY,
    epoch bigint NOT NULL,
    at bigint NOT NULL,
    body bytea NOT NULL
);

-- Registry batches that wait for their hub. Not compressed, so that a range is read without the rest.
CREATE TABLE batches (
    hub_id bytea NOT NULL,
    id text NOT NULL,
    brand text NOT NULL,
    devices bigint NOT NULL,
    bytes bigint NOT NULL,
    sha256 bytea NOT NULL,
    body bytea NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (hub_id, id)
);
ALTER TABLE batches ALTER COLUMN body SET STORAGE EXTERNAL;
