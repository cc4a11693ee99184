"""Print the checks; exit code 0 if all passed, else 1."""

import json
import sys
from dataclasses import asdict

from helpers.files import replace_unprintable
from helpers.preflight.readiness import checks


def main(arguments: list[str]) -> int:
    """Print the checks, as JSON with --json; 0 if all passed, else 1."""
    replace_unprintable()
    if unknown := set(arguments) - {"--json"}:
        print(f"preflight: unknown argument {' '.join(sorted(unknown))}: only --json is known", file=sys.stderr)
        return 2
    results = checks()
    if "--json" in arguments:
        print(json.dumps([asdict(check) for check in results], indent=2))
    else:
        print(*results, sep="\n")
    return 0 if all(check.ok for check in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
