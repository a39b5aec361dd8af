"""Reports: what pipelines find out about commits, and how those pipelines run as jobs."""
