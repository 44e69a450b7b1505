"""From a request to a job: its spec, module, dataset and the inputs of its shards."""
