"""What a table of evaluated models says: statistics, Pareto front, twins, figures (floor 4)."""
