"""Print every address that the team's server answers to, as lines METHOD ADDRESS, from the app that MLflow makes."""

import re

import mlflow.server
from mlflow.server.auth import create_app

if __name__ == "__main__":
    native = {(method, path) for path, methods in create_app().openapi()["paths"].items() for method in methods}
    flask = {(method, rule.rule) for rule in mlflow.server.app.url_map.iter_rules() for method in rule.methods}
    for method, path in sorted(native | flask):
        print(method.upper(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path))  # noqa: T201
