"""Jobs that are queued anew at the times of a cron expression."""
