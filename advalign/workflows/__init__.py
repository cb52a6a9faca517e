"""Workflows over several parts of the package: train and register, publish, study, verify."""
