-- Each batch of points rewrites the latest of its series: with room on the page the new version needs no new entries in the indexes.
ALTER TABLE modelhub.metrics SET (fillfactor = 50);
