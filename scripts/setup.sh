#!/usr/bin/env bash
# Make the virtual environment $1 and, when everything is installed, the stamp $2. Called by the Makefile.
set -euo pipefail
venv=$1 stamp=$2

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

if [ -n "${PYTHON:-}" ]; then
  fits "$PYTHON" || { echo "setup: $PYTHON is not Python 3.11, 3.12 or 3.13: name one that is, as in PYTHON=python3.12 make run" >&2; exit 1; }
else
  for PYTHON in python3 python3.12 python3.11 python3.13 ""; do
    if [ -n "$PYTHON" ] && fits "$PYTHON"; then break; fi
  done
  [ -n "$PYTHON" ] || { echo "setup: no Python 3.11, 3.12 or 3.13 found: install one, or name it, as in PYTHON=/path/to/python3.12 make run" >&2; exit 1; }
fi

echo "Setting up $venv with $("$PYTHON" --version), once. On a slow connection this takes a while."
# A half-made environment (an interrupted install) or one of another Python is made anew; pip continues what it can.
wanted=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! { [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 \
  && [ "$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = "$wanted" ]; }; then
  rm -rf "$venv"
  "$PYTHON" -m venv "$venv"
fi
rm -f "$venv"/.ready-*
# shellcheck disable=SC2086
"$venv/bin/python" -m pip install --quiet --progress-bar on --disable-pip-version-check ${PIP_ARGS:-} -r requirements.txt
# Notebooks find helpers/ from whatever folder they are opened in.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
pwd > "$site/orpo_workshop.pth"
"$venv/bin/python" -m ipykernel install --sys-prefix --name orpo-workshop --display-name "ORPO workshop" >/dev/null
touch "$stamp"
