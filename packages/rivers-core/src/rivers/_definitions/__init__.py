"""The definitions that users write: assets, tasks, jobs, executors, resources, retries."""
