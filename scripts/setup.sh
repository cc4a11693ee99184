#!/usr/bin/env bash
# setup.sh VENV STAMP [REQUIREMENTS [PYTHON_VERSIONS]]: make the virtual environment VENV with these requirements and,
# when everything is installed, the file STAMP. Called by the Makefile.
set -euo pipefail
venv=$1 stamp=$2 requirements=${3:-requirements.txt} versions=${4:-3.11 3.12 3.13}
named="Python ${versions// /, }"

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }
fits() { case " $versions " in *" $(version_of "$1") "*) return 0 ;; *) return 1 ;; esac; }

if [ -n "${PYTHON:-}" ]; then
  fits "$PYTHON" || { echo "setup: $PYTHON is not $named: name one that is, as in PYTHON=python${versions%% *} make …" >&2; exit 1; }
else
  for PYTHON in python3 python3.12 python3.11 python3.13 ""; do
    if [ -n "$PYTHON" ] && fits "$PYTHON"; then break; fi
  done
  [ -n "$PYTHON" ] || { echo "setup: no $named found: install one, or name it, as in PYTHON=/path/to/python make …" >&2; exit 1; }
fi

echo "Setting up $venv with $("$PYTHON" --version), once. On a slow connection this takes a while."
# A half-made environment (an interrupted install) or one of another Python is made anew; pip continues what it can.
if ! { [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 \
  && [ "$(version_of "$venv/bin/python")" = "$(version_of "$PYTHON")" ]; }; then
  rm -rf "$venv"
  "$PYTHON" -m venv "$venv"
fi
rm -f "$venv"/.ready-*
# shellcheck disable=SC2086
"$venv/bin/python" -m pip install --quiet --progress-bar on --disable-pip-version-check ${PIP_ARGS:-} -r "$requirements"
# Notebooks find helpers/ from whatever folder they are opened in.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
pwd > "$site/orpo_workshop.pth"
if "$venv/bin/python" -c 'import ipykernel' 2>/dev/null; then
  "$venv/bin/python" -m ipykernel install --sys-prefix --name orpo-workshop --display-name "ORPO workshop" >/dev/null
fi
touch "$stamp"
