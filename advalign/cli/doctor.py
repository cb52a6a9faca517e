"""`advalign doctor`: what works here and what does not, with the mend."""

from advalign.cli._output import JSON, print_json, print_table


def doctor(as_json: bool = JSON) -> None:
    """Check versions, devices, data and stores; exit 1 when something needs mending."""
    from advalign.errors import CheckFailed
    from advalign.workflows.health import examine

    findings = [vars(finding) for finding in examine()]
    print_json(findings) if as_json else print_table(findings, ["what", "state", "detail", "mend"])
    broken = [finding["what"] for finding in findings if finding["state"] == "broken"]
    if broken:
        raise CheckFailed(f"needs mending: {', '.join(broken)}")
