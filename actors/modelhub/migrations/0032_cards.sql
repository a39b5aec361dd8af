-- What a version says of itself. The card is prose and may be changed; the others are content, read from its files.
ALTER TABLE modelhub.versions
    ADD COLUMN card text NOT NULL DEFAULT '',
    ADD COLUMN licence text NOT NULL DEFAULT '',
    ADD COLUMN requirements text[] NOT NULL DEFAULT '{}',
    ADD COLUMN input_example jsonb;
