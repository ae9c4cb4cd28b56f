"""The worker's side: run one StepSpec, here and now."""
