"""`advalign doctor`: what works here and what does not, with the fix."""

from advalign.cli._output import JSON, print_json, print_table


def doctor(as_json: bool = JSON) -> None:
    """Check versions, devices, data and stores; exit 1 if something is broken."""
    from advalign.errors import CheckFailed
    from advalign.workflows.health import examine

    findings = [vars(finding) for finding in examine()]
    print_json(findings) if as_json else print_table(
        findings, ["what", "state", "detail", "mend"], headings={"mend": "fix"}
    )
    broken = [finding["what"] for finding in findings if finding["state"] == "broken"]
    if broken:
        raise CheckFailed(f"broken: {', '.join(broken)}")
