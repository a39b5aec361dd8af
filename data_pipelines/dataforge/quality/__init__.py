"""Quality: profiles, drift, expectations and label errors of commits. Its pipelines run as reports."""
