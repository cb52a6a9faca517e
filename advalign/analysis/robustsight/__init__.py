"""RobustSight (Kannappan 2025) on a project's models: its five tables, its figures, and what its claims come to."""
