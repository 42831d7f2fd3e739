-- Releases of firmware, for hubs to fetch. The directory: kept in the first database of the region.
CREATE TABLE releases (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    brand text NOT NULL,
    model text NOT NULL,
    rel bigint NOT NULL,
    state text NOT NULL,                -- receiving, complete
    version text NOT NULL,
    hardware text[] NOT NULL,
    image_sha256 bytea NOT NULL,
    image_size bigint NOT NULL,
    notes text NOT NULL,
    least_before bigint NOT NULL,
    security_minimum bigint NOT NULL,
    made_at bigint NOT NULL,            -- s
    sha256 bytea NOT NULL DEFAULT '',   -- of the release file
    size bigint NOT NULL DEFAULT 0,
    percent bigint NOT NULL,
    stopped boolean NOT NULL DEFAULT false,
    by_ text NOT NULL,
    at bigint NOT NULL,
    changed_at bigint NOT NULL
);
CREATE UNIQUE INDEX releases_one ON releases (brand, model, rel) WHERE state = 'complete';
-- Not compressed, so that a part is read without work.
CREATE TABLE release_parts (
    number bigint NOT NULL REFERENCES releases ON DELETE CASCADE,
    part bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (number, part)
);
ALTER TABLE release_parts ALTER COLUMN body SET STORAGE EXTERNAL;
-- Rises with each change of what hubs are told. Whoever changes that holds this row.
CREATE TABLE release_board (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL
);
INSERT INTO release_board (one, version) VALUES (true, 0);
