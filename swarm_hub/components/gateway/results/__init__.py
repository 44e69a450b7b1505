"""From results of shards to the result of a job, and the receipts of both."""
