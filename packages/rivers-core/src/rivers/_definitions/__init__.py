"""What the user writes: assets, tasks, jobs, executors, resources, retries."""
