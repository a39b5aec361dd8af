-- Population based training: which member a trial trained, and the trial whose checkpoint it began from.
ALTER TABLE studies.trials
    ADD COLUMN member int,
    ADD COLUMN parent int;
