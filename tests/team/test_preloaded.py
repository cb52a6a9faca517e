"""A fork server is silent about a module that it cannot import, and every process then pays for all imports."""

import importlib


def test_all_that_the_fork_server_imports_is_there():
    importlib.import_module("tests.team.preloaded")
