-- The W3C trace context of the request that registered the version: its inspection goes on in that trace.
ALTER TABLE modelhub.versions ADD COLUMN traceparent text;
