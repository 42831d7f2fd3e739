-- Makers: brands, their devices' identities, and what of them goes to which hub.

-- The directory: kept in the first database of the region.
CREATE TABLE tenants (
    brand text PRIMARY KEY,
    root bytea NOT NULL,
    fingerprint text NOT NULL,
    batch_certificate bytea NOT NULL,
    batch_key bytea NOT NULL,           -- sealed
    added_at bigint NOT NULL,
    changed_at bigint NOT NULL
);
CREATE TABLE tenant_models (
    brand text NOT NULL,
    model text NOT NULL,
    version bigint NOT NULL,
    title text NOT NULL,
    statement bytea NOT NULL,
    PRIMARY KEY (brand, model)
);
CREATE TABLE uploads (
    id text PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY,
    brand text NOT NULL,
    service text NOT NULL,
    state text NOT NULL,                -- receiving, complete, ended
    at_byte bigint NOT NULL,
    at_line bigint NOT NULL,
    length bigint,
    devices bigint NOT NULL,
    known bigint NOT NULL,
    started_at bigint NOT NULL,
    changed_at bigint NOT NULL
);
CREATE UNIQUE INDEX uploads_by_number ON uploads (number);
CREATE INDEX uploads_by_brand ON uploads (brand, number);

-- By device: in the database that its id names.
CREATE TABLE identities (
    device_id text COLLATE "C" PRIMARY KEY,
    brand text NOT NULL,
    model text NOT NULL,
    hardware text NOT NULL,
    serial text NOT NULL,
    claim_hash bytea NOT NULL,
    made bigint NOT NULL,
    device_key bytea NOT NULL,          -- sealed
    upload bigint NOT NULL              -- counts once that upload is complete
);
CREATE INDEX identities_by_upload ON identities (upload, device_id);
CREATE TABLE claims (
    device_id text COLLATE "C" PRIMARY KEY,
    brand text NOT NULL,
    hub_id bytea NOT NULL,
    epoch bigint NOT NULL,
    gen bigint NOT NULL,                -- of the claim, at its hub
    resets bigint,                      -- proven by the device's key
    claimed_at bigint NOT NULL,
    at bigint NOT NULL
);
CREATE TABLE conflicts (
    device_id text COLLATE "C" NOT NULL,
    first_hub bytea NOT NULL,
    other_hub bytea NOT NULL,
    brand text NOT NULL,
    kind text NOT NULL,                 -- conflict, transfer
    first_gen bigint NOT NULL,          -- of their claims: when one claims again, it is another matter
    other_gen bigint NOT NULL,
    told boolean NOT NULL DEFAULT false,
    at bigint NOT NULL,
    over_at bigint,
    PRIMARY KEY (device_id, first_hub, other_hub, at)
);

-- By hub: in the hub's database.
CREATE TABLE device_news (
    hub_id bytea NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    news bigint NOT NULL,
    due bigint NOT NULL,
    PRIMARY KEY (hub_id, device_id)
);
CREATE INDEX device_news_due ON device_news (due);
CREATE TABLE assignments (
    hub_id bytea NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    brand text NOT NULL,
    batch text NOT NULL,
    by_ text NOT NULL,                  -- sight, or who assigned it
    at bigint NOT NULL,
    PRIMARY KEY (hub_id, device_id)
);
CREATE INDEX assignments_by_batch ON assignments (hub_id, batch, device_id);
CREATE INDEX assignments_lately ON assignments (hub_id, at);
-- Batches are made in the background and kept in parts of one size; with a batch go its parts.
DROP TABLE batches;
CREATE TABLE batches (
    hub_id bytea NOT NULL,
    id text NOT NULL,
    brand text NOT NULL,
    state text NOT NULL,                -- wanted, ready, failed
    why text NOT NULL DEFAULT '',
    leased_until bigint NOT NULL DEFAULT 0,
    tries bigint NOT NULL DEFAULT 0,
    devices bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    sha256 bytea NOT NULL DEFAULT '',
    at bigint NOT NULL,
    PRIMARY KEY (hub_id, id)
);
CREATE INDEX batches_wanted ON batches (leased_until) WHERE state = 'wanted';
CREATE TABLE batch_parts (
    hub_id bytea NOT NULL,
    id text NOT NULL,
    part bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (hub_id, id, part),
    FOREIGN KEY (hub_id, id) REFERENCES batches ON DELETE CASCADE
);
ALTER TABLE batch_parts ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE fleet (
    hub_id bytea NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    brand text NOT NULL,
    model text NOT NULL,
    firmware text NOT NULL,
    trust text NOT NULL,
    standing text NOT NULL,
    changed_at bigint NOT NULL,
    PRIMARY KEY (hub_id, device_id)
);
CREATE INDEX fleet_by_brand ON fleet (brand, device_id, hub_id);
CREATE TABLE bulletins (
    hub_id bytea NOT NULL,
    number bigint NOT NULL,
    at bigint NOT NULL,
    by_ text NOT NULL,
    statement bytea NOT NULL,
    PRIMARY KEY (hub_id, number)
);
